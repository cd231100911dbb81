"""Which part of which GPU a child gets: the decisions as tables, and a pool that makes them over failures and kills."""

import asyncio
from collections.abc import Callable

import pytest

from child_trainer.outcome import Cause
from cluster.pool.failure_policy import FailurePolicy, parse_failure_policy
from cluster.pool.gpu_shares import (
    CONTEXT_BYTES,
    HEADROOM,
    MIN_ENDED,
    GpuSharing,
    MemoryUses,
    assign_to_gpus,
    memory_uses,
    workers_per_gpu,
)
from cluster.pool.supervision import Gpu, Nodes, Waiting, WorkerState
from tests.cluster.pool.simulated import START_S, Search, run_virtually
from tests.cluster.pool.test_pool import tell

GB = 10**9
NODES = Nodes(alive=frozenset({"n0"}))
SHARING = GpuSharing(8)
BIG = Gpu("big", 80 * GB)
SMALL = Gpu("small", 16 * GB)


@pytest.mark.parametrize(
    ("wanted", "gpus", "size", "workers"),
    [
        (800, 100, 80 * GB, 8),
        (800, 1000, 80 * GB, 1),
        (8, 2, 80 * GB, 4),
        (9, 2, 80 * GB, 8),
        (100, 1, 16 * GB, 4),
        (100, 1, 8 * GB, 2),
        (100, 1, 4 * GB, 1),
        (100, 1, None, 4),
        (100, 0, None, 4),
        (1, 8, None, 1),
    ],
)
def test_contexts_and_the_wanted_workers_limit_how_many_share_a_gpu(
    wanted: int, gpus: float, size: int | None, workers: int
) -> None:
    assert workers_per_gpu(wanted, gpus, size) == workers


@pytest.mark.parametrize(
    ("expected", "too_small", "share"),
    [(1, 0, 1 / 8), (8 * GB, 0, 1 / 4), (40 * GB, 0, 1), (500 * GB, 0, 1), (None, 0, 1), (1, 0.25, 0.5), (1, 0.5, 1)],
)
def test_a_part_holds_what_is_expected_and_is_larger_than_one_that_was_too_small(
    expected: int | None, too_small: float, share: float
) -> None:
    assert SHARING.share_of(BIG, expected, too_small) == share


def test_a_part_has_the_memory_that_the_contexts_of_all_processes_leave() -> None:
    assert SHARING.usable_bytes(BIG) == 80 * GB - 8 * CONTEXT_BYTES
    least = SHARING.limit_bytes(BIG, 1 / 8)
    assert SHARING.share_of(BIG, least / HEADROOM) == 1 / 8
    assert SHARING.share_of(BIG, least / HEADROOM + 1) == 1 / 4
    assert SHARING.share_of(SMALL, least / HEADROOM) == 1


def test_predictions_follow_what_nine_in_ten_children_took() -> None:
    uses = MemoryUses()
    assert uses.correction() == 1.0
    uses.add(100, 50)
    assert uses.correction() == 1.0, "so few children may be small by chance"
    uses.add(100, 140)
    assert uses.correction() == 1.4
    uses.add(None, 70)
    uses.add(100, None)
    for _ in range(MIN_ENDED):
        uses.add(100, 50)
    assert uses.correction() == 0.5
    assert memory_uses([(100, 140), (100, 50)]).correction() == 1.4, "the same from the ledger's record"


def idle(*gpus: Gpu | None) -> list[WorkerState]:
    return [WorkerState(slot=slot, node="n0", place=f"w{slot}", gpu=gpu) for slot, gpu in enumerate(gpus)]


def begun(
    workers: list[WorkerState], waiting: list[Waiting], in_use: dict[str, float] | None = None, nodes: Nodes = NODES
) -> list[tuple[int, int, float]]:
    chosen = assign_to_gpus(workers, waiting, nodes, in_use or {}, SHARING, 1.0)
    return [(one.child_id, one.slot, one.gpu.share) for one in chosen if one.gpu]


def child(number: int, size: int | None, **more: object) -> Waiting:
    return Waiting(child_id=number, gpu_bytes=size, **more)  # type: ignore[arg-type]


def test_children_go_where_the_largest_part_is_free() -> None:
    other = Gpu("other", 80 * GB)
    small = [child(number, GB) for number in range(1, 4)]
    assert begun(idle(BIG, BIG, other), small) == [(1, 0, 0.125), (2, 2, 0.125), (3, 1, 0.125)]
    assert begun(idle(BIG, other), small, {"big": 0.5}) == [(1, 1, 0.125), (2, 0, 0.125)]


