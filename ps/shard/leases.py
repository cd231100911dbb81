"""When each member was last heard from: the one thing about membership that needs a clock, and is not kept on disk."""

import threading
from collections.abc import Callable

from ps.consistency import Consistency


class Leases:
    """A lease for every member, fresh at the start; may be used from several threads.

    Args:
        rules: who the members are, and how long a lease lasts.
        clock: seconds, never going back.
    """

    def __init__(self, rules: Consistency, clock: Callable[[], float]) -> None:
        self._lease_s = rules.lease_s
        self._clock = clock
        self._lock = threading.Lock()
        now = clock()
        self._heard = dict.fromkeys(rules.members, now)

    def hear(self, client: str | None) -> None:
        """Renew the client's lease, if it is a member: it is waited for (again)."""
        if client in self._heard:
            with self._lock:
                self._heard[client] = self._clock()

    def lapsed(self) -> frozenset[str]:
        """The members that were not heard from for a lease or longer."""
        with self._lock:
            now = self._clock()
            return frozenset(member for member, heard in self._heard.items() if now - heard >= self._lease_s)
