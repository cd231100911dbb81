"""The children as a searcher sees them at one moment. Knows neither Ray nor the clock."""

from collections.abc import Callable, Sequence
from functools import cached_property

from cluster.search.records import ReplicaLedger
from controller.searcher import ChildRecord


class ViewChildren:
    """The ended and the pending children, read once, when a searcher first asks for either.

    The two are read one after the other while other replicas record children. A child that ends in between is an ended
    one, and is left out of the pending ones; so a searcher never sees it twice, and never misses it.

    Args:
        ledger: the run's record.
        history: returns the ended children in completion order.
    """

    def __init__(self, ledger: ReplicaLedger, history: Callable[[], Sequence[ChildRecord]]) -> None:
        self._ledger, self._history = ledger, history
        self.completed = ledger.completed()
        """How many children had ended when the view was made."""

    def history(self) -> Sequence[ChildRecord]:
        """Return the ended children in completion order."""
        return self._children[0]

    def pending(self) -> Sequence[ChildRecord]:
        """Return the children that were sampled and have not ended."""
        return self._children[1]

    @cached_property
    def _children(self) -> tuple[Sequence[ChildRecord], Sequence[ChildRecord]]:
        # In this order: a child that ends between the two calls is in both answers, and not in neither.
        pending = self._ledger.pending()
        history = self._history()
        ended_since = {child.id for child in history[self.completed :]}
        return history, tuple(child for child in pending if child.id not in ended_since)
