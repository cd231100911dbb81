"""What goes on side by side in the pool. Standard library only."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

WATCH_S = 1.0
"""Seconds between two looks at the whole fleet."""

AGAIN_S = 0.05
"""Seconds between two questions to a worker whose process is ending."""


async def next_look() -> None:
    """Returns when the fleet is to be looked at again."""
    await asyncio.sleep(WATCH_S)


class Tasks:
    """Work that nobody waits for.

    Args:
        on_error: told of whatever ends one of them too early.

    Attributes:
        running: those that have not ended.
        failure: the first error, or `None`.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self._on_error = on_error
        self.running: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have it go on from here by itself."""
        task = asyncio.create_task(work)
        self.running.add(task)  # a task that nobody holds may be collected before it is done
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failure = self.failure or error
            self._on_error(error)
