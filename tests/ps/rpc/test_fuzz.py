"""Arbitrary bytes sent to a real server: the reply has the right status, and a bad message changes no bit."""

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ps.codec import encode
from ps.errors import StoreError
from ps.rpc.frames import Frame
from ps.rpc.server import ShardServer
from ps.shard.shard import Shard, ShardPush
from ps.store import Group, Layout
from ps.wire import ps_pb2
from tests.chaos.processes import ShardProcess

LAYOUT = Layout(
    run="fuzz",
    shards=2,
    groups=(
        Group(name="adam", shapes={"w": (4, 5), "b": ()}, optimizer="adam", options={"lr": 0.1}),
        Group(name="sums", shapes={"s": (9,)}, optimizer="sgd", options={"lr": 1.0, "momentum": 0.5}, accumulate=3),
        Group(name="mean", shapes={"r": ()}, optimizer="average", options={"decay": 0.9}),
    ),
)
SHAPES = Shard(LAYOUT, 0).shapes
"""The slices on shard 0, the only one that is served here: 15 elements of `w`."""

TOKEN = "the token"
Metadata = tuple[tuple[str, str], ...]
BEARER: Metadata = (("authorization", f"Bearer {TOKEN}"),)
STREAMS_IN = ("Push", "Initialize")
TARGET = {"run": LAYOUT.run, "fingerprint": LAYOUT.fingerprint, "shard": 0}


def ones() -> dict[str, torch.Tensor]:
    return {name: torch.ones(shape) for name, shape in SHAPES.items()}


DATA = torch.ones(SHAPES["w"]).numpy().tobytes()
"""What a valid push has for shard 0."""

VALID: dict[str, dict[str, Any]] = {
    "Push": {"client": "mallory", "sequence": 1, "parts": [{"shard": 0}], "tensors": {"all": True}},
    "Pull": {"shards": [0], "tensors": {"all": True}},
}
"""Fields, other than the target and the data, that a method's request must have."""


def first_message(method: str, target: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """Return the first message of a method's request, without data; a valid one unless the changes make it invalid."""
    fields = VALID.get(method, {}) | changes
    kind = getattr(ps_pb2, f"{method}Request")
    return kind(target=ps_pb2.Target(**(TARGET | (target or {}))), **fields).SerializeToString()


def push(chunk: bytes = DATA, **changes: Any) -> bytes:
    """Return a push's first message, a valid one unless the data or changes make it invalid."""
    return first_message("Push", **({"chunk": chunk, "size_bytes": len(chunk)} | changes))


def changed_message(method: str, field: str, value: object) -> bytes:
    """Return a pull or a push with one field changed."""
    changes: dict[str, Any] = {field: value}
    return push(**changes) if method == "Push" else first_message(method, **changes)


GOOD = push()


@dataclass
class Answer:
    """The status of a call, and its error: that of the first shard where each answers for itself."""

    code: str
    error: str | None
    message: str


ACCEPTED = Answer("OK", None, "")


class Wire:
    """A client that checks nothing."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)

    def send(
        self, method: str, messages: Iterable[bytes], metadata: Metadata = BEARER, compression: Any = None
    ) -> Answer:
        kind = {"Pull": "unary_stream", "Status": "unary_unary"}.get(method, "stream_unary")
        send = getattr(self.channel, kind)(f"/nascluster.ps.ParameterShards/{method}")
        request = iter(messages) if kind == "stream_unary" else next(iter(messages))
        try:
            reply = send(request, metadata=metadata, timeout=20, compression=compression)
            replies = list(reply) if kind == "unary_stream" else [reply]
        except grpc.RpcError as error:
            call: Any = error
            return Answer(call.code().name, dict(call.trailing_metadata() or ()).get("ps-error"), call.details())
        if method not in VALID:
            return ACCEPTED
        error = getattr(ps_pb2, f"{method}Reply").FromString(replies[0]).parts[0].error
        return Answer("OK", error.name or None, error.message)


class Rig(Wire):
    """A server with some pushes applied, and access to every bit of its state."""

    def __init__(self, folder: Path, *, initialized: bool = True) -> None:
        self.server = ShardServer(LAYOUT, [0], folder, token=TOKEN)
        super().__init__(self.server.address)
        self._folder = folder
        self._sequence = 0
        if initialized:
            assert self.send("Initialize", [first_message("Initialize", chunk=encode(ones()))]).code == "OK"
            self.push_well()

    def push_well(self) -> None:
        """Send an honest client's next push, and check that it is applied correctly."""
        self._sequence += 1
        twin, request = self.twin(), push(client="honest", sequence=self._sequence)
        assert self.send("Push", [request]) == ACCEPTED
        applied = ShardPush(client="honest", sequence=self._sequence, gradients=ones(), seen_version=0)
        assert not twin.push(applied).duplicate
        assert self.state() == bits(twin)

    def twin(self) -> Shard:
        """Return a copy of the shard."""
        twin = Shard(LAYOUT, 0)
        twin.restore(self._shard.state())
        return twin

    def state(self) -> tuple[bytes, str]:
        return bits(self._shard)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._folder.iterdir()}

    @property
    def _shard(self) -> Shard:
        return self.server._shards[0]._shard

    def close(self) -> None:
        self.channel.close()
        self.server.stop(grace_s=0)


