"""One call for all shards of a process; each shard answers for itself."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from ps.consistency import Consistency
from ps.errors import LostPushes, MalformedMessage, NotInitialized, StoreError, TooLarge, WrongRun
from ps.local import LocalStore
from ps.rpc.client import GrpcStore
from ps.rpc.requests import call_deadline, initialize_requests, target_of
from ps.rpc.server import ShardServer
from ps.store import Group, Layout, Push
from ps.wire import ps_pb2
from tests.contracts.parameter_store import assert_equal, sgd_layout
from tests.waiting import until

LAYOUT = Layout(
    run="batched",
    shards=20,
    groups=(
        Group(name="adam", shapes={f"w{n}": (7, n + 1) for n in range(9)}, optimizer="adam", options={"lr": 0.1}),
        Group(name="sgd", shapes={"s": (50,), "t": ()}, optimizer="sgd", options={"lr": 1.0, "momentum": 0.5}),
    ),
)

Closing = Callable[[Any], Any]


@pytest.fixture
def closing() -> Iterator[Closing]:
    opened: list[Any] = []

    def remember(one: Any) -> Any:
        opened.append(one)
        return one

    yield remember
    for one in reversed(opened):
        one.close() if isinstance(one, GrpcStore) else one.stop(0)


class Count(grpc.ServerInterceptor):
    """Counts the calls of each method, and holds up pulls while `held` is set."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        self.calls[method] += 1
        handler = continuation(details)
        if method != "Pull":
            return handler

        def pull(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            assert self.open.wait(10)
            yield from handler.stream_stream(requests, context)

        return grpc.stream_stream_rpc_method_handler(pull, handler.request_deserializer, handler.response_serializer)


def start(seed: int = 0, layout: Layout = LAYOUT) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in layout.shapes.items()}


def push(sequence: int, layout: Layout = LAYOUT, client: str = "a", **gradients: torch.Tensor) -> Push:
    gradients = gradients or start(sequence, layout)
    return Push(client=client, sequence=sequence, gradients=gradients, versions=(0,) * layout.shards)


def test_a_pull_and_a_push_are_one_call_to_each_process(closing: Closing):
    counts = Count(), Count()
    hosts = [range(0, 20, 2), range(1, 20, 2)]
    servers = [
        closing(ShardServer(LAYOUT, hosted, None, interceptors=[count]))
        for hosted, count in zip(hosts, counts, strict=True)
    ]
    store = closing(GrpcStore(LAYOUT, [servers[shard % 2].address for shard in range(20)]))
    store.initialize(start())
    for count in counts:
        count.calls.clear()
    ack = store.push(push(1))
    pulled = store.pull(client="a")
    assert [count.calls for count in counts] == [{"Push": 1, "Pull": 1}] * 2
    assert ack.versions == pulled.versions == pulled.applied == (1,) * 20
    twin = closing(
        GrpcStore(replace(LAYOUT, shards=1), [closing(ShardServer(replace(LAYOUT, shards=1), [0], None)).address])
    )
    twin.initialize(start())
    twin.push(replace(push(1), versions=(0,)))
    assert_equal(pulled.values, twin.pull().values)


def test_some_tensors_are_pushed_and_pulled_by_their_place_in_the_layout(closing: Closing):
    store = closing(GrpcStore(LAYOUT, [closing(ShardServer(LAYOUT, range(20), None)).address] * 20))
    store.initialize(start())
    names = ["t", "w3", "w8"]  # `t` is a single element, so most shards have none of these
    ack = store.push(push(1, t=torch.tensor(2.0), w8=torch.ones(7, 9)))
    pulled = store.pull(names, client="a")
    assert list(pulled.values) == ["w3", "w8", "t"]
    assert set(ack.versions) == {0, 1}
    assert pulled.applied == (1,) * 20
    assert torch.equal(pulled.values["w3"], start()["w3"])
    assert torch.equal(pulled.values["t"], start()["t"] - 2)
    assert_equal(store.pull(["w5"]).values, {"w5": start()["w5"]})
    assert_equal(store.pull(["w5"] * len(LAYOUT.shapes)).values, {"w5": start()["w5"]})


