"""Seeds that are trained as one by the pool's workers (`--fuse-seeds`), when workers, the pool or calls fail."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from child_trainer.outcome import FUSED, Cause
from cluster.pool.failure_policy import ISOLATE_AFTER_LOST, FailurePolicy
from cluster.pool.supervision import Gpu, Nodes, Rules
from tests.cluster.pool.simulated import START_S, Search, good, run_virtually
from tests.cluster.pool.test_pool import tell

GB = 10**9


def seeds(children: int = 3, slots: int = 1, **options: object) -> Search:
    return Search(children=children, slots=slots, fuse_seeds=3, **options)  # type: ignore[arg-type]


def groups(search: Search) -> list[list[int]]:
    """Return which children each order had that a worker began."""
    return [[one.child_id for one in order.assignments] for order in search.world.orders]


def times(search: Search) -> list[tuple[float, float]]:
    query = "SELECT started_at, ended_at FROM attempts ORDER BY started_at"
    return search.ledger._connection.execute(query).fetchall()


def test_seeds_that_wait_together_are_one_order_and_each_is_a_child_of_its_own() -> None:
    search = tell(seeds(children=7, slots=2))
    assert groups(search) == [[1, 2, 3], [4, 5, 6], [7]]
    assert all(search.attempts(i) == [("outcome", None)] for i in range(1, 8))
    assert sorted(search.world.forgotten) == list(range(1, 8))
    keys = [search.ledger.attempts(i)[0].key for i in range(1, 8)]
    assert keys == ["k0", "k0+1", "k0+2", "k1", "k1+1", "k1+2", "k2"]
    outcomes = {child.id: child.outcome for child in search.ledger.history()}
    assert outcomes[2] == replace(good(102), measurements={FUSED: 3.0})
    assert outcomes[7] == good(107)


def test_children_of_one_call_wait_together_also_where_workers_are_idle() -> None:
    async def whole() -> None:
        search = seeds(children=3, slots=3)
        await search.begin(ask=False)
        await asyncio.sleep(START_S + 1)
        left = [search.assignment(child.id) for child in search.ledger.pending()]
        while left:
            ended = dict((await search.pool.collect(left)).ended)
            left = [one for one in left if one.child_id not in ended]
        assert groups(search) == [[1, 2, 3]]

    run_virtually(whole())


def test_attempts_as_one_share_the_time_of_their_worker_and_while_they_run_the_first_has_it() -> None:
    from cluster.storage.ledger.queries.report import attempt_seconds, busy_edges

    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 10)
        assert len(search.ledger.running()) == 3
        db, now = search.ledger._connection, search.now()
        assert attempt_seconds(db, now) == pytest.approx(9.4, abs=0.5)
        assert sum(count for _, count in busy_edges(db, 1, 100.0, 0.0, now).values()) == 0

    search = tell(seeds(), story)
    (first, *_, last) = times(search)
    assert last[1] - first[0] == pytest.approx(30.4, abs=0.5)
    assert [end - start for start, end in times(search)] == pytest.approx([(last[1] - first[0]) / 3] * 3)
    assert search.ledger._connection.execute("SELECT attempt_seconds FROM totals").fetchone()[0] == pytest.approx(
        last[1] - first[0]
    )


def test_the_time_of_attempts_that_a_dead_run_lost_counts_once() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 10)
        search.ledger.beat()
        search.die()

    search = tell(seeds(), story)
    assert [search.attempts(i) for i in (1, 2, 3)] == [[("lost", None), ("outcome", None)]] * 3
    assert groups(search) == [[1, 2, 3]] * 2
    assert sum(end - start for start, end in times(search)) == pytest.approx(40.4, abs=1.5)


def test_a_killed_worker_loses_no_child_and_each_is_trained_again_alone() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.kill(search.slot_of(1))

    search = tell(seeds(children=4, slots=2), story)
    for child in (1, 2, 3):
        assert search.attempts(child) == [("retry", "crashed"), ("outcome", None)]
    assert search.attempts(4) == [("outcome", None)]
    assert sorted(groups(search)[2:]) == [[1], [2], [3]]
    assert Counter(t.child_id for t in search.world.trained) == Counter(range(1, 5))
    text = search.ledger.attempts(2)[0].outcome.failure.message  # type: ignore[union-attr]
    assert "exited without a message" in text


@pytest.mark.parametrize("pause", [5.0, 30.3])
def test_a_pool_that_is_killed_takes_the_outcomes_of_all_from_the_worker(pause: float) -> None:
    """It is killed in the middle of the training, and when the outcomes are being recorded."""

    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + pause)
        search.start_pool()

    search = tell(seeds(), story)
    assert [search.attempts(i) for i in (1, 2, 3)] == [[("outcome", None)]] * 3
    assert groups(search) == [[1, 2, 3]]


def test_a_lost_call_is_no_failure_of_any() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.cut(0)

    search = tell(seeds(), story)
    assert [search.attempts(i) for i in (1, 2, 3)] == [[("outcome", None)]] * 3
    assert groups(search) == [[1, 2, 3]]


def test_late_results_of_an_abandoned_order_are_no_second_outcomes() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.mute(0)
        search.world.cut(0)

    search = tell(seeds(slots=2, seconds=lambda _: 15.0), story)
    for child in (1, 2, 3):
        first, second = search.ledger.attempts(child)
        assert (first.verdict, first.cause, first.outcome and first.outcome.seed) == ("late", "crashed", 100 + child)
        assert (second.verdict, second.cause) == ("outcome", None)


def test_those_that_are_given_back_form_the_same_group_again() -> None:
    """Only so can they go on from its checkpoint, whoever waits meanwhile."""

    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.nodes_ = replace(search.world.nodes_, draining=frozenset({"n0"}))
        await asyncio.sleep(10)
        search.world.nodes_ = Nodes(alive=frozenset({"n0", "n1"}))

    search = tell(seeds(children=4, rules=Rules(checkpoints=True)), story)
    assert groups(search) == [[1, 2, 3], [4], [1, 2, 3]]
    assert [search.attempts(i) for i in (1, 2, 3)] == [[("retry", "preempted"), ("outcome", None)]] * 3


def test_a_stop_gives_all_back_and_the_next_start_trains_them_as_one() -> None:
    async def whole() -> None:
        search = seeds(children=4, rules=Rules(checkpoints=True))
        await search.begin()
        await asyncio.sleep(START_S + 5)
        await search.pool.stop()
        assert not search.ledger.running()
        search.die()
        await search.until_all_have_ended()
        assert groups(search) == [[1, 2, 3], [1, 2, 3], [4]]
        assert [search.attempts(i) for i in (1, 2, 3)] == [[("retry", "preempted"), ("outcome", None)]] * 3

    run_virtually(whole())


def test_one_that_diverges_concerns_no_other() -> None:
    search = tell(seeds(results={2: Cause.DIVERGED}))
    assert [search.attempts(i)[-1] for i in (1, 2, 3)] == [
        ("outcome", None),
        ("outcome", "diverged"),
        ("outcome", None),
    ]
    assert groups(search) == [[1, 2, 3]]


def test_those_that_lack_memory_as_one_are_trained_alone_which_is_no_failure() -> None:
    search = tell(seeds(fits=2, policy=FailurePolicy(max_attempts=1)))
    assert groups(search) == [[1, 2, 3], [1], [2], [3]]
    assert [search.attempts(i) for i in (1, 2, 3)] == [[("retry", "out_of_memory"), ("outcome", None)]] * 3


def test_those_that_lacked_memory_as_one_are_trained_alone_by_the_next_pool_too() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 32)
        search.start_pool()

    search = tell(seeds(fits=2, policy=FailurePolicy(max_attempts=1)), story)
    assert groups(search) == [[1, 2, 3], [1], [2], [3]]


@pytest.mark.parametrize(("seconds", "verdict"), [(50.0, None), (1e6, "timeout")])
def test_a_group_may_take_as_long_as_its_children_one_after_another(seconds: float, verdict: str | None) -> None:
    search = tell(seeds(seconds=lambda _: seconds, rules=Rules(child_timeout_s=60)))
    assert [search.attempts(i) for i in (1, 2, 3)] == [[("outcome", verdict)]] * 3
    if verdict:
        assert search.ended_at[1] == pytest.approx(START_S + 182, abs=2)
        text = search.ledger.attempts(2)[0].outcome.failure.message  # type: ignore[union-attr]
        assert text.startswith("3 children as one have taken 18")
        assert text.endswith(" s, and a child may take 60 s")


def test_what_a_worker_refuses_to_train_as_one_is_trained_alone_and_the_user_reads_why_once() -> None:
    async def whole() -> None:
        search = seeds(children=6, slots=2, refusal="a CPU is slower")
        await search.begin()
        news = await search.pool.next_news()
        await search.until_all_have_ended()
        assert news == "`--fuse-seeds` trains no seeds of a network as one: a CPU is slower."
        assert search.pool._news.empty()
        assert sorted(groups(search)) == [[1], [2], [3], [4], [5], [6]]
        assert all(search.attempts(i) == [("void", None), ("outcome", None)] for i in range(1, 7))

    run_virtually(whole())


def test_what_dies_with_the_run_again_and_again_is_isolated() -> None:
    async def story(search: Search) -> None:
        while search.ledger.completed() < search.children:
            await asyncio.sleep(0.5)
            if any(a.child_id == 2 and search.now() - a.started_at > 2 for a in search.ledger.running()):
                search.die()

    search = tell(seeds(children=4, slots=2), story)
    assert len(search.ledger.attempts(2)) > ISOLATE_AFTER_LOST
    assert {t.child_id for t in search.world.trained} == {1, 3, 4}


def seeds_on_a_gpu(predicted: int, takes: int) -> Search:
    gpu = Gpu("n0/0", 80 * GB)
    parts = {"workers_per_gpu": 8, "gpu_of": lambda _: gpu}
    return seeds(slots=8, predicted=lambda _: predicted, takes=lambda _: takes, **parts)


def test_a_group_gets_the_part_of_a_gpu_that_its_children_need_together() -> None:
    search = tell(seeds_on_a_gpu(8 * GB, 8 * GB))
    assert groups(search) == [[1, 2, 3]]
    uses = [search.ledger.attempts(i)[0].gpu for i in (1, 2, 3)]
    assert [(use.share, use.predicted_bytes) for use in uses if use] == [(0.5, 8 * GB)] * 3
    assert sorted(search.ledger.memory_uses()) == [(8 * GB, 8 * GB)] * 3


def test_a_group_that_lacks_memory_in_its_part_of_a_gpu_raises_no_childs_part() -> None:
    search = tell(seeds_on_a_gpu(GB, 8 * GB))
    assert groups(search)[0] == [1, 2, 3]
    assert [search.attempts(i)[0] for i in (1, 2, 3)] == [("retry", "out_of_memory")] * 3
    assert [use.share for i in (1, 2, 3) if (use := search.ledger.attempts(i)[1].gpu)] == [0.125] * 3
    assert [search.attempts(i)[1] for i in (1, 2, 3)] == [("outcome", None)] * 3