def test_a_child_that_needs_a_whole_gpu_is_not_overtaken_for_ever() -> None:
    large, small = child(1, None), child(2, GB)
    assert begun(idle(BIG, BIG), [large, small], {"big": 0.125}) == []
    assert begun(idle(BIG, BIG), [large, small]) == [(1, 0, 1.0)]
    other = Gpu("other", 80 * GB)
    assert begun(idle(BIG, other), [large, small], {"big": 0.125, "other": 0.5}) == [(2, 1, 0.125)]


def test_draining_nodes_and_workers_without_a_gpu_get_none_and_other_slots_are_preferred_after_a_failure() -> None:
    assert begun(idle(BIG), [child(1, GB)], nodes=Nodes(draining=frozenset({"n0"}))) == []
    assert begun(idle(None), [child(1, GB)]) == []
    assert begun(idle(BIG, BIG), [child(1, GB, avoid=frozenset({0}))]) == [(1, 1, 0.125)]
    assert begun(idle(BIG), [child(1, GB, avoid=frozenset({0}))]) == [(1, 0, 0.125)]


def search(predicted: Callable[[int], int | None], takes: Callable[[int], int], **more: object) -> Search:
    options: dict[str, object] = {"children": 12, "slots": 8, "workers_per_gpu": 8, "gpu_of": lambda _: BIG}
    return Search(**(options | more), predicted=predicted, takes=takes)  # type: ignore[arg-type]


def most_in_use(done: Search) -> float:
    attempts = [one for child_id in range(1, done.children + 1) for one in done.ledger.attempts(child_id)]
    ends = {t.key: t.at for t in done.world.trained}
    now_in_use = [
        sum(a.gpu.share for a in attempts if a.gpu and a.started_at <= at.started_at < ends.get(a.key, 1e9))
        for at in attempts
    ]
    return max(now_in_use)


def test_eight_small_children_or_one_large_one_train_on_a_gpu_at_once() -> None:
    small = tell(search(lambda _: GB, lambda _: GB, children=8), within_s=START_S + 15)
    assert {order.gpu.share for order in small.world.orders if order.gpu} == {0.125}
    large = tell(search(lambda _: None, lambda _: GB, children=3))
    assert [t.at for t in large.world.trained] == sorted(t.at for t in large.world.trained)
    assert large.world.trained[-1].at > 30
    assert most_in_use(large) <= 1.0


def test_a_child_that_runs_out_of_memory_gets_larger_parts_up_to_the_whole_gpu_and_then_fails_as_ever() -> None:
    policy = FailurePolicy(max_attempts=3, by_cause=parse_failure_policy("out_of_memory=smaller-batch"))
    done = tell(search(lambda _: GB, lambda i: (30 if i == 1 else 500 if i == 2 else 1) * GB, policy=policy))
    shares = {i: [a.gpu and a.gpu.share for a in done.ledger.attempts(i)] for i in (1, 2, 3)}
    assert shares == {1: [0.125, 0.25, 0.5], 2: [0.125, 0.25, 0.5, 1.0, 1.0, 1.0], 3: [0.125]}
    assert [a.batch_size for a in done.ledger.attempts(2)] == [None, None, None, None, 32, 16]
    assert done.attempts(1)[-1] == ("outcome", None)
    assert done.attempts(2)[-1] == ("outcome", str(Cause.OUT_OF_MEMORY))


@pytest.mark.parametrize("killed", [False, True])
def test_what_children_took_corrects_the_parts_of_later_ones_also_after_a_kill(killed: bool) -> None:
    one = search(lambda _: 4 * GB, lambda _: 16 * GB, children=10)

    async def story() -> None:
        await one.begin(ask=False)
        await one.chain(range(1, 9))
        if killed:
            one.start_pool(ask=False)
        await one.chain(range(9, 11))

    run_virtually(story())
    parts = {i: [a.gpu and a.gpu.share for a in one.ledger.attempts(i)] for i in (1, 9, 10)}
    assert parts == {1: [0.125, 0.25], 9: [0.5], 10: [0.5]}


def test_a_pool_that_was_killed_knows_the_parts_in_use() -> None:
    async def story(one: Search) -> None:
        await asyncio.sleep(START_S + 5)
        one.start_pool()

    done = tell(search(lambda _: None, lambda _: GB, children=3), story)
    assert most_in_use(done) <= 1.0
    assert len(done.world.trained) == 3