def bits(shard: Shard) -> tuple[bytes, str]:
    """Return the whole state of a shard."""
    state = shard.state()
    return encode({name: state.tensors[name] for name in sorted(state.tensors)}), json.dumps(state.metadata)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("fuzz"))
    yield rig
    rig.close()


def changed(value: float) -> dict[str, torch.Tensor]:
    """Return tensors that are valid except for one element."""
    tensors = ones()
    tensors["w"][7] = value
    return tensors


def changed_data(value: float) -> bytes:
    """Return a push's data that are valid except for one element."""
    return changed(value)["w"].numpy().tobytes()


def raw(name: bytes = b"w", dtype: int = 1, rank: int = 1, sizes: tuple[int, ...] = (15,), data: int = 60) -> bytes:
    """Return one encoded tensor, in the format of `ps.codec`, with any fields."""
    head = struct.pack(f"<H{len(name)}sBB", len(name), name, dtype, rank)
    return head + b"".join(struct.pack("<Q", size) for size in sizes) + b"\0" * data


TENSORS: list[tuple[str, bytes, str, str]] = [
    ("a stranger", encode({"stranger": torch.ones(1)}), "NOT_FOUND", "UnknownParameter"),
    ("a tensor of another shard", encode({"s": torch.ones(9)}), "NOT_FOUND", "UnknownParameter"),
    ("a name in capitals", encode({"W": torch.ones(15)}), "NOT_FOUND", "UnknownParameter"),
    ("an empty name", raw(b""), "NOT_FOUND", "UnknownParameter"),
    ("the name with a zero", raw(b"w\0", data=56, sizes=(14,)), "NOT_FOUND", "UnknownParameter"),
    ("one element less", encode({"w": torch.ones(14)}), "INVALID_ARGUMENT", "ShapeMismatch"),
    ("another rank", encode({"w": torch.ones(3, 5)[:, :4]}), "INVALID_ARGUMENT", "ShapeMismatch"),
    ("a scalar", encode({"w": torch.ones(())}), "INVALID_ARGUMENT", "ShapeMismatch"),
    ("float16", encode({"w": torch.ones(15).half()}), "INVALID_ARGUMENT", "ShapeMismatch"),
    ("int32", encode({"w": torch.ones(15).int()}), "INVALID_ARGUMENT", "ShapeMismatch"),
    ("float64", encode({"w": torch.ones(7).double()}), "INVALID_ARGUMENT", "ShapeMismatch"),
    ("NaN", encode(changed(float("nan"))), "INVALID_ARGUMENT", "NonFinite"),
    ("infinity", encode(changed(float("inf"))), "INVALID_ARGUMENT", "NonFinite"),
    ("minus infinity", encode(changed(float("-inf"))), "INVALID_ARGUMENT", "NonFinite"),
    ("a square that overflows", encode(changed(1e30)), "INVALID_ARGUMENT", "NonFinite"),
    ("cut in the data", encode(ones())[:-1], "INVALID_ARGUMENT", "MalformedMessage"),
    ("cut in the head", encode(ones())[:4], "INVALID_ARGUMENT", "MalformedMessage"),
    ("a head and no data", raw(data=0), "INVALID_ARGUMENT", "MalformedMessage"),
    ("the same tensor twice", raw(sizes=(1,), data=4) * 2, "INVALID_ARGUMENT", "MalformedMessage"),
    ("a byte more than a tensor", raw(sizes=(1,), data=5), "INVALID_ARGUMENT", "MalformedMessage"),
    ("an unknown dtype", raw(dtype=9), "INVALID_ARGUMENT", "MalformedMessage"),
    ("rank 255", raw(rank=255), "INVALID_ARGUMENT", "MalformedMessage"),
    ("an empty shape", raw(sizes=(0,), data=0), "INVALID_ARGUMENT", "MalformedMessage"),
    ("an absurd size", raw(sizes=(2**63,)), "INVALID_ARGUMENT", "MalformedMessage"),
    (
        "sizes whose product wraps to 15",
        raw(rank=2, sizes=(2**32, 2**32), data=0),
        "INVALID_ARGUMENT",
        "MalformedMessage",
    ),
    ("a name that is not UTF-8", raw(b"\xff"), "INVALID_ARGUMENT", "MalformedMessage"),
    ("a byte too many", encode(ones()) + b"\0", "RESOURCE_EXHAUSTED", "TooLarge"),
    ("a megabyte", b"\0" * 1_000_000, "RESOURCE_EXHAUSTED", "TooLarge"),
]

