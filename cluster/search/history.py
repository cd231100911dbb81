"""The history as a replica reads it: only what has ended since it last looked. Knows neither Ray nor the clock."""

from collections.abc import Sequence

from cluster.search.records import ReplicaLedger
from controller.searcher import Child


class History:
    """The ended children in completion order, kept between two looks: what has ended never changes."""

    def __init__(self, ledger: ReplicaLedger) -> None:
        self._ledger = ledger
        self._known: list[Child] = []

    def __call__(self) -> Sequence[Child]:
        """All of them up to now; the list grows with later looks."""
        self._known += self._ledger.history(self._known[-1].id if self._known else 0)
        return self._known
