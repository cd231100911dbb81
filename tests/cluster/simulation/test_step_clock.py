"""Steps of many workers at one pace, on the virtual clock."""

import asyncio
from contextlib import closing

import pytest

from cluster.simulation.clock import VirtualLoop
from cluster.simulation.step_clock import StepClock

SECONDS = (1.0, 2.0, 4.0)
"""Of a step when one, two or three workers make steps."""


def run(script: list[tuple[float, str, float]]) -> tuple[dict[str, float], StepClock, dict[str, float]]:
    """Start (a count of steps) or cancel (0) workers at some times; return when each ended, the clock, what was cut."""
    ended: dict[str, float] = {}
    cut: dict[str, float] = {}
    clock = StepClock(SECONDS)

    async def work() -> None:
        loop, timers = asyncio.get_running_loop(), {}
        for at, name, steps in script:
            await asyncio.sleep(at - loop.time())
            if steps:
                timers[name] = clock.start(steps, lambda name=name: ended.__setitem__(name, loop.time()))
            else:
                cut[name] = clock.cancel(timers[name])
        await asyncio.sleep(100)

    with closing(VirtualLoop()) as loop:
        loop.run_work(work())
    return ended, clock, cut


def test_one_worker_makes_a_step_in_its_time() -> None:
    ended, clock, _ = run([(0, "a", 3)])
    assert ended == {"a": 3.0}
    assert (clock.log.steps, clock.log.worker_s, clock.log.busy_s) == pytest.approx((3, 3, 3))


def test_workers_slow_each_other_down_while_they_are_together() -> None:
    """From second 1 on two share: `b`'s 2 steps take 4 s, in which `a` makes its second and third; then it is alone."""
    ended, clock, _ = run([(0, "a", 4), (1, "b", 2)])
    assert ended == pytest.approx({"b": 5.0, "a": 6.0})
    assert (clock.log.steps, clock.log.worker_s, clock.log.busy_s) == pytest.approx((6, 10, 6))


def test_a_worker_that_is_cut_has_made_some_steps_and_frees_the_others() -> None:
    ended, _, cut = run([(0, "a", 4), (0, "b", 9), (3, "b", 0)])
    assert cut == pytest.approx({"b": 1.5})
    assert ended == pytest.approx({"a": 5.5})


def test_a_pause_between_steps_counts_nothing() -> None:
    ended, clock, _ = run([(0, "a", 1), (10, "b", 1)])
    assert ended == pytest.approx({"a": 1.0, "b": 11.0})
    assert clock.log.busy_s == pytest.approx(2.0)