PUSHED: list[tuple[str, bytes, str, str]] = [
    ("NaN", changed_data(float("nan")), "OK", "NonFinite"),
    ("infinity", changed_data(float("inf")), "OK", "NonFinite"),
    ("minus infinity", changed_data(float("-inf")), "OK", "NonFinite"),
    ("a square that overflows", changed_data(1e30), "OK", "NonFinite"),
    ("nothing", b"", "INVALID_ARGUMENT", "MalformedMessage"),
    ("one element less", DATA[:-4], "INVALID_ARGUMENT", "MalformedMessage"),
    ("one byte less", DATA[:-1], "INVALID_ARGUMENT", "MalformedMessage"),
    ("float16", torch.ones(15).half().numpy().tobytes(), "INVALID_ARGUMENT", "MalformedMessage"),
    ("float64", torch.ones(15).double().numpy().tobytes(), "RESOURCE_EXHAUSTED", "TooLarge"),
    ("names and sizes", encode(ones()), "RESOURCE_EXHAUSTED", "TooLarge"),
    ("a byte too many", DATA + b"\0", "RESOURCE_EXHAUSTED", "TooLarge"),
    ("one element more", DATA + DATA[:4], "RESOURCE_EXHAUSTED", "TooLarge"),
    ("a megabyte", b"\0" * 1_000_000, "RESOURCE_EXHAUSTED", "TooLarge"),
]

BAD_SHARDS = ([], [0, 0], [1, 0], [2], [2**32 - 1], [0, 1, 2])
BAD_POSITIONS = ([4], [2**32 - 1], [0, 0], [1, 0])

Case = tuple[str, str, list[bytes], Metadata, str, str | None]

