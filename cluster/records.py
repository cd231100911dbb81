"""What replicas and the ledger tell each other. Imports no torch, so that the ledger's process needs none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from child_trainer.outcome import Outcome
from controller.searcher import Child, Proposal


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The children behind one gradient.

    Attributes:
        replica: who sampled them.
        number: counts the replica's batches from 1; with the replica it identifies the push.
        versions: the shards' versions that they were sampled from.
        children: in the order of sampling.
    """

    replica: int
    number: int
    versions: tuple[int, ...]
    children: tuple[Child, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What became of a batch: the push's staleness on each shard (`None`: nothing was pushed), and figures."""

    staleness: tuple[int, ...] | None
    figures: Mapping[str, float]


class ReplicaLedger(Protocol):
    """The part of the ledger that replicas write and read; every call may be repeated."""

    def open_batch(self, replica: int) -> Batch | None:
        """The replica's batch that was sampled and not learnt from, with the outcomes so far."""
        ...

    def num_batches(self, replica: int) -> int:
        """How many batches the replica has sampled."""
        ...

    def admit(
        self, replica: int, number: int, proposals: Sequence[Proposal], versions: tuple[int, ...]
    ) -> Batch | None:
        """Record a new batch, durably; cut to what the run's limit allows, `None` when that is reached."""
        ...

    def finish(self, child_id: int, outcome: Outcome, reward: float) -> Child:
        """Record a child's outcome, durably; the first one wins, and the child is given back as it is recorded."""
        ...

    def learned(self, replica: int, number: int, lesson: Lesson) -> None:
        """Record that a batch was learnt from, durably."""
        ...

    def completed(self) -> int:
        """How many children have ended."""
        ...

    def history(self) -> Sequence[Child]:
        """The ended children in completion order."""
        ...

    def pending(self) -> Sequence[Child]:
        """The children that were sampled and have not ended."""
        ...
