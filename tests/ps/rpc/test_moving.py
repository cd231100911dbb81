"""Shards that restart at another address, and heartbeats, over gRPC."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from ps.consistency import Consistency
from ps.errors import MalformedMessage, StoreUnavailable, TooFarAhead, Unauthenticated, WrongRun
from ps.local import LocalStore
from ps.rpc.client import GrpcStore
from ps.rpc.requests import push_requests
from ps.rpc.server import ShardServer
from ps.shard.messages import ShardPush
from ps.store import Layout, Push
from ps.wire import ps_pb2
from tests.contracts.parameter_store import sgd_layout
from tests.waiting import until

LAYOUT = sgd_layout(shards=2)
ONES = torch.ones(10)
ROOT = Path(__file__).resolve().parents[3]

SERVE = """
import sys
from pathlib import Path
from ps.rpc.server import ShardServer
from tests.contracts.parameter_store import sgd_layout
sys.stdin.readline()
server = ShardServer(sgd_layout(shards=2), [int(sys.argv[1])], Path(sys.argv[2]))
print(server.address, flush=True)
sys.stdin.read()
"""


class Host:
    """One shard in a process of its own, which can be killed. It starts to serve when `serve` is called."""

    def __init__(self, index: int, directory: Path) -> None:
        command = [sys.executable, "-c", SERVE, str(index), str(directory)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True)

    def serve(self) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("serve\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    opened: list[Any] = []

    def remember(one: Any) -> Any:
        opened.append(one)
        return one

    yield remember
    for one in reversed(opened):
        one.close() if isinstance(one, GrpcStore) else one.stop(0)


def members(mode: Any, lease_s: float = 60.0, shards: int = 2) -> Layout:
    consistency = Consistency(mode=mode, members=("a", "b"), lease_s=lease_s)
    return replace(sgd_layout(shards=shards), consistency=consistency)


def push(store: GrpcStore | LocalStore, client: str, sequence: int, shards: int = 2) -> Any:
    return store.push(Push(client=client, sequence=sequence, gradients={"x": ONES}, versions=(0,) * shards))


def held_back(store: GrpcStore | LocalStore, client: str) -> bool:
    try:
        store.pull([], client=client)
    except TooFarAhead:
        return True
    return False


def test_a_killed_shard_is_found_elsewhere_and_no_acked_push_is_lost_or_doubled(
    tmp_path: Path, closing: Callable[[Any], Any]
):
    hosts = [Host(index, tmp_path) for index in (0, 1, 0, 1)]
    where = [host.serve() for host in hosts[:2]]
    store = closing(GrpcStore(LAYOUT, lambda: list(where), deadline_s=2))
    store.initialize({"x": torch.zeros(10)})
    acked: list[int] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            push(store, "a", len(acked) + 1)
            acked.append(len(acked) + 1)

    pushing = threading.Thread(target=run)
    pushing.start()
    try:
        for index in (0, 1):
            reached = len(acked) + 20
            while len(acked) < reached:
                assert pushing.is_alive()
                time.sleep(0.005)
            hosts[index].kill()
            address = hosts[index + 2].serve()
            assert address != where[index]
            where[index] = address
        reached = len(acked) + 20
        while len(acked) < reached:
            assert pushing.is_alive()
            time.sleep(0.005)
    finally:
        enough.set()
        pushing.join(60)
        pulled, status = store.pull(client="a"), store.status()
        for host in hosts:
            host.kill()
    assert pulled.applied == (len(acked),) * 2
    assert torch.equal(pulled.values["x"], ONES * -len(acked))
    assert [s.pushes for s in status] == [len(acked)] * 2
    # A kill between the two renames of a write is counted as two starts; see `SnapshotFile.load`.
    assert all(incarnation in (2, 3) for incarnation in pulled.incarnations)


def test_another_runs_shard_at_the_same_address_is_not_used(tmp_path: Path, closing: Callable[[Any], Any]):
    ours = closing(ShardServer(LAYOUT, [0, 1], tmp_path, token="ours"))
    port = int(ours.address.rpartition(":")[2])
    where = [ours.address] * 2
    store = closing(GrpcStore(LAYOUT, lambda: where, token="ours"))
    store.initialize({"x": torch.zeros(10)})
    strangers = [
        {"layout": replace(LAYOUT, run="another"), "indices": [0, 1], "token": "ours"},
        {"layout": LAYOUT, "indices": [0, 1], "token": "theirs"},
    ]
    for number, options in enumerate(strangers, start=1):
        ours.stop(0)
        stranger = ShardServer(**options, directory=None, port=port)
        answers = futures.ThreadPoolExecutor(1).submit(push, store, "a", number)
        time.sleep(0.2)
        assert not answers.done()
        ours = closing(ShardServer(LAYOUT, [0, 1], tmp_path, token="ours"))
        where = [ours.address] * 2
        assert answers.result(20).versions == (number,) * 2
        stranger.stop(0)
        port = int(ours.address.rpartition(":")[2])


def test_shards_that_have_changed_places_are_found(tmp_path: Path, closing: Callable[[Any], Any]):
    first, second = ShardServer(LAYOUT, [0], tmp_path), ShardServer(LAYOUT, [1], tmp_path)
    where = [first.address, second.address]
    store = closing(GrpcStore(LAYOUT, lambda: where))
    store.initialize({"x": torch.zeros(10)})
    for server in (first, second):
        server.stop(0)
    closing(ShardServer(LAYOUT, [1], tmp_path, port=int(first.address.rpartition(":")[2])))
    moved = closing(ShardServer(LAYOUT, [0], tmp_path))
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(push, store, "a", 1)
        time.sleep(0.2)
        assert not answer.done()
        where = [moved.address, first.address]
        assert answer.result(20).versions == (1, 1)


def test_a_foreign_grpc_server_is_not_used(closing: Callable[[Any], Any]):
    foreign = grpc.server(futures.ThreadPoolExecutor(1))
    address = f"127.0.0.1:{foreign.add_insecure_port('127.0.0.1:0')}"
    foreign.start()
    closing(foreign)
    ours = closing(ShardServer(LAYOUT, [0, 1], None))
    answers = [[address] * 2, [address] * 2, [ours.address] * 2]
    store = closing(GrpcStore(LAYOUT, lambda: answers.pop(0) if len(answers) > 1 else answers[0]))
    store.initialize({"x": torch.zeros(10)})
    assert push(store, "a", 1).versions == (1, 1)


def test_addresses_may_be_unknown_and_out_of_date_for_a_while(closing: Callable[[Any], Any]):
    gone = ShardServer(LAYOUT, [0, 1], None)
    gone.stop(0)
    server = closing(ShardServer(LAYOUT, [0, 1], None))
    script: list[Any] = [OSError("not yet"), OSError("not yet"), ["short"], [gone.address] * 2, [server.address] * 2]

    def ask() -> Sequence[str]:
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    store = closing(GrpcStore(LAYOUT, ask))
    store.initialize({"x": torch.zeros(10)})
    assert len(script) == 1
    assert push(store, "a", 1).versions == (1, 1)


def test_the_last_error_is_raised_at_the_retry_timeout(closing: Callable[[Any], Any]):
    def ask() -> Sequence[str]:
        raise OSError("the book is closed")

    store = closing(GrpcStore(LAYOUT, ask, retry_timeout_s=0.2))
    with pytest.raises(StoreUnavailable, match=r"shard 0 was not found in 0.2 s: OSError: the book is closed"):
        store.pull()
    other = closing(ShardServer(replace(LAYOUT, run="another"), [0, 1], None))
    with pytest.raises(WrongRun, match="this server serves"):
        closing(GrpcStore(LAYOUT, lambda: [other.address] * 2, retry_timeout_s=0.2)).pull()


def test_calls_on_a_channel_that_is_closed_for_a_move_are_retried(closing: Callable[[Any], Any], tmp_path: Path):
    """One thread notices that the shards have moved while others have calls in progress on the old channel."""

    release = threading.Event()

    class Slow(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            if details.method.endswith("/Status"):
                release.wait(10)
            return continuation(details)

    old = closing(ShardServer(LAYOUT, [0, 1], None, interceptors=[Slow()]))
    new = closing(ShardServer(LAYOUT, [0, 1], None))
    where = [old.address] * 2
    store = closing(GrpcStore(LAYOUT, lambda: where))
    store.initialize({"x": torch.zeros(10)})
    with futures.ThreadPoolExecutor(1) as pool:
        in_progress = pool.submit(store.status)
        time.sleep(0.3)
        where = [new.address] * 2
        store._calls.book.refresh(store._calls.book.find(0).lookup)
        began = time.monotonic()
        assert [status.initialized for status in in_progress.result()] == [False, False], "the new one answers"
        assert time.monotonic() - began < 3
    release.set()


def wait_for_renewal(server: ShardServer, client: str, now_s: float) -> None:
    """Wait until every shard has renewed the client's lease at this time of its clock."""

    def renewed() -> bool:
        return all(shard._leases._renewed_at[client] == now_s for shard in server._shards.values())

    until(renewed, f"a renewal of the lease of {client}", timeout_s=20)


