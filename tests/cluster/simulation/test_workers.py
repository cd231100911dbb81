"""Simulated workers behind the pool's protocol."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest

from child_trainer.outcome import Outcome
from cluster.pool.protocol import CallLost, NotStarted, TrainingOrder
from cluster.pool.supervision import Rules
from cluster.search.evaluator import Assignment
from cluster.simulation.clock import VirtualLoop
from cluster.simulation.cluster_model import RESTART_S, ClusterModel
from cluster.simulation.fake_searcher import PROPOSAL, fake_outcome
from cluster.simulation.worker_log import BusyInterval
from cluster.simulation.workers import SimulatedWorkers

HOUR_S = 3600.0

Story = Callable[[SimulatedWorkers], Coroutine[Any, Any, None]]


def tell(story: Story, model: ClusterModel | None = None, rules: Rules | None = None, workers: int = 1) -> None:
    """Run a story of workers whose children all take an hour, in ten epochs."""

    def trains(assignment: Assignment) -> tuple[Outcome, float]:
        return fake_outcome(assignment.seed, HOUR_S), HOUR_S

    async def work() -> None:
        group = SimulatedWorkers(
            workers, trains, model or ClusterModel(child_seconds=None), rules or Rules(), epochs=10, seed=1
        )
        await story(group)

    with closing(VirtualLoop()) as loop:
        loop.run_work(work())


def order(place: str, child_id: int = 7, key: str = "k") -> TrainingOrder:
    assignment = Assignment(child_id=child_id, architecture=PROPOSAL.architecture, seed=child_id)
    return TrainingOrder(key=key, place=place, assignment=assignment, batch_size=None)


def now() -> float:
    return asyncio.get_running_loop().time()


PREEMPTED = ClusterModel(child_seconds=None, preempted_per_s=4 / HOUR_S, replace_after_s=100.0)
"""Few children of an hour train without an interruption."""


def test_a_worker_keeps_its_outcome_until_the_next_child() -> None:
    async def story(group: SimulatedWorkers) -> None:
        before = await group.report(0)
        assert (before.trained, before.key, before.outcomes, before.previous_exit) == (0, None, (), None)
        (outcome,) = await group.train(0, order(before.place))
        assert (outcome, now()) == (fake_outcome(7, HOUR_S), HOUR_S)
        after = await group.report(0)
        assert (after.place, after.trained, after.key, after.outcomes) == (before.place, 1, "k", (outcome,))
        assert group.worker_log.intervals == [BusyInterval(7, 0.0, HOUR_S, HOUR_S)]
        assert (await group.nodes()).alive == {before.node}

    tell(story)


def test_messages_take_their_time() -> None:
    async def story(group: SimulatedWorkers) -> None:
        place = (await group.report(0)).place
        assert now() == 4.0
        await group.train(0, order(place))
        assert now() == 8.0 + HOUR_S

    tell(story, ClusterModel(child_seconds=None, delay_s=2.0))


def test_an_order_for_another_process_is_refused() -> None:
    async def story(group: SimulatedWorkers) -> None:
        with pytest.raises(NotStarted):
            await group.train(0, order("somebody else"))
        assert group.worker_log.intervals == []

    tell(story)


def test_a_restarted_process_reports_the_death_of_the_last_one() -> None:
    async def story(group: SimulatedWorkers) -> None:
        first = await group.report(0)
        training = asyncio.create_task(group.train(0, order(first.place)))
        await asyncio.sleep(60.0)
        await group.restart(0, "an earlier process")
        assert not training.done()
        await group.restart(0, first.place)
        with pytest.raises(CallLost):
            await training
        second = await group.report(0)
        assert now() == 60.0 + RESTART_S
        assert (second.node, second.place != first.place, second.trained) == (first.node, True, 0)
        assert second.previous_exit is not None
        assert (second.previous_exit.place, second.previous_exit.key) == (first.place, "k")
        assert group.worker_log.intervals == [BusyInterval(7, 0.0, 60.0, 0.0)]

    tell(story)


def test_a_preempted_machine_interrupts_its_child_and_is_replaced() -> None:
    async def story(group: SimulatedWorkers) -> None:
        heard = list[tuple[int, str, str | None]]()

        async def beat(*words: Any) -> None:
            heard.append(words)

        group.beat = beat
        first = await group.report(0)
        with pytest.raises(CallLost):
            await group.train(0, order(first.place))
        gone = now()
        assert (await group.nodes()).alive == frozenset()
        assert group.worker_log.outages == [(gone, math.inf)]
        assert group.worker_log.intervals == [BusyInterval(7, 0.0, gone, 0.0)]
        with pytest.raises(CallLost, match="is unavailable"):
            await group.train(0, order(first.place))
        await group.look()
        assert now() == math.floor(gone) + 1
        second = await group.report(0)
        assert now() == pytest.approx(gone + 100.0)
        assert (second.node != first.node, second.previous_exit) == (True, None)
        assert (await group.nodes()).alive == {second.node}
        await asyncio.sleep(0)
        assert heard == [(0, second.place, None)]
        assert (group.worker_log.preemptions, group.worker_log.interrupted) == (1, 1)
        assert group.worker_log.outage_s(gone + 40.0) == pytest.approx(40.0)
        assert group.worker_log.outage_s(gone + 1e6) == pytest.approx(100.0)

    tell(story, PREEMPTED)


def test_a_child_resumes_from_its_checkpoint() -> None:
    async def story(group: SimulatedWorkers) -> None:
        attempts = 0
        while True:
            report = await group.report(0)
            attempts += 1
            try:
                await group.train(0, order(report.place, key=str(attempts)))
                break
            except CallLost:
                pass
        intervals = group.worker_log.intervals
        assert len(intervals) == attempts > 1
        assert sum(interval.useful_s for interval in intervals) == pytest.approx(HOUR_S)
        for interval in intervals:
            assert interval.useful_s == pytest.approx(interval.ended_at - interval.started_at, abs=HOUR_S / 10)
        while True:
            report, started = await group.report(0), now()
            group.forget(7)
            try:
                await group.train(0, order(report.place, key=f"again at {started}"))
                break
            except CallLost:
                pass
        assert now() - started == pytest.approx(HOUR_S)  # from the start, once its checkpoint is forgotten

    tell(story, PREEMPTED, Rules(checkpoints=True))


@pytest.mark.parametrize(("workers", "interval_s"), [(999, 1.0), (3500, 3.0)])
def test_many_workers_are_polled_less_often(workers: int, interval_s: float) -> None:
    async def story(group: SimulatedWorkers) -> None:
        for _ in range(3):
            await group.look()
            assert now() % interval_s == 0.0
        assert group.worker_log.preemptions >= 3

    tell(story, PREEMPTED, workers=workers)