def test_one_shard_that_refuses_does_not_stop_the_others(closing: Closing):
    """Shard 7 has fallen back to before a push that the client saw applied, so it refuses the next one."""
    server = closing(ShardServer(LAYOUT, range(20), None))
    store = closing(GrpcStore(LAYOUT, [server.address] * 20))
    store.initialize(start())
    before = server._shards[7]._shard.state()
    store.push(push(1))
    server._shards[7]._shard.restore(before)
    seen = replace(push(2), applied=(1,) * 20)
    with pytest.raises(LostPushes, match="shard 7 has applied the pushes of 'a' up to 0, but the client has seen 1"):
        store.push(seen)
    assert store.pull(client="a").applied == tuple(0 if shard == 7 else 2 for shard in range(20))
    store.push(push(1))
    ack = store.push(seen)
    assert not ack.duplicate
    assert ack.versions == (2,) * 20
    assert [status.duplicates for status in store.status()] == [0 if shard == 7 else 2 for shard in range(20)]


def test_only_the_shard_that_has_moved_is_called_again(closing: Closing):
    layout = sgd_layout(shards=2)
    count = Count()
    here, there = ShardServer(layout, [0], None, interceptors=[count]), ShardServer(layout, [1], None)
    where = [closing(here).address, closing(there).address]
    closing(GrpcStore(layout, where)).initialize({"x": torch.zeros(10)})
    answers = [[here.address] * 2, [here.address] * 2, where]  # the first two are out of date
    count.calls.clear()
    store = closing(GrpcStore(layout, lambda: answers.pop(0) if len(answers) > 1 else answers[0]))
    assert store.push(push(1, layout, x=torch.ones(10))).versions == (1, 1)
    assert answers == [where]
    assert count.calls["Push"] == 2, "the second lookup found shard 1 here once more; shard 0 had answered by then"
    assert [(status.pushes, status.duplicates) for status in store.status()] == [(1, 0)] * 2


def test_a_shard_that_is_nowhere_is_named_though_others_answered(closing: Closing):
    layout = sgd_layout(shards=2)
    server = closing(ShardServer(layout, [0], None))
    with pytest.raises(NotInitialized):
        closing(GrpcStore(layout, [server.address] * 2)).pull()
    with pytest.raises(WrongRun, match=r"hosts the shards \[0\], not 1"):
        store = closing(GrpcStore(layout, lambda: [server.address] * 2, retry_timeout_s=0.2))
        store._calls.on_shard(0, time.monotonic(), lambda stub, options: stub.Initialize(one_shards_zeros(), **options))
        store.pull()


def one_shards_zeros() -> Iterator[Any]:
    return initialize_requests(target_of(sgd_layout(shards=2), 0), {"x": torch.zeros(5)})


def test_pulls_that_wait_together_share_a_call_and_nothing_else(closing: Closing):
    count = Count()
    store = closing(
        GrpcStore(LAYOUT, [closing(ShardServer(LAYOUT, range(20), None, interceptors=[count])).address] * 20)
    )
    store.initialize(start())
    store.push(push(1, client="b"))
    count.open.clear()
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(store.pull, client="a")
        until(lambda: count.calls["Pull"] == 1, timeout_s=10)
        store.push(push(1, client="c"))  # acked while the first pull is under way
        later = [threads.submit(store.pull, client=client) for client in ("b", "c", "c", None)]
        until(lambda: gathered(store) == 4, timeout_s=10)
        count.open.set()
        snapshots = [first.result(10), *(one.result(10) for one in later)]
    assert count.calls["Pull"] == 2
    assert [snapshot.applied[:1] for snapshot in snapshots] == [(0,), (1,), (1,), (1,), ()]
    assert all(snapshot.versions == (2,) * 20 for snapshot in snapshots[1:]), (
        "they see what was acked before they began"
    )
    for snapshot in snapshots[1:3]:
        for tensor in snapshot.values.values():
            tensor.fill_(99)
    assert_equal(snapshots[3].values, store.pull().values)


def gathered(store: GrpcStore) -> int:
    return sum(len(group.members) for group in store._shared_pulls._gathering.values())