CASES: list[Case] = [
    *((f"push: {what}", "Push", [push(data)], BEARER, code, error) for what, data, code, error in PUSHED),
    *(
        (f"initialize: {what}", "Initialize", [first_message("Initialize", chunk=data)], BEARER, code, error)
        for what, data, code, error in TENSORS
    ),
    ("initialize: nothing", "Initialize", [first_message("Initialize")], BEARER, "NOT_FOUND", "UnknownParameter"),
    *(
        (
            f"pull: {field} {value!r:.40}",
            "Pull",
            [changed_message("Pull", field, value)],
            BEARER,
            "INVALID_ARGUMENT",
            "MalformedMessage",
        )
        for field, value in (
            ("client", "a\nb"),
            ("others", [""]),
            *(("shards", shards) for shards in BAD_SHARDS),
            *(("tensors", {"positions": positions}) for positions in BAD_POSITIONS),
        )
    ),
    ("pull: a shard of another server", "Pull", [first_message("Pull", shards=[1])], BEARER, "OK", "WrongRun"),
    ("push: a shard of another server", "Push", [push(bytes(64), parts=[{"shard": 1}])], BEARER, "OK", "WrongRun"),
    ("push: a stranger's rate", "Push", [push(rates={"stranger": 0.1})], BEARER, "OK", "UnknownParameter"),
    ("push: after pushes that were lost", "Push", [push(parts=[{"seen_applied": 5}])], BEARER, "OK", "LostPushes"),
    ("push: no tensor", "Push", [push(tensors={})], BEARER, "RESOURCE_EXHAUSTED", "TooLarge"),
    (
        "push: a tensor of another shard",
        "Push",
        [push(tensors={"positions": [1]})],
        BEARER,
        "RESOURCE_EXHAUSTED",
        "TooLarge",
    ),
    *(
        (
            f"push: {field} {value!r:.40}",
            "Push",
            [changed_message("Push", field, value)],
            BEARER,
            "INVALID_ARGUMENT",
            "MalformedMessage",
        )
        for field, value in (
            ("client", ""),
            ("client", "x" * 201),
            ("client", "a\nb"),
            ("sequence", 0),
            ("sequence", -1),
            ("sequence", -(2**63)),
            ("parts", [{"seen_version": -1}]),
            ("parts", [{"seen_version": -(2**63)}]),
            ("parts", [{"seen_applied": -1}]),
            *(("parts", [{"shard": shard} for shard in shards]) for shards in BAD_SHARDS),
            *(("tensors", {"positions": positions}) for positions in BAD_POSITIONS),
            ("rates", {"adam": -1.0}),
            ("rates", {"adam": float("nan")}),
            ("size_bytes", 1),
            ("size_bytes", -1),
            ("size_bytes", 2**63 - 1),
        )
    ),
    *(
        (
            f"{method}: {field} {value!r:.20}",
            method,
            [first_message(method, target={field: value})],
            BEARER,
            "FAILED_PRECONDITION",
            "WrongRun",
        )
        for method in ("Push", "Initialize", "Pull", "Status")
        for field, value in (
            ("run", "another"),
            ("run", ""),
            ("run", "fuzz "),
            ("fingerprint", "0" * 16),
            ("fingerprint", LAYOUT.fingerprint.upper()),
        )
    ),
    *(
        (
            f"{method}: shard {shard}",
            method,
            [first_message(method, target={"shard": shard})],
            BEARER,
            "FAILED_PRECONDITION",
            "WrongRun",
        )
        for method in ("Initialize", "Status")
        for shard in (1, 2, 2**32 - 1)
    ),
    *(
        (f"{method}: token {token!r}", method, [first_message(method)], token, "UNAUTHENTICATED", "Unauthenticated")
        for method in ("Push", "Initialize", "Pull", "Status")
        for token in (
            (),
            (("authorization", ""),),
            (("authorization", "Bearer "),),
            (("authorization", TOKEN),),
            (("authorization", f"Bearer {TOKEN[:-1]}"),),
            (("authorization", f"Bearer {TOKEN}x"),),
            (("authorization", f"bearer {TOKEN}"),),
            (("token", TOKEN),),
        )
    ),
    *((f"{m}: no message", m, [], BEARER, "INVALID_ARGUMENT", "MalformedMessage") for m in STREAMS_IN),
    *(
        (f"{m}: no target", m, [b""], BEARER, "FAILED_PRECONDITION", "WrongRun")
        for m in (*STREAMS_IN, "Pull", "Status")
    ),
    # What protobuf and gRPC refuse themselves, before the request reaches the shard.
    *((f"{m}: no protobuf", m, [b"\xff" * 9], BEARER, "INTERNAL", None) for m in (*STREAMS_IN, "Pull", "Status")),
    ("push: garbage after a good head", "Push", [push(), b"\xff" * 9], BEARER, "INTERNAL", None),
    (
        "push: a client's name that is not UTF-8",
        "Push",
        [GOOD.replace(b"mallory", b"mall\xffry")],
        BEARER,
        "INTERNAL",
        None,
    ),
    ("push: 5 MB in one message", "Push", [push(b"\0" * 5_000_000)], BEARER, "RESOURCE_EXHAUSTED", None),
    ("an unknown method", "Drop", [GOOD], BEARER, "UNIMPLEMENTED", None),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_bad_message_gets_its_status_and_changes_no_bit(rig: Rig, case: Case) -> None:
    _, method, messages, metadata, code, error = case
    state, files = rig.state(), rig.files()
    answer = rig.send(method, messages, metadata)
    assert (answer.code, answer.error) == (code, error), answer
    assert TOKEN not in answer.message
    assert (rig.state(), rig.files()) == (state, files)
    rig.push_well()


@pytest.mark.parametrize(("what", "data", "code", "error"), TENSORS, ids=[case[0] for case in TENSORS])
def test_a_shard_without_values_takes_no_bad_ones(
    rig_without_values: Rig, what: str, data: bytes, code: str, error: str
) -> None:
    rig = rig_without_values
    state, files = rig.state(), rig.files()
    assert rig.send("Initialize", [first_message("Initialize", chunk=data)]).code in (code, "NOT_FOUND"), what
    for method in ("Push", "Pull"):
        answer = rig.send(method, [GOOD if method == "Push" else first_message(method)])
        assert (answer.code, answer.error) == ("OK", "NotInitialized")
    assert (rig.state(), rig.files()) == (state, files)


@pytest.fixture(scope="module")
def rig_without_values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("fuzz"), initialized=False)
    yield rig
    rig.close()