def test_a_store_renews_only_the_leases_of_its_own_clients(closing: Callable[[Any], Any]):
    layout, now = members("ssp", lease_s=0.2), [0.0]
    server = closing(ShardServer(layout, [0, 1], None, token="secret", clock=lambda: now[0]))
    one, other = (closing(GrpcStore(layout, [server.address] * 2, token="secret")) for _ in range(2))
    one.initialize({"x": torch.zeros(10)})
    one.pull(client="b")
    push(other, "a", 1)
    for _ in range(5):
        now[0] += 0.15
        wait_for_renewal(server, "b", now[0])
        assert held_back(other, "a"), "b sends no requests, but its store sends heartbeats"
    one.close()
    time.sleep(0.2)  # what it sent before has arrived by then
    now[0] += 0.5
    assert not held_back(other, "a")


def test_heartbeats_leave_out_a_client_that_has_left(closing: Callable[[Any], Any]):
    layout = members("sync", lease_s=0.4)
    server = closing(ShardServer(layout, [0, 1], None))
    store = closing(GrpcStore(layout, [server.address] * 2))
    store.initialize({"x": torch.zeros(10)})
    push(store, "b", 1)
    store.leave("b")
    push(store, "a", 1)
    assert store.pull(client="a").versions == (1, 1)
    assert store._heartbeat._active == {"a"}