def test_pulls_are_not_shared_where_a_client_may_have_to_wait(closing: Closing):
    members = Consistency(mode="ssp", members=("a", "b"))
    layout = replace(sgd_layout(shards=2), consistency=members)
    store = closing(GrpcStore(layout, [closing(ShardServer(layout, [0, 1], None)).address] * 2))
    store.initialize({"x": torch.zeros(10)})
    request = ps_pb2.PullRequest(target=store._target(0), shards=[0, 1], client="a", others=["b"])
    with pytest.raises(MalformedMessage, match="a pull must be of one client where clients wait for each other"):
        store._calls.on_shard(0, time.monotonic(), lambda stub, options: list(stub.Pull(request, **options)))


ALL, ONES = {"all": True}, np.ones(10, "<f4").tobytes()
PARTS = [{"shard": 0}, {"shard": 1}]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"parts": []}, MalformedMessage, r"the shards must be at least one, increase and be below 2, got \[\]"),
        ({"parts": [{"shard": 1}, {"shard": 0}]}, MalformedMessage, r"increase and be below 2, got \[1, 0\]"),
        ({"parts": [{"shard": 0}, {"shard": 0}]}, MalformedMessage, r"increase and be below 2, got \[0, 0\]"),
        ({"parts": [{"shard": 2}]}, MalformedMessage, r"increase and be below 2, got \[2\]"),
        ({"tensors": {"positions": [0, 0]}}, MalformedMessage, "positions must increase and be below 1"),
        ({"tensors": {"positions": [1]}}, MalformedMessage, r"positions must increase and be below 1, got \[1\]"),
        ({"tensors": {}}, TooLarge, r"for these tensors on the shards \[0, 1\] must be 0 bytes, got more"),
        ({"chunk": ONES + b"\0"}, TooLarge, "must be 40 bytes, got more"),
        ({"chunk": ONES[:-1]}, MalformedMessage, "broken off after 39 bytes"),
        ({"size_bytes": 39}, MalformedMessage, "broken off after 40 bytes"),
        ({"client": ""}, MalformedMessage, "`client` must be 1 to 200 printable"),
        ({"sequence": 0}, MalformedMessage, "`sequence` must be an integer from 1"),
        ({"rates": {"g": -1.0}}, MalformedMessage, "the rate of group 'g' must be a finite number of at least 0"),
        ({"parts": [{"shard": 0}, {"shard": 1, "seen_version": -1}]}, MalformedMessage, "`seen_version` must be 0"),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(
    closing: Closing, changes: dict[str, Any], error: type[StoreError], message: str
):
    layout = sgd_layout(shards=2)
    store = closing(GrpcStore(layout, [closing(ShardServer(layout, [0, 1], None)).address] * 2))
    store.initialize({"x": torch.zeros(10)})
    fields = {
        "target": store._target(0),
        "client": "mallory",
        "sequence": 1,
        "parts": PARTS,
        "tensors": ALL,
        "chunk": ONES,
        "size_bytes": 40,
    }
    request = ps_pb2.PushRequest(**(fields | changes))
    with pytest.raises(error, match=message):
        store._calls.on_shard(0, time.monotonic(), lambda stub, options: stub.Push(iter([request]), **options))
    assert [status.clients for status in store.status()] == [0, 0]
    assert_equal(store.pull().values, {"x": torch.zeros(10)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": []}, r"the shards must be at least one, increase and be below 2, got \[\]"),
        ({"shards": [1, 0]}, r"increase and be below 2, got \[1, 0\]"),
        ({"shards": [0, 0]}, r"increase and be below 2, got \[0, 0\]"),
        ({"shards": [2]}, r"increase and be below 2, got \[2\]"),
        ({"tensors": {"positions": [1]}}, r"positions must increase and be below 1, got \[1\]"),
        ({"client": "a\nb"}, "`client` must be 1 to 200 printable"),
        ({"others": [""]}, "`client` must be 1 to 200 printable"),
    ],
)
def test_a_bad_pull_is_refused(closing: Closing, changes: dict[str, Any], message: str):
    layout = sgd_layout(shards=2)
    store = closing(GrpcStore(layout, [closing(ShardServer(layout, [0, 1], None)).address] * 2))
    store.initialize({"x": torch.zeros(10)})
    fields = {"target": store._target(0), "client": "mallory", "shards": [0, 1], "tensors": ALL}
    request = ps_pb2.PullRequest(**(fields | changes))
    with pytest.raises(MalformedMessage, match=message):
        store._calls.on_shard(0, time.monotonic(), lambda stub, options: list(stub.Pull(request, **options)))


