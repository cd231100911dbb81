"""A virtual clock and an asyncio event loop on it: code for a real clock runs without waiting."""

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Events:
    """A queue of timed actions; actions of equal time run in the order of their scheduling."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._order = itertools.count()
        self.now = 0.0
        """Seconds since the start."""

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule an action for exactly this time, or for now if that has passed."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action))

    def soon(self, action: Callable[[], None]) -> None:
        """Schedule an action for now, before all actions scheduled with `at`."""
        self._soon.append(action)

    def advance(self) -> bool:
        """Advance to the next action and run it; return false if there is none."""
        if self._soon:
            self._soon.popleft()()
            return True
        if not self._due:
            return False
        self.now, _, action = heapq.heappop(self._due)
        action()
        return True


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time.

    It waits for nothing outside of itself: a sleeping task wakes at once, at the virtual time that it requested.
    """

    def __init__(self) -> None:
        super().__init__()
        self._events = Events()

    def time(self) -> float:
        """Seconds since the start."""
        return self._events.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.Handle(callback, args, self, context)
        self._events.soon(_run_unless_cancelled(handle, callback, args, context))
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._events.at(when, _run_unless_cancelled(handle, callback, args, context))
        return handle

    def run_work(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine and the tasks that it starts; cancel those that are left at its end.

        Raises:
            RuntimeError: it waits for an event that cannot occur.
        """
        with self.entered():
            task = self.create_task(work)
            self.advance_until(task)
            return task.result()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this the thread's running loop within the block; cancel the tasks that are left at its end."""
        asyncio._set_running_loop(self)
        try:
            try:
                yield
            finally:
                for task_left in asyncio.all_tasks(self):
                    task_left.cancel()
                    self.advance_until(task_left)
        finally:
            asyncio._set_running_loop(None)

    def advance_until(self, task: asyncio.Task[Any]) -> None:
        """Advance the time until the task is done; requires `entered`.

        Raises:
            RuntimeError: it waits for an event that cannot occur.
        """
        while not task.done():
            if not self._events.advance():
                raise RuntimeError(
                    "the simulation waits for an event that cannot occur, as nothing is scheduled after"
                    f" {self.time():,.1f} s. No option should lead to this: it is an error in nascluster; please report"
                    " it with your command"
                )


def _run_unless_cancelled(
    handle: asyncio.Handle, callback: Callable[..., object], args: Sequence[Any], context: contextvars.Context | None
) -> Callable[[], None]:
    run = callback if context is None else lambda *args: context.run(callback, *args)

    def run_work() -> None:
        if not handle.cancelled():
            run(*args)

    return run_work
