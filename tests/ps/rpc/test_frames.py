import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ps.rpc.frames import Frame, deserializer
from ps.wire import ps_pb2

HEAD = ps_pb2.PushRequest(client="a", sequence=2**63 - 1, size_bytes=5, rates={"g": 0.5}, parts=[{"shard": 3}])
parse = deserializer(ps_pb2.PushRequest)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 2**20])
def test_a_frame_is_the_message_with_its_chunk_on_the_wire(size: int):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sent = Frame(HEAD, [data[:3], memoryview(data)[3:]]).SerializeToString()
    assert ps_pb2.PushRequest.FromString(sent) == ps_pb2.PushRequest(
        client="a", sequence=2**63 - 1, size_bytes=5, rates={"g": 0.5}, parts=[{"shard": 3}], chunk=data
    )
    received = parse(sent)
    assert received.message == HEAD
    assert b"".join(received.chunk) == data


def test_the_chunk_of_a_message_in_protobufs_own_order_is_found():
    message = ps_pb2.PushRequest(client="a", chunk=b"data", size_bytes=4)
    received = parse(message.SerializeToString())
    assert (received.message, received.chunk) == (ps_pb2.PushRequest(client="a", size_bytes=4), [b"data"])


CHUNK = ps_pb2.PushRequest(client="a", chunk=b"data").SerializeToString()
GROUP = b"\x9b\x06\x9c\x06"
"""An empty group as field 99, which protobuf takes for an unknown field."""


@given(st.binary(max_size=40), st.sampled_from([b"", CHUNK, GROUP, CHUNK[:-1]]))
def test_a_frame_is_taken_or_refused_as_protobuf_does(data: bytes, before: bytes):
    try:
        expected = ps_pb2.PushRequest.FromString(before + data)
    except DecodeError:
        with pytest.raises(DecodeError):
            parse(before + data)
        return
    received = parse(before + data)
    assert b"".join(received.chunk) == expected.chunk
    expected.ClearField("chunk")
    assert received.message == expected
