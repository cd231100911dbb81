"""What each child of a search on shared weights is for, as its options say. Standard library only."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a child in a search.

    Attributes:
        phase: the number of its phase; no child of a phase begins before those of the one before have ended.
        steps: how many steps it makes on the shared weights; 0: a path is scored.
    """

    phase: int
    steps: int


class Schedule(Protocol):
    """The options of a searcher whose children share weights."""

    def slot(self, begun: int) -> Slot | None:
        """Return what the next child is for when so many have begun; `None` at the end of the search."""
        ...
