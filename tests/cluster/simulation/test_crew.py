"""Simulated workers as the pool meets them: what they answer, and what becomes of what they train."""

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
from cluster.simulation.conditions import RESTART_S, Conditions
from cluster.simulation.crew import SimulatedWorkers, Stint
from cluster.simulation.stand_in import PROPOSAL, trained

HOUR_S = 3600.0

Story = Callable[[SimulatedWorkers], Coroutine[Any, Any, None]]


def tell(story: Story, conditions: Conditions | None = None, rules: Rules | None = None, workers: int = 1) -> None:
    """What happens to workers whose children all take an hour, in ten epochs."""

    def trains(assignment: Assignment) -> tuple[Outcome, float]:
        return trained(assignment.seed, HOUR_S), HOUR_S

    async def work() -> None:
        group = SimulatedWorkers(
            workers, trains, conditions or Conditions(child_seconds=None), rules or Rules(), epochs=10, seed=1
        )
        await story(group)

    with closing(VirtualLoop()) as loop:
        loop.carry_out(work())


def order(place: str, child_id: int = 7, key: str = "k") -> TrainingOrder:
    assignment = Assignment(child_id=child_id, architecture=PROPOSAL.architecture, seed=child_id)
    return TrainingOrder(key=key, place=place, assignment=assignment, batch_size=None)


def now() -> float:
    return asyncio.get_running_loop().time()


PREEMPTED = Conditions(child_seconds=None, preempted_per_s=4 / HOUR_S, replace_after_s=100.0)
"""An hour is hardly ever had in one piece."""


def test_a_worker_trains_and_keeps_what_that_gave_until_the_next_child() -> None:
    async def story(group: SimulatedWorkers) -> None:
        before = await group.report(0)
        assert (before.trained, before.key, before.outcome, before.previous_exit) == (0, None, None, None)
        outcome = await group.train(0, order(before.place))
        assert (outcome, now()) == (trained(7, HOUR_S), HOUR_S)
        after = await group.report(0)
        assert (after.place, after.trained, after.key, after.outcome) == (before.place, 1, "k", outcome)
        assert group.diary.stints == [Stint(7, 0.0, HOUR_S, HOUR_S)]
        assert (await group.nodes()).alive == {before.node}

    tell(story)


def test_messages_take_their_time() -> None:
    async def story(group: SimulatedWorkers) -> None:
        place = (await group.report(0)).place
        assert now() == 4.0
        await group.train(0, order(place))
        assert now() == 8.0 + HOUR_S

    tell(story, Conditions(child_seconds=None, delay_s=2.0))


def test_an_order_for_another_process_is_refused() -> None:
    async def story(group: SimulatedWorkers) -> None:
        with pytest.raises(NotStarted):
            await group.train(0, order("somebody else"))
        assert group.diary.stints == []

    tell(story)


def test_a_process_that_is_ended_leaves_word_and_its_successor_is_up_soon() -> None:
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
        assert group.diary.stints == [Stint(7, 0.0, 60.0, 0.0)]

    tell(story)


def test_a_machine_that_goes_takes_its_child_with_it_and_another_comes() -> None:
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
        assert group.diary.away == [(gone, math.inf)]
        assert group.diary.stints == [Stint(7, 0.0, gone, 0.0)]
        with pytest.raises(CallLost, match="is away"):
            await group.train(0, order(first.place))
        await group.look()
        assert now() == math.floor(gone) + 1
        second = await group.report(0)
        assert now() == pytest.approx(gone + 100.0)
        assert (second.node != first.node, second.previous_exit) == (True, None)
        assert (await group.nodes()).alive == {second.node}
        await asyncio.sleep(0)
        assert heard == [(0, second.place, None)]
        assert (group.diary.preemptions, group.diary.cut) == (1, 1)
        assert group.diary.away_s(gone + 40.0) == pytest.approx(40.0)
        assert group.diary.away_s(gone + 1e6) == pytest.approx(100.0)

    tell(story, PREEMPTED)


def test_what_a_child_has_saved_it_need_not_do_again() -> None:
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
        stints = group.diary.stints
        assert len(stints) == attempts > 1
        assert sum(stint.useful_s for stint in stints) == pytest.approx(HOUR_S)
        for stint in stints:
            assert stint.useful_s == pytest.approx(stint.ended_at - stint.began_at, abs=HOUR_S / 10)
        while True:
            report, begun = await group.report(0), now()
            group.forget(7)
            try:
                await group.train(0, order(report.place, key=f"again at {begun}"))
                break
            except CallLost:
                pass
        assert now() - begun == pytest.approx(HOUR_S)  # all of it, once it is forgotten

    tell(story, PREEMPTED, Rules(checkpoints=True))


@pytest.mark.parametrize(("workers", "interval_s"), [(999, 1.0), (3500, 3.0)])
def test_a_large_fleet_is_looked_at_less_often(workers: int, interval_s: float) -> None:
    async def story(group: SimulatedWorkers) -> None:
        for _ in range(3):
            await group.look()
            assert now() % interval_s == 0.0
        assert group.diary.preemptions >= 3

    tell(story, PREEMPTED, workers=workers)