@pytest.mark.parametrize("data", [float("nan"), float("inf"), 1e30])
def test_a_shard_refuses_bad_numbers_for_itself(closing: Closing, data: float):
    layout = sgd_layout(shards=2)
    store = closing(GrpcStore(layout, [closing(ShardServer(layout, [0, 1], None)).address] * 2))
    store.initialize({"x": torch.zeros(10)})
    numbers = np.ones(10, "<f4")
    numbers[7] = data
    request = ps_pb2.PushRequest(
        target=store._target(0),
        client="mallory",
        sequence=1,
        parts=PARTS,
        tensors=ALL,
        chunk=numbers.tobytes(),
        size_bytes=40,
        rates={"stranger": 0.1} if data == 1e30 else {},
    )
    reply = store._calls.on_shard(0, time.monotonic(), lambda stub, options: stub.Push(iter([request]), **options))
    names = [part.error.name for part in reply.message.parts]
    assert names == (["UnknownParameter"] * 2 if data == 1e30 else ["", "NonFinite"])
    assert [status.clients for status in store.status()] == [int(data != 1e30), 0]


def test_a_reply_without_the_shards_answers_is_noticed(closing: Closing):
    class Mute(grpc.ServerInterceptor):
        """Answers for no shard."""

        def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = continuation(details)
            if details.method.endswith("/Push"):
                return grpc.stream_unary_rpc_method_handler(
                    lambda *_: ps_pb2.PushReply(),
                    handler.request_deserializer,
                    handler.response_serializer,
                )
            return handler

    layout = sgd_layout(shards=2)
    server = closing(ShardServer(layout, [0, 1], None, interceptors=[Mute()]))
    with pytest.raises(MalformedMessage, match=r"the reply must be of the shards \[0, 1\], got \[\]"):
        closing(GrpcStore(layout, [server.address] * 2)).push(push(1, layout, x=torch.ones(10)))


def test_a_large_call_has_more_time():
    assert call_deadline(10, 0) == call_deadline(10, 32 * 2**20) == 10
    assert call_deadline(10, 80 * 2**20) == 25


def test_a_call_of_40_mb_has_its_deadline_on_both_sides(closing: Closing):
    """The server accepts the deadline that the client gives to a call of this size, and no longer one."""
    layout = sgd_layout(elements=10_000_000, shards=2)
    server = closing(ShardServer(layout, [0, 1], None, deadline_s=10))
    store = closing(GrpcStore(layout, [server.address] * 2, deadline_s=10))
    store.initialize({"x": torch.zeros(10_000_000)})
    store.push(push(1, layout, x=torch.ones(10_000_000)))
    assert store.pull().values["x"].sum().item() == -10_000_000
    request = ps_pb2.StatusRequest(target=store._target(0))
    longest_s = call_deadline(10, 40_000_000)
    assert longest_s > 11.9
    store._calls.on_shard(0, 0.0, lambda stub, options: stub.Status(request, **(options | {"timeout": longest_s})))
    with pytest.raises(MalformedMessage, match=r"must have a deadline of at most 11.9\d* s, got"):
        store._calls.on_shard(0, 0.0, lambda stub, options: stub.Status(request, **(options | {"timeout": 13})))


def test_small_shards_of_a_server_share_a_journal_until_it_stops(tmp_path: Path, closing: Closing):
    server = ShardServer(LAYOUT, range(20), tmp_path)
    store = closing(GrpcStore(LAYOUT, [server.address] * 20))
    store.initialize(start())
    store.push(push(1))
    assert len(list(tmp_path.glob("*.journal"))) == 2
    expected = store.pull()
    server.stop(grace_s=0)
    assert not list(tmp_path.glob("*.journal"))
    again = LocalStore(LAYOUT, tmp_path)  # which reads the shards' own files
    assert_equal(again.pull().values, expected.values)
    assert again.pull(client="a").applied == (1,) * 20
