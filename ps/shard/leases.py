"""`Leases`: when each member last sent a request. Only this part of membership has a clock, and it is not durable."""

import threading
from collections.abc import Callable

from ps.consistency import Consistency


class Leases:
    """A lease for each member, which starts with the shard; may be used from several threads.

    Args:
        rules: the members, and how long a lease lasts.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, rules: Consistency, clock: Callable[[], float]) -> None:
        self._lease_s = rules.lease_s
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed_at = dict.fromkeys(rules.members, clock())

    def renew(self, client: str) -> None:
        """Renew the client's lease, if it is a member, even if the lease has expired."""
        if client in self._renewed_at:
            with self._lock:
                self._renewed_at[client] = self._clock()

    def expired(self) -> frozenset[str]:
        """Return the members whose lease has expired."""
        with self._lock:
            now = self._clock()
            return frozenset(
                member for member, renewed_at in self._renewed_at.items() if now - renewed_at >= self._lease_s
            )
