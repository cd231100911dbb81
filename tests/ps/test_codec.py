import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ps.codec import CHUNK_BYTES, FlatReceiver, chunks, decode, encode, encoded_size, flat_chunks
from ps.errors import MalformedMessage, ShapeMismatch

TENSORS = {
    "ünï": torch.tensor([[1.5, -0.0], [float("nan"), float("inf")]]),
    "scalar": torch.tensor(3.0),
    "doubles": torch.tensor([1.0], dtype=torch.float64),
    "halves": torch.tensor([0.5], dtype=torch.float16),
    "whole": torch.tensor([[[2**62]]]),
}


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7), b.nan_to_num(7))


def test_decode_inverts_encode():
    decoded = decode(encode(TENSORS))
    assert list(decoded) == list(TENSORS)
    assert all(same(decoded[name], tensor) for name, tensor in TENSORS.items())
    decoded["scalar"].add_(1)  # the memory is its own, and may be written


def test_a_transposed_view_keeps_its_values():
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(decode(encode({"t": tensor}))["t"], tensor)


def test_the_format_is_little_endian_and_stays_as_it_is():
    assert encode({"ab": torch.tensor([1.0, -2.0])}).hex() == "0200" + "6162" + "01" + "01" + "0200000000000000" + (
        "0000803f" + "000000c0"
    )


def test_encoded_size_is_the_length():
    tensors = {"w": torch.ones(3, 4), "b": torch.tensor(1.0)}
    assert encoded_size({name: t.shape for name, t in tensors.items()}) == len(encode(tensors))


def test_a_dtype_without_a_code_is_named():
    with pytest.raises(ShapeMismatch, match="bfloat16"):
        encode({"t": torch.ones(2, dtype=torch.bfloat16)})


def test_every_truncation_is_refused():
    data = encode({"w": torch.ones(2, 2), "b": torch.tensor(1.0)})
    whole = len(encode({"w": torch.ones(2, 2)}))
    for length in set(range(1, len(data))) - {whole}:
        with pytest.raises(MalformedMessage, match="the message ends at byte"):
            decode(data[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x00w\x63\x00", "'w' at byte 0 has the unknown dtype 99"),
        (b"\x01\x00w\x01\x09", "the rank 9"),
        (b"\x01\x00\xff\x01\x00", "not UTF-8"),
        (b"\x01\x00w\x01\x02" + b"\xff" * 16, f"byte 21 takes {4 * (2**64 - 1) ** 2} bytes"),
        (b"\x01\x00w\x01\x02" + bytes(8) + b"\xff" * 8, "the empty shape"),
        (encode({"w": torch.ones(1)}) * 2, "'w' at byte .* second time"),
    ],
)
def test_invalid_data_is_refused_with_its_position(data: bytes, message: str):
    with pytest.raises(MalformedMessage, match=message):
        decode(data)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes):
    try:
        decoded = decode(data)
    except MalformedMessage:
        return
    assert encode(decoded) == data


def test_chunks_are_bounded_and_at_least_one():
    assert list(chunks(b"")) == [b""]
    data = bytes(range(256)) * (CHUNK_BYTES // 100)
    pieces = list(chunks(data))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == CHUNK_BYTES


@pytest.mark.parametrize(
    "lengths", [[], [0], [3, 0, 5], [CHUNK_BYTES // 4], [7, CHUNK_BYTES // 2, CHUNK_BYTES // 4 - 7, 1]]
)
def test_elements_travel_alone_in_bounded_pieces(lengths: list[int]):
    buffers = [torch.arange(float(length)) + number for number, length in enumerate(lengths)]
    pieces = [b"".join(piece) for piece in flat_chunks(buffers)]
    assert len(pieces) == max(1, -(-4 * sum(lengths) // CHUNK_BYTES))
    assert max(map(len, pieces)) <= CHUNK_BYTES
    received = FlatReceiver(sum(lengths))
    for piece in pieces:
        assert received.add(piece)
    assert received.complete
    assert torch.equal(received.elements, torch.cat([torch.empty(0), *buffers]))
    received.elements.zero_()  # the memory is its own, and may be written


def test_more_elements_than_expected_are_not_taken():
    received = FlatReceiver(2)
    assert received.add(b"1234")
    assert not received.complete
    assert not received.add(b"56789")
    assert received.received == 4


def test_elements_are_little_endian():
    assert list(flat_chunks([torch.tensor([1.0, -2.0])])) == [[bytes.fromhex("0000803f000000c0")]]
