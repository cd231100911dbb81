"""The steps of many workers on a virtual clock: all of them go at one pace, which depends on how many there are."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class StepTimer:
    """Some steps in progress: the count of the clock at which they began and at which they end."""

    began: float
    ends: float
    done: Callable[[], None]
    cancelled: bool = False


@dataclass(slots=True)
class StepLog:
    """The record of all steps.

    Attributes:
        steps: how many were made.
        worker_s: the workers' seconds in them.
        busy_s: seconds in which at least one worker made steps.
    """

    steps: float = 0.0
    worker_s: float = 0.0
    busy_s: float = 0.0


class StepClock:
    """Counts the steps of a worker that makes them all the time. Requires a running `VirtualLoop`.

    Args:
        seconds: of a step when 1, 2, ... workers make steps.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = seconds
        self._count = self._at = 0.0
        self._active = 0
        self._queue: list[tuple[float, int, StepTimer]] = []
        self._order = itertools.count()
        self._next: asyncio.TimerHandle | None = None
        self.log = StepLog()

    def start(self, steps: float, done: Callable[[], None]) -> StepTimer:
        """Let a worker make so many steps, and call `done` at their end."""
        self._advance()
        timer = StepTimer(self._count, self._count + steps, done)
        heapq.heappush(self._queue, (timer.ends, next(self._order), timer))
        self._active += 1
        self._schedule()
        return timer

    def cancel(self, timer: StepTimer) -> float:
        """End a worker's steps before their end; return how many it has made."""
        self._advance()
        timer.cancelled = True
        self._active -= 1
        self._schedule()
        return self._count - timer.began

    def _advance(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._active:
            passed = now - self._at
            made = passed / self._seconds[self._active - 1]
            self._count += made
            self.log.steps += made * self._active
            self.log.worker_s += passed * self._active
            self.log.busy_s += passed
        self._at = now

    def _schedule(self) -> None:
        if self._next:
            self._next.cancel()
            self._next = None
        while self._queue and self._queue[0][2].cancelled:
            heapq.heappop(self._queue)
        if self._queue:
            left_s = max(0.0, self._queue[0][0] - self._count) * self._seconds[self._active - 1]
            self._next = asyncio.get_running_loop().call_later(left_s, self._end)

    def _end(self) -> None:
        self._advance()
        ends, _, timer = heapq.heappop(self._queue)
        self._count = max(self._count, ends)  # floats: the time may be a little short
        self._active -= 1
        self._next = None
        self._schedule()
        timer.done()
