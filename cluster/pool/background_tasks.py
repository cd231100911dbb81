"""The pool's background tasks, and the interval at which it polls its workers. Standard library only."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

_Key = TypeVar("_Key")
_Result = TypeVar("_Result")

POLL_INTERVAL_S = 1.0
"""Seconds between two checks of all workers."""

RETRY_DELAY_S = 0.05
"""Seconds between two requests to a worker whose process is ending."""


GATHER_S = 0.002
"""Seconds for which a first result waits for others, to share a message with them."""


async def first_results(
    results: Mapping[_Key, asyncio.Future[_Result]], *, wait: bool = True
) -> list[tuple[_Key, _Result]]:
    """Return those of the results that are there, in the order in which they came, and cancel none.

    Args:
        results: to come.
        wait: for the first one, and for a moment for others.
    """
    order: list[_Key] = []
    notes = {key: partial(_note, order, key) for key in results}
    for key, result in results.items():
        result.add_done_callback(notes[key])
    try:
        if wait and results:
            await asyncio.wait(results.values(), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(results.values(), timeout=GATHER_S)
        else:
            await asyncio.sleep(0)  # the notes of those that have come are called in the loop's next turn
    finally:
        for key, result in results.items():
            result.remove_done_callback(notes[key])
    return [(key, results[key].result()) for key in order]


def _note(order: list[_Key], key: _Key, _: asyncio.Future[Any]) -> None:
    order.append(key)


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
