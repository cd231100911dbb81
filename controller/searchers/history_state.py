"""What a searcher tells from the history, without telling all of it at every step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from controller.searcher import ChildRecord


class Following(ABC):
    """A state that follows from the children that have ended, told of one after another.

    It goes on from the history that it was told last, as histories only grow; told another one, it begins anew. So it
    is the same for the same history, whatever it was told before.
    """

    def __init__(self) -> None:
        self._told = 0
        self._last: ChildRecord | None = None
        self._begin()

    def follow(self, history: Sequence[ChildRecord]) -> None:
        """Be where these children, in completion order, lead."""
        if self._told and (self._told > len(history) or history[self._told - 1] is not self._last):
            self._told = 0
            self._begin()
        for child in history[self._told :]:
            self._tell(child)
            self._told, self._last = self._told + 1, child

    @abstractmethod
    def _begin(self) -> None:
        """Be where nothing has ended."""

    @abstractmethod
    def _tell(self, child: ChildRecord) -> None:
        """One more has ended; without a reward it is kept from the searcher, which is to learn nothing from it."""