def test_heartbeats_reach_a_shard_that_has_moved(closing: Callable[[Any], Any], tmp_path: Path):
    """A replica may wait an hour for its children: its lease must not expire because a shard moves meanwhile."""
    layout, now = members("ssp", lease_s=0.2), [0.0]
    old = ShardServer(layout, [0, 1], tmp_path)
    where = [old.address] * 2
    store = closing(GrpcStore(layout, lambda: where))
    store.initialize({"x": torch.zeros(10)})
    store.pull(client="b")
    old.stop(0)
    new = closing(ShardServer(layout, [0, 1], tmp_path, clock=lambda: now[0]))
    where = [new.address] * 2
    now[0] = 0.3
    wait_for_renewal(new, "b", now[0])


def test_an_async_store_sends_no_heartbeats(closing: Callable[[Any], Any]):
    server = closing(ShardServer(LAYOUT, [0, 1], None))
    store = closing(GrpcStore(LAYOUT, [server.address] * 2))
    store.initialize({"x": torch.zeros(10)})
    push(store, "a", 1)
    store.pull(client="a")
    assert store._heartbeat._thread is None


def test_a_dead_member_is_waited_for_until_its_lease_expires(closing: Callable[[Any], Any]):
    now = [0.0]
    server = closing(ShardServer(members("sync"), [0, 1], None, clock=lambda: now[0]))
    store = closing(GrpcStore(members("sync"), [server.address] * 2))
    store.initialize({"x": torch.zeros(10)})
    push(store, "a", 1)
    now[0] = 59.0
    assert held_back(store, "a")
    now[0] = 60.0
    assert store.pull(client="a").versions == (1, 1)


