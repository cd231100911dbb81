"""The virtual clock and its event loop."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, TypeVar

import pytest

from cluster.simulation.clock import Events, VirtualLoop

T = TypeVar("T")


def test_actions_run_by_time_and_then_in_order_of_scheduling() -> None:
    events, done = Events(), list[tuple[str, float]]()

    def note(name: str) -> Callable[[], None]:
        return lambda: done.append((name, events.now))

    for seconds, name in ((5, "c"), (1, "a"), (5, "d"), (3, "b")):
        events.at(seconds, note(name))
    assert events.advance()
    events.at(3, note("b, planned later"))
    events.at(0.5, note("what was to be before"))
    while events.advance():
        pass
    assert done == [
        ("a", 1), ("what was to be before", 1), ("b", 3), ("b, planned later", 3), ("c", 5), ("d", 5)
    ]  # fmt: skip
    assert not events.advance()


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    with closing(VirtualLoop()) as loop:
        return loop.run_work(work)


def test_sleeping_tasks_wake_in_virtual_time_and_in_order() -> None:
    async def work() -> list[tuple[str, float]]:
        loop, woken = asyncio.get_running_loop(), list[tuple[str, float]]()

        async def sleep(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, loop.time()))

        await asyncio.gather(sleep("c", 7200.0), sleep("a", 1.0), sleep("b", 1.0), sleep("at once", 0.0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 10.0)
        woken.append(("after a timeout", loop.time()))
        return woken

    started = time.monotonic()
    assert run_virtually(work()) == [("at once", 0), ("a", 1), ("b", 1), ("c", 7200), ("after a timeout", 7210)]
    assert time.monotonic() - started < 60


def test_a_timer_fires_at_exactly_the_requested_time() -> None:
    """The time of setting must not matter, though `a - b + b` may differ from `a` in floating point."""
    rng, gone_off = random.Random(1), list[tuple[float, float]]()

    async def work() -> None:
        loop = asyncio.get_running_loop()

        def set_for(when: float) -> None:
            loop.call_at(when, lambda: gone_off.append((when, loop.time())))

        for _ in range(1000):
            await asyncio.sleep(rng.random())
            set_for(1000.0 + rng.random())
        await asyncio.sleep(1e6)

    run_virtually(work())
    assert len(gone_off) == 1000
    assert all(when == now for when, now in gone_off)
    assert gone_off == sorted(gone_off)


def test_remaining_tasks_are_cancelled_at_the_end() -> None:
    ended = list[str]()

    async def forever() -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
        finally:
            ended.append("cancelled")

    async def work() -> str:
        left = asyncio.create_task(forever())
        await asyncio.sleep(10.0)
        return "done" if not left.done() else "ended too early"

    assert run_virtually(work()) == "done"
    assert ended == ["cancelled"]


def test_failing_and_deadlocked_work_raises() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("this is wrong")

    with pytest.raises(RuntimeError, match=r"waits for an event that cannot occur.*after 0\.0 s.*error in nascluster"):
        run_virtually(wait())
    with pytest.raises(ValueError, match="this is wrong"):
        run_virtually(fail())


def test_the_thread_has_no_loop_left_even_if_a_task_resists_cancelling() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async def work() -> None:
        left = asyncio.create_task(stubborn())
        await asyncio.sleep(1.0)
        assert not left.done()

    with closing(VirtualLoop()) as loop:
        with pytest.raises(RuntimeError, match="cannot occur"):
            loop.run_work(work())
        assert asyncio._get_running_loop() is None
        with loop.entered():  # once more, so that nothing is left
            pass
