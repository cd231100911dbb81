"""A push that brings back what its client would pull after it, as a replica's next step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
import torch

from ps.consistency import Consistency
from ps.errors import LostPushes, MalformedMessage, NotDurable, StoreUnavailable, TooFarAhead
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
from ps.shard.journal import Journal
from ps.store import Ack, Layout, Push, Snapshot
from tests.contracts.parameter_store import assert_equal, sgd_layout
from tests.ps.rpc.test_batched_calls import LAYOUT, Count, push, start

Opened = Callable[[Any], Any]
Death = Literal["before", "after"]
"""Whether a server is gone before it applies a push, or after that and before its answer."""


@pytest.fixture
def opened() -> Iterator[Opened]:
    every: list[Any] = []

    def remember(one: Any) -> Any:
        every.append(one)
        return one

    yield remember
    for one in reversed(every):
        one.close() if isinstance(one, GrpcStore) else one.stop(0)


class Script(grpc.ServerInterceptor):
    """Makes the first pushes fail, before or after they are applied; counts pushes and which of them ask to pull."""

    def __init__(self, *deaths: Death | None) -> None:
        self.deaths: list[Death | None] = list(deaths)
        self.pulls: list[bool] = []

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if not details.method.endswith("/Push"):
            return handler

        def behave(requests: Any, context: grpc.ServicerContext) -> Any:
            sent = list(requests)
            self.pulls.append(sent[0].message.pull)
            death = self.deaths.pop(0) if self.deaths else None
            reply = handler.stream_unary(iter(sent), context) if death != "before" else None
            if death is not None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is gone, as the script says")
            return reply

        return grpc.stream_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)


def two_hosts(opened: Opened, layout: Layout, scripts: Sequence[Any], directory: Path | None = None) -> GrpcStore:
    """Return a store whose shards take turns between two servers."""
    hosts = [range(0, layout.shards, 2), range(1, layout.shards, 2)]
    servers = [
        opened(ShardServer(layout, shards, directory, interceptors=[script]))
        for shards, script in zip(hosts, scripts, strict=True)
    ]
    store = opened(GrpcStore(layout, [servers[shard % 2].address for shard in range(layout.shards)]))
    store.initialize(start(layout=layout))
    return store


def assert_same(pulled: Snapshot | None, expected: Snapshot) -> None:
    assert pulled is not None
    assert replace(pulled, values={}) == replace(expected, values={})
    assert_equal(pulled.values, expected.values)


def test_a_push_brings_back_what_a_pull_after_it_gives_in_one_call_to_each_process(opened: Opened):
    counts = Count(), Count()
    store = two_hosts(opened, LAYOUT, counts)
    for sequence in (1, 2):
        for count in counts:
            count.calls.clear()
        ack, pulled = store.push_and_pull(push(sequence))
        assert [count.calls for count in counts] == [{"Push": 1}] * 2
        assert ack == Ack((sequence,) * 20, (1,) * 20, (sequence - 1,) * 20, duplicate=False)
        assert_same(pulled, store.pull(client="a"))
    store.push(push(1, client="b"))
    _, pulled = store.push_and_pull(push(3))
    assert_same(pulled, store.pull(client="a"))


def test_the_values_are_the_callers_own(opened: Opened):
    store = two_hosts(opened, LAYOUT, (Count(), Count()))
    _, pulled = store.push_and_pull(push(1))
    assert pulled is not None
    before = store.pull().values
    for tensor in pulled.values.values():
        tensor.fill_(99)
    assert_equal(store.pull().values, before)


def test_a_push_of_some_tensors_or_of_none_brings_back_all(opened: Opened):
    store = two_hosts(opened, LAYOUT, (Count(), Count()))
    _, pulled = store.push_and_pull(push(1, t=torch.tensor(2.0)))
    assert_same(pulled, store.pull(client="a"))
    _, pulled = store.push_and_pull(replace(push(2), gradients={}))
    assert_same(pulled, store.pull(client="a"))


def test_a_plain_push_brings_back_nothing(opened: Opened):
    scripts = Script(), Script()
    store = two_hosts(opened, LAYOUT, scripts)
    store.push(push(1))
    store.push_and_pull(push(2))
    assert [script.pulls for script in scripts] == [[False, True]] * 2


@pytest.mark.parametrize("durable", [False, True], ids=["in_memory", "durable"])
@pytest.mark.parametrize("death", ["before", "after"])
def test_a_server_that_is_gone_in_the_middle_applies_the_push_once_and_the_client_pulls_afresh(
    opened: Opened, tmp_path: Path, death: Death, *, durable: bool
):
    scripts = Script(), Script(None, death)
    store = two_hosts(opened, LAYOUT, scripts, tmp_path if durable else None)
    twin = two_hosts(opened, LAYOUT, (Count(), Count()))
    for sequence in (1, 2, 3):
        ack, pulled = store.push_and_pull(push(sequence))
        twin.push(push(sequence))
        assert ack.versions == (sequence,) * 20
        if sequence == 2:
            # The other server's answer is older than the ack.
            assert pulled is None
            assert not ack.duplicate
        else:
            assert_same(pulled, store.pull(client="a"))
        assert_same(store.pull(client="a"), twin.pull(client="a"))
    assert [script.pulls for script in scripts] == [[True] * 3, [True, True, False, True]]
    statuses = store.status()
    assert [status.pushes for status in statuses] == [3] * 20
    assert [status.duplicates for status in statuses] == [0, int(death == "after")] * 10


def test_a_restarted_server_has_what_it_sent_with_an_ack(opened: Opened, tmp_path: Path):
    layout = sgd_layout(shards=2)
    first = ShardServer(layout, [0, 1], tmp_path)
    where = [first.address] * 2
    store: GrpcStore = opened(GrpcStore(layout, lambda: list(where)))
    store.initialize({"x": torch.zeros(10)})
    _, pulled = store.push_and_pull(one(1))
    assert pulled is not None
    first._server.stop(0).wait()  # and it writes nothing more
    where[:] = [opened(ShardServer(layout, [0, 1], tmp_path)).address] * 2
    ack, after = store.push_and_pull(replace(one(2), versions=pulled.versions, applied=pulled.applied))
    assert after is None, "it was called at its old address first"
    assert (ack.versions, ack.incarnations, ack.staleness) == ((2, 2), (2, 2), (0, 0))
    assert_equal(store.pull().values, {"x": pulled.values["x"] - 1})


def test_a_push_that_was_applied_before_brings_back_nothing(opened: Opened):
    """A copy that the network has delayed must not do what a pull does."""
    store = two_hosts(opened, LAYOUT, (Count(), Count()))
    store.push(push(1))
    ack, pulled = store.push_and_pull(push(1))
    assert ack.duplicate
    assert pulled is None


def test_a_late_copy_of_a_push_does_not_make_a_client_that_has_left_a_member_again(opened: Opened):
    store = two_hosts(opened, members("ssp", 0), (Count(), Count()))
    for client in "ab":
        store.push_and_pull(one(1, client))
    store.leave("b")
    store.push_and_pull(one(1, "b"))
    store.push_and_pull(one(2, "a"))
    store.pull(client="a")  # does not wait for it


def members(mode: Literal["ssp", "sync"], bound: int) -> Layout:
    consistency = (
        Consistency(mode=mode, members=("a", "b"), bound=bound)
        if mode == "ssp"
        else Consistency(mode=mode, members=("a", "b"))
    )
    return replace(sgd_layout(shards=2), consistency=consistency)


def one(sequence: int, client: str = "a") -> Push:
    return Push(client=client, sequence=sequence, gradients={"x": torch.ones(10)}, versions=(0, 0))


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_a_client_at_the_bound_gets_nothing_with_its_ack_and_its_pull_is_refused(opened: Opened, bound: int):
    store = two_hosts(opened, members("ssp", bound), (Count(), Count()))
    for sequence in range(1, bound + 1):
        _, pulled = store.push_and_pull(one(sequence))
        assert_same(pulled, store.pull(client="a"))
    _, pulled = store.push_and_pull(one(bound + 1))
    assert pulled is None
    with pytest.raises(TooFarAhead):
        store.pull(client="a")
    _, pulled = store.push_and_pull(one(1, "b"))
    assert pulled is not None, "the slower one need not wait"
    assert store.pull(client="a").applied == (bound + 1,) * 2


def test_in_a_synchronous_round_only_its_last_push_brings_back_the_step(opened: Opened):
    store = two_hosts(opened, members("sync", 0), (Count(), Count()))
    _, pulled = store.push_and_pull(one(1))
    assert pulled is None
    with pytest.raises(TooFarAhead):
        store.pull(client="a")
    _, pulled = store.push_and_pull(one(1, "b"))
    assert_same(pulled, store.pull(client="b"))
    assert pulled is not None
    assert_equal(pulled.values, {"x": start(layout=members("sync", 0))["x"] - 1})


def test_a_push_that_could_not_be_written_brings_back_nothing(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = two_hosts(opened, LAYOUT, (Count(), Count()), tmp_path)
    before = store.pull(client="a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        with pytest.raises(NotDurable):
            store.push_and_pull(push(1))
    assert_same(store.pull(client="a"), before)
    _, pulled = store.push_and_pull(push(1))
    assert_same(pulled, store.pull(client="a"))


def test_a_shard_that_has_lost_pushes_refuses_the_push(opened: Opened):
    server = opened(ShardServer(LAYOUT, range(20), None))
    store: GrpcStore = opened(GrpcStore(LAYOUT, [server.address] * 20))
    store.initialize(start())
    before = server._shards[7]._shard.state()
    store.push_and_pull(push(1))
    server._shards[7]._shard.restore(before)
    with pytest.raises(LostPushes):
        store.push_and_pull(replace(push(2), applied=(1,) * 20))
    ack, pulled = store.push_and_pull(push(1))
    assert not ack.duplicate, "shard 7 had lost it"
    assert pulled is None
    assert store.pull(client="a").applied == tuple(1 if shard == 7 else 2 for shard in range(20))


def test_values_that_do_not_fit_into_a_message_are_pulled_as_ever(opened: Opened):
    layout = sgd_layout(elements=600_000, shards=2)
    store: GrpcStore = opened(GrpcStore(layout, [opened(ShardServer(layout, [0, 1], None)).address] * 2))
    store.initialize({"x": torch.zeros(600_000)})
    ack, pulled = store.push_and_pull(push(1, layout, x=torch.ones(600_000)))
    assert pulled is None
    assert ack.versions == (1, 1)
    assert torch.equal(store.pull(client="a").values["x"], torch.full((600_000,), -1.0))


class Garble(grpc.ServerInterceptor):
    """Answers with other data than the server's."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if not details.method.endswith("/Push"):
            return handler

        def behave(requests: Any, context: grpc.ServicerContext) -> Any:
            reply = handler.stream_unary(requests, context)
            reply.chunk = [self.chunk]
            return reply

        return grpc.stream_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)


@pytest.mark.parametrize(("size", "got"), [(0, "0"), (39, "39"), (41, "more")])
def test_data_that_are_not_the_shards_are_refused(opened: Opened, size: int, got: str):
    layout = sgd_layout(shards=2)
    server = opened(ShardServer(layout, [0, 1], None, interceptors=[Garble(b"\0" * size)]))
    store: GrpcStore = opened(GrpcStore(layout, [server.address] * 2))
    store.initialize({"x": torch.zeros(10)})
    with pytest.raises(MalformedMessage, match=rf"the shards \[0, 1\] must answer with 40 bytes, got {got}$"):
        store.push_and_pull(one(1))


def test_a_store_that_is_closed_says_so(opened: Opened):
    layout = sgd_layout(shards=2)
    store: GrpcStore = opened(GrpcStore(layout, [opened(ShardServer(layout, [0, 1], None)).address] * 2))
    store.close()
    with pytest.raises(StoreUnavailable):
        store.push_and_pull(one(1))
