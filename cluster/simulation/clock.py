"""A virtual clock, and an event loop on it, on which what is written for a real clock runs as fast as it computes."""

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
    """What is due when; of what is due at one time, what was planned first comes first."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._order = itertools.count()
        self.now = 0.0
        """Seconds since the start."""

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Plan an action for this very time, or for now if that has passed."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action))

    def soon(self, action: Callable[[], None]) -> None:
        """Plan an action for now, before anything else that is planned with `at`."""
        self._soon.append(action)

    def advance(self) -> bool:
        """Go on to the next thing that is due, and do it; false if there is none."""
        if self._soon:
            self._soon.popleft()()
            return True
        if not self._due:
            return False
        self.now, _, action = heapq.heappop(self._due)
        action()
        return True


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop over such events, on which what is written for a real clock sleeps in virtual time.

    It waits for nothing outside of itself: whoever sleeps is woken at once, at the time that it asked for.
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
        self._events.soon(_carrying_out(handle, callback, args, context))
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._events.at(when, _carrying_out(handle, callback, args, context))
        return handle

    def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work, and all that it has others do meanwhile; what is left of that then is cancelled.

        Raises:
            RuntimeError: it waits for what can never come.
        """
        with self.entered():
            task = self.create_task(work)
            self.advance_until(task)
            return task.result()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make it the running loop of this thread until the block is left; what is at work on it then is cancelled."""
        asyncio._set_running_loop(self)
        try:
            try:
                yield
            finally:
                for left in asyncio.all_tasks(self):
                    left.cancel()
                    self.advance_until(left)
        finally:
            asyncio._set_running_loop(None)

    def advance_until(self, task: asyncio.Task[Any]) -> None:
        """Let time pass until the task is done; for whoever has entered.

        Raises:
            RuntimeError: it waits for what can never come.
        """
        while not task.done():
            if not self._events.advance():
                raise RuntimeError(
                    "what is simulated waits for something that can never come, as nothing is due after"
                    f" {self.time():,.1f} s. No option may lead to this: it is an error in nascluster; please report it"
                    " with the command that you gave"
                )


def _carrying_out(
    handle: asyncio.Handle, callback: Callable[..., object], args: Sequence[Any], context: contextvars.Context | None
) -> Callable[[], None]:
    run = callback if context is None else lambda *args: context.run(callback, *args)

    def carry_out() -> None:
        if not handle.cancelled():
            run(*args)

    return carry_out
