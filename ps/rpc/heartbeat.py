"""A thread that lets the shards know, every now and then, which clients are still there."""

import threading
from collections.abc import Callable, Sequence


class Keeper:
    """Calls `keep` with the clients that are present, every `period_s` seconds, from the first one on.

    Args:
        members: the clients that are worth mentioning; others are ignored.
        period_s: seconds between two calls; several to a lease, as one may be lost.
        keep: tells the shards. It must not raise, and should take less than a period.
    """

    def __init__(self, members: Sequence[str], period_s: float, keep: Callable[[list[str]], None]) -> None:
        self._members = frozenset(members)
        self._period_s = period_s
        self._keep = keep
        self._present: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, client: str) -> None:
        """The client pulls or pushes, and is there from now on."""
        if client not in self._members:
            return
        with self._lock:
            self._present.add(client)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
                self._thread.start()

    def remove(self, client: str) -> None:
        """The client has left."""
        with self._lock:
            self._present.discard(client)

    def close(self) -> None:
        """End the thread. A call of `keep` that hangs is not waited for long: it does no harm any more."""
        with self._lock:
            self._closed.set()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._closed.wait(self._period_s):
            with self._lock:
                present = sorted(self._present)
            if present:
                self._keep(present)
