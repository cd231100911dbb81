"""A limit on the time of every request, kept by whoever answers it: the other end may have set itself none."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Cancellable(Protocol):
    """A request under way that can be given up, from any thread."""

    def cancel(self) -> object:
        """Give it up: whoever waits for its other end is woken."""
        ...


class Deadlines:
    """Gives up every request that has been under way for `limit_s` seconds, or up to a fifth more.

    Args:
        limit_s: seconds, above 0.
        clock: seconds, never going back.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not limit_s > 0:
            raise ValueError(f"`deadline_s` must be above 0, got {limit_s}")
        self._limit_s = limit_s
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[int, tuple[float, Cancellable]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, request: Cancellable) -> Iterator[None]:
        """The request is under way while the block lasts."""
        with self._lock:
            self._under_way[id(request)] = self._clock(), request
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._under_way.pop(id(request), None)

    def close(self) -> None:
        """Give nothing up any more."""
        with self._lock:
            self._closed.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        # One thread that looks now and then: a timer for each request would be a thread for each.
        while not self._closed.wait(self._limit_s / 5):
            with self._lock:
                latest = self._clock() - self._limit_s
                overdue = [key for key, (begun, _) in self._under_way.items() if begun <= latest]
                requests = [self._under_way.pop(key)[1] for key in overdue]
            for request in requests:
                request.cancel()
