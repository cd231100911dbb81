"""A thread that calls a function every few seconds. Standard library only."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger(__name__)


class PeriodicThread:
    """Calls a function again and again, in a daemon thread of its own, until it is stopped.

    An error in one call does not end the thread: the first error is logged, and the next call follows as usual.

    Args:
        action: what to call.
        interval_s: seconds to wait before each call.
        name: the thread's name.
        at_once: make the first call without waiting.
    """

    def __init__(self, action: Callable[[], object], interval_s: float, *, name: str, at_once: bool = False) -> None:
        self._action, self._interval_s, self._at_once = action, interval_s, at_once
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Make no further call, and wait for the one in progress.

        Args:
            timeout_s: wait at most this many seconds; `None`: until the call returns.
        """
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s, has_failed = 0.0 if self._at_once else self._interval_s, False
        while not self._stopped.wait(wait_s):
            wait_s = self._interval_s
            try:
                self._action()
            except Exception:  # no error may end the thread
                if not has_failed:
                    LOGGER.warning(
                        "%s failed and will be repeated; further errors are not logged",
                        self._thread.name,
                        exc_info=True,
                    )
                has_failed = True


@contextmanager
def repeating(
    action: Callable[[], object],
    interval_s: float,
    *,
    name: str,
    at_once: bool = False,
    stop_timeout_s: float | None = None,
) -> Iterator[None]:
    """Run a `PeriodicThread` until the block ends.

    Args:
        action: what to call.
        interval_s: seconds to wait before each call.
        name: the thread's name.
        at_once: make the first call without waiting.
        stop_timeout_s: how long to wait at the end for the call in progress; `None`: until it returns.
    """
    thread = PeriodicThread(action, interval_s, name=name, at_once=at_once)
    thread.start()
    try:
        yield
    finally:
        thread.stop(stop_timeout_s)