def test_the_largest_sequence_is_one_like_any_other(rig: Rig) -> None:
    last = push(client="last", sequence=2**63 - 1)
    assert rig.send("Push", [last]) == ACCEPTED
    state = rig.state()
    assert rig.send("Push", [last]) == ACCEPTED
    assert rig.state() == state
    rig.push_well()


REFUSALS = ("INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED")


def assert_right(rig: Rig, message: bytes) -> None:
    """Check that the message is refused and changes no bit, or is a push and changes exactly what it should."""
    twin, before, files = rig.twin(), rig.state(), rig.files()
    answer = rig.send("Push", [message])
    if answer.code != "OK":
        assert answer.code in REFUSALS
        assert (answer.error is None) == (not is_protobuf(message)), answer
        assert (rig.state(), rig.files()) == (before, files)
        return
    request = ps_pb2.PushRequest.FromString(message)
    assert (request.target.run, request.target.fingerprint) == (LAYOUT.run, LAYOUT.fingerprint)
    assert answer.error == push_to(twin, request)
    assert rig.state() == bits(twin)
    if rig.state() == before:
        assert rig.files() == files


def push_to(shard: Shard, request: Any) -> str | None:
    """Push what a request has for shard 0. Return the name of the error with which its first shard must answer."""
    part = request.parts[0]
    if part.shard != 0:
        return "WrongRun"
    has_w = request.tensors.all or 0 in request.tensors.positions
    gradients = {"w": torch.frombuffer(bytearray(request.chunk[: len(DATA)]), dtype=torch.float32)} if has_w else {}
    try:
        shard.push(
            ShardPush(
                client=request.client,
                sequence=request.sequence,
                gradients=gradients,
                seen_version=part.seen_version,
                seen_applied=part.seen_applied,
                rates=dict(request.rates),
                note=request.note,
            )
        )
    except StoreError as error:
        return type(error).__name__
    return None


def is_protobuf(message: bytes) -> bool:
    try:
        ps_pb2.PushRequest.FromString(message)
    except DecodeError:
        return False
    return True


def test_a_push_that_is_broken_off_by_garbage_is_not_applied(rig: Rig) -> None:
    """gRPC refuses the second message and ends the stream without an error, when all data are there."""
    state, files = rig.state(), rig.files()
    for _ in range(20):
        assert rig.send("Push", [push(client="broken"), b"\xff" * 9]).code == "INTERNAL"
    assert (rig.state(), rig.files()) == (state, files)
    rig.push_well()  # when this is answered, so is all that came before
    assert "broken" not in json.loads(rig.state()[1])["clients"]


@pytest.mark.parametrize("method", STREAMS_IN)
def test_a_stream_that_ends_with_its_client_is_not_applied(rig: Rig, method: str) -> None:
    """Sometimes gRPC ends such a stream as if it were complete. The initial values that arrive are valid."""
    values = encode(ones())
    head = {
        "Push": push(DATA[:28], size_bytes=len(DATA), client="dying"),
        "Initialize": first_message("Initialize", chunk=values, size_bytes=len(values) * 2),
    }[method]
    state, files = rig.state(), rig.files()
    for _ in range(100):
        ended, read = threading.Event(), threading.Event()

        def messages(read: threading.Event = read, ended: threading.Event = ended) -> Iterator[bytes]:
            yield head
            read.set()
            ended.wait(20)

        send = rig.channel.stream_unary(f"/nascluster.ps.ParameterShards/{method}")
        call = send.future(messages(), metadata=BEARER, timeout=20)
        assert read.wait(20)
        time.sleep(0.003)  # for the server to read it, too
        call.cancel()
        ended.set()
    answer = rig.send(method, [head])  # this stream ends, but too early
    assert (answer.code, answer.error) == ("INVALID_ARGUMENT", "MalformedMessage")
    assert (rig.state(), rig.files()) == (state, files)
    rig.push_well()
    assert "dying" not in json.loads(rig.state()[1])["clients"]


FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.binary(max_size=200))
def test_random_bytes_for_a_message(rig: Rig, data: bytes) -> None:
    assert_right(rig, data)


@FUZZ
@given(method=st.sampled_from(["Initialize", "Pull", "Status"]), data=st.binary(max_size=200), whole=st.booleans())
def test_random_bytes_for_the_other_methods(rig: Rig, method: str, data: bytes, whole: bool) -> None:
    """Send bytes that are random from the start, or after a valid first part."""
    state, files = rig.state(), rig.files()
    answer = rig.send(method, [data if whole else first_message(method) + data])
    assert answer.code in ("OK", *REFUSALS)
    assert (rig.state(), rig.files()) == (state, files)


@FUZZ
@given(
    data=st.binary(min_size=len(DATA), max_size=len(DATA)) | st.binary(max_size=100),
    sequence=st.integers(-(2**63), 2**63 - 1),
)
def test_random_bytes_for_tensors(rig: Rig, data: bytes, sequence: int) -> None:
    assert_right(rig, push(data, sequence=sequence))


@FUZZ
@given(places=st.sets(st.integers(0, len(GOOD) * 8 - 1), min_size=1, max_size=3), sequence=st.integers(1, 1_000))
def test_flipped_bits(rig: Rig, places: set[int], sequence: int) -> None:
    message = bytearray(push(sequence=sequence))
    for place in places:
        message[place // 8 % len(message)] ^= 1 << place % 8
    assert_right(rig, bytes(message))


def test_every_truncation(rig: Rig) -> None:
    message = push(client="cut")
    sent = Frame(ps_pb2.PushRequest.FromString(push(b"", size_bytes=len(DATA), client="cut")), [DATA])
    for whole in (message, sent.SerializeToString()):  # the data are in the middle, or at the end as a client sends it
        for end in range(len(whole)):
            assert_right(rig, whole[:end])
    assert "cut" not in json.loads(rig.state()[1])["clients"]
    assert rig.send("Push", [sent.SerializeToString()]) == ACCEPTED
    assert "cut" in json.loads(rig.state()[1])["clients"]
    rig.push_well()


def test_bytes_that_are_not_even_http(rig: Rig) -> None:
    state = rig.state()
    host, _, port = rig.server.address.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    draw = random.Random(0)
    for start in (b"", b"GET / HTTP/1.1\r\n\r\n", preface, preface + b"\0\0\0\4\0\0\0\0\0"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(start + draw.randbytes(10_000))
    assert rig.state() == state
    rig.push_well()


HUNDRED = 100 * 2**20


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardProcess]:
    """Start a server in a process of its own, whose memory is measured."""
    process = ShardProcess(LAYOUT, [0], tmp_path_factory.mktemp("process"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def wire(process: ShardProcess) -> Iterator[Wire]:
    wire = Wire(process.address)
    grpc.channel_ready_future(wire.channel).result(20)
    assert wire.send("Initialize", [first_message("Initialize", chunk=encode(ones()))]).code == "OK"
    assert wire.send("Push", [GOOD]) == ACCEPTED
    yield wire
    assert wire.send("Push", [GOOD]) == ACCEPTED
    wire.channel.close()


def test_a_stream_of_100_mb_is_not_read_to_its_end(process: ShardProcess, wire: Wire) -> None:
    before, sent = process.peak_bytes, 0

    def chunks(head: bytes) -> Iterator[bytes]:
        nonlocal sent
        yield head
        for _ in range(100):
            sent += 2**20
            yield ps_pb2.PushRequest(chunk=bytes(2**20)).SerializeToString()

    for head, error in ((push(b""), "TooLarge"), (push(target={"run": ""}), "WrongRun")):
        sent = 0
        assert wire.send("Push", chunks(head)).error == error
        assert sent < HUNDRED / 4
    assert process.peak_bytes - before < HUNDRED / 4


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_message_of_100_mb_is_not_held(process: ShardProcess, wire: Wire, compression: Any) -> None:
    """The limit holds for a compressed message too: 100 kB unpack to these 100 MB."""
    before = process.peak_bytes
    answer = wire.send("Push", [push(bytes(HUNDRED))], compression=compression)
    assert (answer.code, answer.error) == ("RESOURCE_EXHAUSTED", None)
    assert process.peak_bytes - before < HUNDRED / 4
