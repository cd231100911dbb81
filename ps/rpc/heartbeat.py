"""`Heartbeat`: a thread that renews the leases of a store's clients on the shards."""

import threading
from collections.abc import Callable, Sequence


class Heartbeat:
    """Calls `send` with the active clients every `interval_s` seconds, once there has been one.

    Args:
        members: the clients that have a lease; others are ignored.
        interval_s: seconds between two heartbeats; several fit into a lease, as one may be lost.
        send: sends the clients' names to the shards. It must not raise, and should take less than an interval.
    """

    def __init__(self, members: Sequence[str], interval_s: float, send: Callable[[list[str]], None]) -> None:
        self._members = frozenset(members)
        self._interval_s = interval_s
        self._send = send
        self._active: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, client: str) -> None:
        """Include a client that pulls or pushes in the heartbeats from now on."""
        if client not in self._members:
            return
        with self._lock:
            self._active.add(client)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()

    def remove(self, client: str) -> None:
        """Leave a client out of the heartbeats from now on."""
        with self._lock:
            self._active.discard(client)

    def close(self) -> None:
        """End the thread. If a call of `send` hangs, wait for it for a second only, as it does no harm."""
        with self._lock:
            self._closed.set()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            with self._lock:
                clients = sorted(self._active)
            if clients:
                self._send(clients)
