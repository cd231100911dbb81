"""Every request needs a deadline, and ends at it whatever its client does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import torch

from ps.errors import MalformedMessage
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
from ps.wire import ps_pb2
from tests.contracts.parameter_store import sgd_layout
from tests.waiting import until

ELEMENTS = 2_500_000
"""10 MB, more than the window of a connection, so that a pull which is not read stays in progress."""

LAYOUT = sgd_layout(elements=ELEMENTS, shards=1)
TOKEN = "secret"
BEARER = (("authorization", f"Bearer {TOKEN}"),)

CLIENT = """
import sys, time, grpc
address, method, kind, timeout_s, request = sys.argv[1:]

def silent():
    time.sleep(600)
    yield b""

channel = grpc.insecure_channel(address, [("grpc.http2.bdp_probe", 0)])
call = getattr(channel, kind)(f"/nascluster.ps.ParameterShards/{method}")
message = bytes.fromhex(request)
options = {"timeout": float(timeout_s), "metadata": (("authorization", "Bearer secret"),)}
calls = [call(message, **options) if message else call.future(silent(), **options) for _ in range(40)]
print("started", flush=True)
time.sleep(600)
"""
"""More calls than a server has threads; none sends its request to the end, or none reads its reply.

With its bandwidth probe gRPC may enlarge the window of a connection until it buffers the whole reply.
"""


@pytest.fixture
def serve() -> Iterator[Callable[[float], ShardServer]]:
    servers: list[ShardServer] = []

    def serve(deadline_s: float) -> ShardServer:
        servers.append(ShardServer(LAYOUT, [0], None, token=TOKEN, deadline_s=deadline_s))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop(grace_s=0)


def target() -> ps_pb2.Target:
    return ps_pb2.Target(run=LAYOUT.run, fingerprint=LAYOUT.fingerprint, shard=0)


def is_saturated(server: ShardServer) -> bool:
    """Return whether requests are queued for a while because all threads are occupied."""
    for _ in range(20):
        time.sleep(0.01)
        if server._threads._work_queue.qsize() == 0:
            return False
    return True


@pytest.mark.parametrize(
    ("method", "kind"),
    [("Initialize", "stream_unary"), ("Push", "stream_unary"), ("Pull", "unary_stream")],
)
def test_a_hanging_client_occupies_threads_until_its_deadline_only(
    serve: Callable[[float], ShardServer], method: str, kind: str
):
    """The client is stopped, so that only the server can end its calls."""
    server = serve(5)
    store = GrpcStore(LAYOUT, [server.address], token=TOKEN, deadline_s=5, retry_timeout_s=30)
    store.initialize({"x": torch.zeros(ELEMENTS)})
    pull = ps_pb2.PullRequest(target=target(), shards=[0], tensors={"all": True})
    request = pull.SerializeToString() if method == "Pull" else b""
    command = [sys.executable, "-c", CLIENT, server.address, method, kind, "5", request.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == b"started\n"
            until(lambda: is_saturated(server), "saturation", timeout_s=20)
            os.kill(client.pid, signal.SIGSTOP)
            began = time.monotonic()
            assert store.status()[0].initialized
            assert time.monotonic() - began < 20
        finally:
            client.kill()
    store.close()


@pytest.mark.parametrize("method", ["Initialize", "Push", "Pull", "Leave", "Keep", "Status"])
@pytest.mark.parametrize(("timeout_s", "got"), [(None, "none"), (60, r"(59\.\d|60|60\.\d) s")])
def test_a_request_without_a_valid_deadline_is_refused(
    serve: Callable[[float], ShardServer], method: str, timeout_s: float | None, got: str
):
    store = GrpcStore(LAYOUT, [serve(30).address], token=TOKEN)
    request = getattr(ps_pb2, f"{method}Request")(target=target())

    def attempt(stub: Any, _: dict[str, Any]) -> None:
        message = iter([request]) if method in ("Initialize", "Push") else request
        reply = getattr(stub, method)(message, timeout=timeout_s, metadata=BEARER)
        assert not list(reply)

    with pytest.raises(MalformedMessage, match=f"must have a deadline of at most 30 s, got {got}$"):
        store._calls.on_shard(0, time.monotonic(), attempt)
    store.close()


@pytest.mark.parametrize("deadline_s", [1.001, 2.5, 10.0001, 1234.5])
def test_a_deadline_may_be_as_long_as_the_limit(serve: Callable[[float], ShardServer], deadline_s: float):
    """gRPC rounds it up on its way."""
    store = GrpcStore(LAYOUT, [serve(deadline_s).address], token=TOKEN, deadline_s=deadline_s)
    assert store.status()[0].index == 0
    store.close()


@pytest.mark.parametrize("metadata", [BEARER, ()], ids=["with the token", "without"])
@pytest.mark.parametrize("method", ["Pull", "Leave", "Keep", "Status"])
def test_clients_that_send_no_message_at_all_are_refused(
    serve: Callable[[float], ShardServer], method: str, metadata: tuple[tuple[str, str], ...]
):
    server = serve(30)
    silent = threading.Event()

    def requests() -> Iterator[bytes]:
        silent.wait(60)
        yield from ()

    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_unary(f"/nascluster.ps.ParameterShards/{method}")
        calls = [call.future(requests(), metadata=metadata) for _ in range(40)]  # more than the server has threads
        store = GrpcStore(LAYOUT, [server.address], token=TOKEN, deadline_s=20)
        assert store.status()[0].index == 0
        store.close()
        expected = grpc.StatusCode.INVALID_ARGUMENT if metadata else grpc.StatusCode.UNAUTHENTICATED
        assert [call.code() for call in calls] == [expected] * 40
        silent.set()
