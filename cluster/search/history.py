"""The search's history as the replicas of one process read it. Knows neither Ray nor the clock."""

import gc
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload

from cluster.search.records import ReplicaLedger
from controller.searcher import ChildRecord

MANY = 10_000
"""Children that are read at once from which on no garbage collection looks at them again: they live as long as the
process, and each full collection would take a tenth of a second for 100,000 of them."""


class Beginning(Sequence[ChildRecord]):
    """The first so many children of a list that only grows: as immutable as a copy of them, and made at once.

    Args:
        children: the list.
        length: how many.
    """

    __slots__ = ("_children", "_length")

    def __init__(self, children: list[ChildRecord], length: int) -> None:
        self._children, self._length = children, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> ChildRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ChildRecord]: ...
    def __getitem__(self, index: int | slice) -> ChildRecord | Sequence[ChildRecord]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            if (start, step) == (0, 1):
                return Beginning(self._children, max(0, stop))
            return tuple(self._children[start:stop:step]) if step > 0 else tuple(self)[index]
        if not -self._length <= index < self._length:
            raise IndexError(f"there are {self._length} children, and none at {index}")
        return self._children[index % self._length]

    def __iter__(self) -> Iterator[ChildRecord]:
        return islice(self._children, self._length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]


def _same(one: object, other: object) -> bool:
    return one is other or one == other


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
            later = self._ledger.history(self._children[-1].id if self._children else 0)
            self._children += later
            if len(later) >= MANY:
                gc.freeze()
            return Beginning(self._children, len(self._children))
