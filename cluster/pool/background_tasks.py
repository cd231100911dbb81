"""The pool's background tasks, and the interval at which it polls its workers. Standard library only."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

POLL_INTERVAL_S = 1.0
"""Seconds between two checks of all workers."""

RETRY_DELAY_S = 0.05
"""Seconds between two requests to a worker whose process is ending."""


async def next_poll() -> None:
    """Wait until the workers must be checked again."""
    await asyncio.sleep(POLL_INTERVAL_S)


class Tasks:
    """Background tasks that no caller awaits.

    Args:
        on_error: called with the exception that ends a task.

    Attributes:
        running: the tasks that have not ended.
        failure: the first exception, or `None`.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self._on_error = on_error
        self.running: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start the coroutine as a background task."""
        task = asyncio.create_task(work)
        self.running.add(task)  # Python may collect a task to which no reference is left before it is done
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failure = self.failure or error
            self._on_error(error)
