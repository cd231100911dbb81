"""A parameter store that counts what passes through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

from ps.status import ShardStatus
from ps.store import Ack, ParameterStore, Push, Snapshot

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(slots=True)
class Traffic:
    """What one client exchanged with a store.

    Attributes:
        pulls, pushes: calls that were answered.
        pulled_bytes, pushed_bytes: of the tensors in them.
        wait_seconds: the time that all calls took, refused ones included.
        staleness: of each push that was applied, in versions, the mean over the shards.
    """

    pulls: int = 0
    pushes: int = 0
    pulled_bytes: int = 0
    pushed_bytes: int = 0
    wait_seconds: float = 0.0
    staleness: list[float] = field(default_factory=list)

    def measurements(self) -> dict[str, float]:
        """Return the counts, and the mean staleness if anything was pushed, as an outcome has them."""
        counts = {
            "pulls": self.pulls,
            "pulled_bytes": self.pulled_bytes,
            "pushes": self.pushes,
            "pushed_bytes": self.pushed_bytes,
            "wait_seconds": self.wait_seconds,
        }
        return counts | ({"staleness": fmean(self.staleness)} if self.staleness else {})


class MeteredStore:
    """Passes the calls of one client on to a store, and counts them; see `ParameterStore`.

    Args:
        store: does the work.
        clock: monotonic seconds.
    """

    def __init__(self, store: ParameterStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self.traffic = Traffic()

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        self._store.initialize(values)

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """See `ParameterStore.pull`."""
        snapshot = self._timed(lambda: self._store.pull(names, client=client))
        self.traffic.pulls += 1
        self.traffic.pulled_bytes += size_bytes(snapshot.values)
        return snapshot

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        ack = self._timed(lambda: self._store.push(push))
        self.traffic.pushes += 1
        self.traffic.pushed_bytes += size_bytes(push.gradients)
        if not ack.duplicate:
            self.traffic.staleness.append(fmean(ack.staleness))
        return ack

    def leave(self, client: str) -> None:
        """See `ParameterStore.leave`."""
        self._store.leave(client)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return self._store.status()

    def close(self) -> None:
        """See `ParameterStore.close`."""
        self._store.close()

    def _timed(self, call: Callable[[], T]) -> T:
        began = self._clock()
        try:
            return call()
        finally:
            self.traffic.wait_seconds += self._clock() - began


def size_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the size of all elements of some tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())
