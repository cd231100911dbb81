"""The search's history as the replicas of one process read it. Knows neither Ray nor the clock."""

import threading
from collections.abc import Sequence

from cluster.search.records import ReplicaLedger
from controller.searcher import ChildRecord


class History:
    """The ended children in completion order, kept between calls: each call reads only those that ended since the last.

    All replicas of a process may share one, in threads or in turns.
    """

    def __init__(self, ledger: ReplicaLedger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._children: list[ChildRecord] = []

    def __call__(self) -> Sequence[ChildRecord]:
        """Return all children that have ended so far; later calls do not change what this one returned."""
        with self._lock:
            self._children += self._ledger.history(self._children[-1].id if self._children else 0)
            return tuple(self._children)