@pytest.mark.parametrize("method", ["Leave", "Keep"])
def test_strangers_can_neither_leave_nor_renew_leases(closing: Callable[[Any], Any], method: str):
    layout = members("ssp")
    server = closing(ShardServer(layout, [0], None, token="right"))
    addresses = [server.address] * 2
    request = {"Leave": ps_pb2.LeaveRequest, "Keep": ps_pb2.KeepRequest}[method]

    def call(store: GrpcStore, shard: int) -> None:
        message = request(target=store._target(shard), **({"client": "a"} if method == "Leave" else {"clients": "a"}))
        store._calls.on_shard(shard, time.monotonic(), lambda stub, options: getattr(stub, method)(message, **options))

    call(closing(GrpcStore(layout, addresses, token="right")), 0)
    with pytest.raises(Unauthenticated, match="got another"):
        call(closing(GrpcStore(layout, addresses, token="wrong")), 0)
    with pytest.raises(WrongRun, match=r"hosts the shards \[0\], not 1"):
        call(closing(GrpcStore(layout, addresses, token="right")), 1)
    with pytest.raises(WrongRun, match="this server serves"):
        call(closing(GrpcStore(replace(layout, run="another"), addresses, token="right")), 0)


def test_a_hostile_client_name_is_malformed(closing: Callable[[Any], Any]):
    layout = members("ssp")
    store = closing(GrpcStore(layout, [closing(ShardServer(layout, [0, 1], None)).address] * 2))
    store.initialize({"x": torch.zeros(10)})
    bad = {"target": store._target(0), "client": "a\nb"}
    for attempt in (
        lambda stub, options: stub.Leave(ps_pb2.LeaveRequest(**bad), **options),
        lambda stub, options: list(stub.Pull(ps_pb2.PullRequest(**bad, shards=[0, 1]), **options)),
    ):
        with pytest.raises(MalformedMessage, match="`client` must be 1 to 200 printable"):
            store._calls.on_shard(0, time.monotonic(), attempt)


@pytest.mark.parametrize("kind", ["local", "grpc"])
@pytest.mark.parametrize("mode", ["ssp", "sync"])
def test_two_pushes_that_reached_different_shards_do_not_deadlock(closing: Callable[[Any], Any], kind: str, mode: str):
    """Everything was killed while both were in progress. Each client sees what is missing, and completes its push."""
    layout = members(mode)

    def part(client: str) -> ShardPush:
        return ShardPush(client=client, sequence=1, gradients={"x": torch.ones(5)}, seen_version=0)

    if kind == "local":
        store = LocalStore(layout)
        store.initialize({"x": torch.zeros(10)})
        store._shards[0].push(part("a"))
        store._shards[1].push(part("b"))
    else:
        store = closing(GrpcStore(layout, [closing(ShardServer(layout, [0, 1], None)).address] * 2))
        store.initialize({"x": torch.zeros(10)})
        for shard, client in enumerate("ab"):
            requests = push_requests(layout, ["x"], {shard: part(client)})
            store._calls.on_shard(shard, time.monotonic(), lambda stub, options, r=requests: stub.Push(r, **options))
    assert store.pull(client="a").applied == (1, 0)
    assert store.pull(client="b").applied == (0, 1)
    push(store, "a", 1)
    assert held_back(store, "a"), "its push is complete, so now it waits like every client"
    push(store, "b", 1)
    assert not held_back(store, "a")
    expected = -2.0 if mode == "ssp" else -1.0
    assert torch.equal(store.pull().values["x"], ONES * expected)
