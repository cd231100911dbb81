"""Faults of the network and of clients: lost replies, absent servers, oversized requests, strangers."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ps.codec import encode
from ps.errors import (
    MalformedMessage,
    NonFinite,
    NotDurable,
    ShapeMismatch,
    StoreError,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    UnknownParameter,
    WrongRun,
)
from ps.rpc.client import GrpcStore
from ps.rpc.replies import push_ack
from ps.rpc.server import ShardServer
from ps.rpc.tls import Tls
from ps.shard.journal import Journal
from ps.store import Layout, Push
from ps.wire import ps_pb2
from tests.certificates import Authority
from tests.contracts.parameter_store import sgd_layout

LAYOUT = sgd_layout(shards=2)
ONES = {"x": torch.ones(10)}
ZEROS = {"x": torch.zeros(10)}

Serve = Callable[..., ShardServer]
Connect = Callable[..., GrpcStore]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ShardServer] = []

    def serve(layout: Layout = LAYOUT, directory: Path | None = None, **options: Any) -> ShardServer:
        servers.append(ShardServer(layout, range(layout.shards), directory, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop(grace_s=0)


@pytest.fixture
def connect() -> Iterator[Connect]:
    stores: list[GrpcStore] = []

    def connect(address: str, layout: Layout = LAYOUT, **options: Any) -> GrpcStore:
        stores.append(GrpcStore(layout, [address] * layout.shards, **({"retry_timeout_s": 10} | options)))
        return stores[-1]

    yield connect
    for store in stores:
        store.close()


def push(sequence: int, **changes: Any) -> Push:
    return Push(**({"client": "a", "sequence": sequence, "gradients": ONES, "versions": (0, 0)} | changes))


class LoseReplies(grpc.ServerInterceptor):
    """Loses the reply to the n-th push, for n in `lost`, after the shard has applied it."""

    def __init__(self, lost: set[int]) -> None:
        self.lost = lost
        self.requests = 0
        self._lock = threading.Lock()

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if not details.method.endswith("/Push"):
            return handler

        def behave(requests: Any, context: grpc.ServicerContext) -> Any:
            reply = handler.stream_unary(requests, context)
            with self._lock:
                self.requests += 1
                lose = self.requests in self.lost
            if lose:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the reply was lost, as the script says")
            return reply

        return grpc.stream_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)


def test_twenty_pushes_with_ten_lost_replies_are_applied_twenty_times(serve: Serve, connect: Connect):
    script = LoseReplies({1, 4, 5, 6, 11, 14, 17, 20, 23, 27})
    layout = sgd_layout(shards=1)
    store = connect(serve(layout, interceptors=[script]).address, layout)
    store.initialize(ZEROS)
    for sequence in range(1, 21):
        assert store.push(push(sequence, versions=(0,))).versions == (sequence,)
    assert script.requests == 30
    assert torch.equal(store.pull().values["x"], torch.full((10,), -20.0))
    (status,) = store.status()
    assert (status.pushes, status.duplicates) == (20, 10)


def test_tensors_of_many_chunks_travel_whole(serve: Serve, connect: Connect):
    layout = sgd_layout(elements=5_000_000, shards=2)  # 20 MB, ten times gRPC's limit on one message per shard
    store = connect(serve(layout).address, layout)
    start = torch.randn(5_000_000)
    store.initialize({"x": start})
    gradient = torch.randn(5_000_000)
    store.push(push(1, gradients={"x": gradient}))
    assert torch.equal(store.pull().values["x"], start - gradient)


def test_a_client_may_start_before_its_server(serve: Serve, connect: Connect):
    server = serve()
    address, port = server.address, int(server.address.rpartition(":")[2])
    server.stop(grace_s=0)
    store = connect(address, deadline_s=0.5)
    initializing = threading.Thread(target=store.initialize, args=(ZEROS,))
    initializing.start()
    time.sleep(0.3)
    serve(port=port)
    initializing.join(10)
    assert torch.equal(store.pull().values["x"], ZEROS["x"])


def test_a_push_outlives_a_restart_of_its_server(tmp_path: Path, serve: Serve, connect: Connect):
    server = serve(directory=tmp_path)
    store = connect(server.address, deadline_s=0.5)
    store.initialize(ZEROS)
    store.push(push(1))
    server.stop(grace_s=0)
    acks = []
    pushing = threading.Thread(target=lambda: acks.append(store.push(push(2))))
    pushing.start()
    time.sleep(0.2)
    serve(directory=tmp_path, port=int(server.address.rpartition(":")[2]))
    pushing.join(10)
    assert [(ack.versions, ack.incarnations, ack.duplicate) for ack in acks] == [((2, 2), (2, 2), False)]


def test_an_unavailable_server_is_named_at_the_retry_timeout(serve: Serve, connect: Connect):
    server = serve()
    server.stop(grace_s=0)
    store = connect(server.address, deadline_s=0.1, retry_timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=rf"shard 0 at {server.address} did not answer in 0.3 s: UNAVAILABLE: "):
        store.pull()
    assert time.monotonic() - began < 5


def test_one_shard_returns_its_counters_while_another_is_unavailable(tmp_path: Path, serve: Serve):
    address = serve(directory=tmp_path).address
    store = GrpcStore(LAYOUT, [address, "127.0.0.1:1"], deadline_s=2, retry_timeout_s=0)
    status = store.shard_status(0)
    assert (status.index, status.writes, status.snapshot_bytes > 0) == (0, 1, True)
    with pytest.raises(StoreUnavailable, match=r"shard 1 at 127\.0\.0\.1:1"):
        store.shard_status(1)
    store.close()


def test_closing_wakes_a_call_that_waits(serve: Serve, connect: Connect):
    server = serve()
    server.stop(grace_s=0)
    store = connect(server.address, retry_timeout_s=600)
    failures: list[StoreError] = []

    def pull() -> None:
        try:
            store.pull()
        except StoreError as error:
            failures.append(error)

    waiting = threading.Thread(target=pull)
    waiting.start()
    time.sleep(0.2)
    store.close()
    waiting.join(10)
    assert [str(error) for error in failures] == ["the store is closed"]


@pytest.mark.parametrize(("token", "got"), [(None, "none"), ("wrong", "another")])
def test_every_method_needs_the_token(serve: Serve, connect: Connect, token: str | None, got: str):
    server = serve(token="right")
    connect(server.address, token="right").initialize(ZEROS)
    stranger = connect(server.address, token=token)
    for call in (lambda: stranger.initialize(ZEROS), stranger.pull, lambda: stranger.push(push(1)), stranger.status):
        with pytest.raises(Unauthenticated, match=f"got {got}"):
            call()
    assert connect(server.address, token="right").status()[0].pushes == 0


@pytest.mark.parametrize("token", ["", "päss", "a\nb"])
def test_a_token_must_fit_into_a_header(serve: Serve, token: str):
    with pytest.raises(ValueError, match="`token` must be printable ASCII"):
        serve(token=token)
    with pytest.raises(ValueError, match="`token` must be printable ASCII"):
        GrpcStore(LAYOUT, ["localhost:1"] * 2, token=token)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_no_open_port_beyond_the_loopback(serve: Serve, host: str):
    with pytest.raises(ValueError, match=f"`token` must be given to listen beyond the loopback, got host '{host}'"):
        serve(host=host)


@pytest.mark.parametrize(
    "other", [replace(LAYOUT, run="another"), sgd_layout(shards=2, accumulate=2), sgd_layout(shards=2, elements=9)]
)
def test_a_client_of_another_run_or_layout_is_refused(serve: Serve, connect: Connect, other: Layout):
    server = serve()
    connect(server.address).initialize(ZEROS)
    store = connect(server.address, other)
    gradients = {name: torch.ones(shape) for name, shape in other.shapes.items()}
    for call in (lambda: store.initialize(gradients), store.pull, lambda: store.push(push(1, gradients=gradients))):
        with pytest.raises(WrongRun, match="this server serves"):
            call()
    assert connect(server.address).status()[0].pushes == 0


def test_a_shard_that_lives_elsewhere_is_refused(connect: Connect):
    server = ShardServer(LAYOUT, [1], None)
    with pytest.raises(WrongRun, match=r"hosts the shards \[1\], not 0"):
        connect(server.address).pull()
    server.stop(grace_s=0)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"\0" * 3_000_000, TooLarge, r"for these tensors on the shards \[0\] must be 20 bytes, got more"),
        (b"\1", MalformedMessage, "broken off after 1 bytes"),
        (torch.ones(4).numpy().tobytes(), MalformedMessage, "broken off after 16 bytes"),
        (torch.full((5,), torch.nan).numpy().tobytes(), NonFinite, "'x' must be finite"),
    ],
)
def test_a_hostile_client_cannot_push(
    serve: Serve, connect: Connect, data: bytes, error: type[StoreError], message: str
):
    store = connect(serve().address)
    store.initialize(ZEROS)
    head = {
        "target": store._target(0),
        "client": "mallory",
        "sequence": 1,
        "parts": [{"shard": 0}],
        "tensors": {"all": True},
        "size_bytes": len(data),
    }

    def push_data(stub: Any, options: dict[str, Any]) -> None:
        reply = stub.Push(in_messages(ps_pb2.PushRequest, head, data), **options)
        if isinstance(ack := push_ack(reply.message.parts[0]), StoreError):
            raise ack

    with pytest.raises(error, match=message):
        store._calls.on_shard(0, time.monotonic(), push_data)
    assert torch.equal(store.pull().values["x"], ZEROS["x"])
    assert store.status()[0].clients == 0


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"\0" * 3_000_000, TooLarge, "a message to shard 0 must be at most 33 bytes"),
        (b"\1", MalformedMessage, "the message ends at byte 1"),
        (encode({"x": torch.ones(5), "y": torch.ones(())}), TooLarge, "a message to shard 0 must be at most 33 bytes"),
        (encode({"y": torch.ones(5)}), UnknownParameter, "initial values must cover shard 0, missing: x"),
        (encode({"x": torch.ones(4)}), ShapeMismatch, r"must have the shape \(5,\), got \(4,\)"),
        (encode({"x": torch.full((5,), torch.nan)}), NonFinite, "'x' must be finite"),
    ],
)
def test_a_hostile_client_cannot_initialize(
    serve: Serve, connect: Connect, data: bytes, error: type[StoreError], message: str
):
    store = connect(serve().address)
    requests = in_messages(ps_pb2.InitializeRequest, {"target": store._target(0), "size_bytes": len(data)}, data)
    with pytest.raises(error, match=message):
        store._calls.on_shard(0, time.monotonic(), lambda stub, options: stub.Initialize(requests, **options))
    assert not store.status()[0].initialized


def in_messages(kind: Callable[..., Any], head: dict[str, Any], data: bytes) -> Iterator[Any]:
    """Yield the messages of a request, with the data in pieces of 1 MB."""
    yield kind(**head, chunk=data[:1_000_000])
    for start in range(1_000_000, len(data), 1_000_000):
        yield kind(chunk=data[start : start + 1_000_000])


def test_an_empty_stream_is_refused(serve: Serve, connect: Connect):
    store = connect(serve().address)
    with pytest.raises(MalformedMessage, match="at least one message, got none"):
        store._calls.on_shard(0, time.monotonic(), lambda stub, options: stub.Push(iter(()), **options))


def test_a_full_disk_raises_not_durable_at_the_client(
    tmp_path: Path, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
):
    store = connect(serve(directory=tmp_path).address)
    store.initialize(ZEROS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(NotDurable, match=r"shard 0 could not write .*No space left"):
            store.push(push(1))
    assert store.push(push(1)).versions == (1, 1)


def test_health_is_served_without_a_token(serve: Serve):
    server = serve(token="secret")
    with grpc.insecure_channel(server.address) as channel:
        for service in ("", "nascluster.ps.ParameterShards"):
            reply = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=5, wait_for_ready=True
            )
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_tls_serves_clients_with_a_certificate_of_the_authority(
    tmp_path: Path, serve: Serve, connect: Connect, authority: Authority
):
    server = serve(tls=authority.issue("shards", "IP:127.0.0.1").tls, token="secret")
    store = connect(server.address, tls=authority.issue("client").tls, token="secret")
    store.initialize(ZEROS)
    assert store.push(push(1)).versions == (1, 1)

    stranger = Authority(tmp_path).issue("stranger", "IP:127.0.0.1").tls
    ours = authority.issue("client").tls
    trusting = Tls(key=stranger.key, certificate=stranger.certificate, authorities=ours.authorities)
    distrusting = Tls(key=ours.key, certificate=ours.certificate, authorities=stranger.authorities)
    for tls in (None, stranger, trusting, distrusting):
        with pytest.raises(StoreUnavailable):
            connect(server.address, tls=tls, token="secret", deadline_s=1, retry_timeout_s=0).pull()
    assert store.pull().versions == (1, 1)


def test_a_tls_client_refuses_a_certificate_for_another_address(serve: Serve, connect: Connect, authority: Authority):
    server = serve(tls=authority.issue("elsewhere", "IP:127.0.0.2").tls)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        connect(server.address, tls=authority.issue("client").tls, deadline_s=1, retry_timeout_s=0).pull()


@pytest.mark.parametrize("method", ["Initialize", "Push"])
def test_clients_that_send_nothing_do_not_hold_the_server_up(serve: Serve, connect: Connect, method: str):
    server = serve(token="secret", deadline_s=20)
    store = connect(server.address, token="secret", deadline_s=20)
    store.initialize(ZEROS)
    silent, metadata = threading.Event(), (("authorization", "Bearer secret"),)
    stub = store._calls.book.find(0).connection.stub
    calls: list[Any] = []
    try:
        # More than the server has threads, none with a deadline of its own.
        calls += [getattr(stub, method).future(idle_requests(silent), metadata=metadata) for _ in range(40)]
        began = time.monotonic()
        assert torch.equal(store.pull().values["x"], ZEROS["x"])
        assert time.monotonic() - began < 5
        assert [call.code() for call in calls] == [grpc.StatusCode.INVALID_ARGUMENT] * 40
    finally:
        silent.set()
        for call in calls:
            call.cancel()


def idle_requests(silent: threading.Event) -> Iterator[Any]:
    """Yield nothing until the event is set."""
    silent.wait(60)
    yield from ()


def test_clients_that_do_not_read_do_not_hold_the_server_up(serve: Serve, connect: Connect):
    layout = sgd_layout(elements=5_000_000, shards=1)
    server = serve(layout, deadline_s=20)
    store = connect(server.address, layout, deadline_s=20)
    store.initialize({"x": torch.zeros(5_000_000)})
    request = ps_pb2.PullRequest(target=store._target(0), shards=[0], tensors={"all": True})
    stub = store._calls.book.find(0).connection.stub
    unread = [stub.Pull(request) for _ in range(40)]
    began = time.monotonic()
    assert store.push(push(1, gradients={"x": torch.ones(5_000_000)}, versions=(0,))).versions == (1,)
    assert time.monotonic() - began < 10
    for call in unread:
        call.cancel()


def test_a_client_retries_what_the_server_cancelled(serve: Serve, connect: Connect):
    """gRPC cancels the first attempt on the server, and not the next ones."""

    class CancelFirst(grpc.ServerInterceptor):
        def __init__(self) -> None:
            self.requests = 0

        def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = continuation(details)
            if not details.method.endswith("/Push"):
                return handler

            def behave(requests: Any, context: grpc.ServicerContext) -> Any:
                self.requests += 1
                if self.requests == 1:
                    context.cancel()
                return handler.stream_unary(requests, context)

            return grpc.stream_unary_rpc_method_handler(
                behave, handler.request_deserializer, handler.response_serializer
            )

    script, layout = CancelFirst(), sgd_layout(shards=1)
    store = connect(serve(layout, interceptors=[script]).address, layout)
    store.initialize(ZEROS)
    assert store.push(push(1, versions=(0,))).versions == (1,)
    assert script.requests == 2


@pytest.mark.parametrize("deadline_s", [0, -1])
def test_a_server_needs_a_deadline(serve: Serve, deadline_s: float):
    with pytest.raises(ValueError, match="`deadline_s` must be above 0"):
        serve(deadline_s=deadline_s)


def test_a_port_that_is_taken_is_an_error(serve: Serve):
    port = int(serve().address.rpartition(":")[2])
    with pytest.raises(RuntimeError, match=str(port)):
        serve(port=port)


@pytest.mark.parametrize("indices", [[], [0, 0], [2]])
def test_a_server_needs_shards_of_the_layout(indices: list[int]):
    with pytest.raises(ValueError, match=r"`indices` must name|index must be from 0 to 1, got 2"):
        ShardServer(LAYOUT, indices, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"addresses": ["a:1"]}, "one for each of 2 shards, got 1"),
        ({"deadline_s": 0}, "`deadline_s` must be above 0"),
        ({"retry_timeout_s": -1}, "`retry_timeout_s` 0 or more"),
    ],
)
def test_bad_client_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        GrpcStore(LAYOUT, **({"addresses": ["a:1", "a:2"]} | options))


def test_a_layout_above_the_limit_is_refused_on_both_sides(serve: Serve):
    message = "20 bytes of tensors on a shard, above the limit of 19: more shards, of which it has 2"
    with pytest.raises(TooLarge, match=message):
        serve(max_bytes=19)
    with pytest.raises(TooLarge, match=message):
        GrpcStore(LAYOUT, ["a:1", "a:2"], max_bytes=19)
    serve(sgd_layout(shards=3), max_bytes=19)


def test_callers_do_not_wait_for_each_others_retry_timeout(connect: Connect) -> None:
    """Many threads share a store: each raises in time when a shard is gone, and not one after another."""
    callers = 40
    store = connect("127.0.0.1:1", retry_timeout_s=1)
    took: list[float] = []

    def pull() -> None:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.pull()
        took.append(time.monotonic() - started)

    threads = [threading.Thread(target=pull) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == callers
    assert max(took) < 10  # one after another they would take 40 s
