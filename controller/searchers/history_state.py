"""State that a searcher derives from the history, updated one child at a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from controller.searcher import ChildRecord


class HistoryState(ABC):
    """A state that is a function of the history: the ended children, in completion order.

    `follow` brings it up to a history. A history that continues the last one is read from where that ended; any other
    history is read from its start. So a history always gives the same state, whichever histories came before. A
    subclass must keep only what `_begin` and `_add` derive from the history, and count the children itself if it needs
    their number: what `follow` has read changes only when all later children are added. One history continues another
    if it holds the same record objects, as those of one `View.history` do.
    """

    def __init__(self) -> None:
        self._num_read = 0
        self._last: ChildRecord | None = None
        self._begin()

    def follow(self, history: Sequence[ChildRecord]) -> None:
        """Bring the state up to this history."""
        if self._num_read and (self._num_read > len(history) or history[self._num_read - 1] is not self._last):
            self._forget()
        later = history[self._num_read :]
        if not later:
            return
        try:
            self._add_all(later)
        except BaseException:  # how many of them were added is not known
            self._forget()
            raise
        self._num_read, self._last = len(history), later[-1]

    def _forget(self) -> None:
        self._num_read, self._last = 0, None
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Set the state of an empty history."""

    @abstractmethod
    def _add(self, child: ChildRecord) -> None:
        """Add the child that ended next. A searcher must not learn from a child without a reward."""

    def _add_all(self, children: Sequence[ChildRecord]) -> None:
        """Add the children that ended next, as `_add` does one after another; a subclass may have a faster way."""
        for child in children:
            self._add(child)
