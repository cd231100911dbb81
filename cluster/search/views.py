"""The children as a searcher sees them at one moment. Knows neither Ray nor the clock."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from cluster.search.records import ReplicaLedger
from controller.searcher import ChildRecord


class ViewChildren:
    """The ended and the pending children of one moment, read once, when a searcher first asks for either.

    They are read later than `completed`, and one after the other, while workers and other replicas record children. A
    child that has ended since the view was made is a pending one in it. So `completed` and the pending ones together
    are always all children that were sampled, and a searcher neither misses one nor counts it twice.

    Args:
        ledger: the run's record.
        history: returns the ended children in completion order.
        completed: how many have ended; `None`: as the ledger says now.
    """

    def __init__(
        self, ledger: ReplicaLedger, history: Callable[[], Sequence[ChildRecord]], completed: int | None = None
    ) -> None:
        self._ledger, self._history = ledger, history
        self._since: Sequence[ChildRecord] = ()  # those that have ended since then, when they were read
        self.completed = ledger.completed() if completed is None else completed
        """How many children had ended when the view was made."""

    def history(self) -> Sequence[ChildRecord]:
        """Return the ended children in completion order."""
        return self._children[0]

    def pending(self) -> Sequence[ChildRecord]:
        """Return the children that were sampled and have not ended."""
        return self._children[1]

    def known(self) -> tuple[int, tuple[int, ...]]:
        """Return the last child in the view, and the children up to it that are not in it; 0 if nobody has looked.

        A child that was sampled between the two reads of the ledger is in the view only if it has ended by the second.
        """
        if "_children" not in self.__dict__:
            return 0, ()
        count = sum(map(len, self._children))
        if all(child.id <= count for child in self._since):
            return count, ()  # only one of these can have an id beyond another that is not in the view
        ids = {child.id for children in self._children for child in children}
        return max(ids), tuple(child for child in range(1, max(ids)) if child not in ids)

    @cached_property
    def _children(self) -> tuple[Sequence[ChildRecord], Sequence[ChildRecord]]:
        # In this order: a child that ends between the two calls is in both answers, and not in neither.
        pending = self._ledger.pending()
        history = self._history()
        ended, since = history[: self.completed], history[self.completed :]
        self._since = since
        if since:
            open_again = {child.id: replace(child, outcome=None, reward=None) for child in since}
            pending = sorted(({child.id: child for child in pending} | open_again).values(), key=lambda child: child.id)
        return ended, tuple(pending)
