"""What replicas and the ledger tell each other. Imports no torch, so that the ledger's process needs none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from child_trainer.outcome import Cause, Outcome
from controller.searcher import Child, ChildRecord, Proposal

Batching = Literal["barrier", "stream"]
"""How children become batches; see `cluster.search.replica.Replica`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The children behind one gradient.

    Attributes:
        replica: who sampled them.
        number: counts the replica's batches from 1; with the replica it identifies the push.
        versions: the shards' versions that they were sampled from; of children that were not sampled together, those
            of the oldest.
        children: in the order of sampling.
    """

    replica: int
    number: int
    versions: tuple[int, ...]
    children: tuple[Child, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """A replica's children that are in no batch yet, where batches are made of those that have ended.

    Attributes:
        last_batch: the number of the replica's last batch, 0 before the first.
        ended: how many of the children have ended.
        outstanding: those that have not, in the order of sampling.
        room: how many more children the run may sample.
    """

    last_batch: int
    ended: int
    outstanding: tuple[Child, ...]
    room: int

    @property
    def loose(self) -> int:
        """How many children are in no batch."""
        return self.ended + len(self.outstanding)

    def wanted(self, size: int) -> int:
        """How many are to be sampled so that `size` are outstanding, as far as the run's limit allows."""
        return max(0, min(size - len(self.outstanding), self.room))

    def is_due(self, size: int) -> bool:
        """Whether those that have ended make a batch: `size` of them, or at the end of the run all that are left."""
        last = self.ended > 0 and not self.outstanding and self.room <= 0
        return self.ended >= size or last


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What became of a batch.

    Attributes:
        staleness: the push's on each shard; `None`: nothing was pushed.
        figures: the searcher's own numbers.
        pull_seconds, push_seconds: what the replica waited for the last pull before the push, and for the ack.
    """

    staleness: tuple[int, ...] | None
    figures: Mapping[str, float]
    pull_seconds: float | None = None
    push_seconds: float | None = None


class Verdict(StrEnum):
    """What an attempt that has ended means for its child."""

    OUTCOME = "outcome"
    """It gave the child's outcome, good or bad."""
    RETRY = "retry"
    """It failed, and the child is to be trained again."""
    LATE = "late"
    """It was given up while it ran; what it brought later is kept here and nowhere else."""
    LOST = "lost"
    """Nobody knows what it came to: the run ended around it."""
    VOID = "void"
    """It never began: its worker did not get the order. (Ledgers of earlier versions call this lost, too.)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try at training a child.

    Attributes:
        child_id: whose.
        seed: the child's.
        key: names the attempt, unlike every other.
        slot: the worker's number.
        worker: where it runs: the worker's process, named so that no other is called alike.
        batch_size: of this attempt, or `None` for the budget's.
        started_at: Unix time.
        verdict: `None` while it runs.
        cause: why it failed, if it did.
        outcome: what it gave, where that is known.
    """

    child_id: int
    seed: int
    key: str
    slot: int
    worker: str
    batch_size: int | None
    started_at: float
    verdict: Verdict | None = None
    cause: Cause | None = None
    outcome: Outcome | None = None


class AttemptLedger(Protocol):
    """The part of the ledger that whoever trains children writes and reads; every call may be repeated."""

    def attempts(self, child_id: int) -> Sequence[Attempt]:
        """The attempts at a child, oldest first."""
        ...

    def start(
        self, child_id: int, worker: str, key: str | None = None, *, slot: int = 0, batch_size: int | None = None
    ) -> None:
        """A worker begins an attempt at a child, durably."""
        ...

    def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """Record what an attempt came to, durably, and whether this was the first word on it."""
        ...


class ReplicaLedger(Protocol):
    """The part of the ledger that replicas write and read; every call may be repeated."""

    def open_batch(self, replica: int, applied: int | None = None) -> Batch | None:
        """The replica's first batch that was not learnt from, with the outcomes so far.

        Args:
            replica: whose.
            applied: the last of its pushes that every shard has; later ones are to be learnt again.
        """
        ...

    def last_batch(self, replica: int) -> int:
        """The number of the last batch that the replica has sampled, 0 before the first."""
        ...

    def admit(
        self, replica: int, number: int, proposals: Sequence[Proposal], versions: tuple[int, ...]
    ) -> Batch | None:
        """Record a new batch, durably; cut to what the run's limit allows, `None` when that is reached."""
        ...

    def stream(self, replica: int) -> Stream:
        """The replica's children that are in no batch."""
        ...

    def extend(
        self, replica: int, number: int, loose: int, proposals: Sequence[Proposal], versions: tuple[int, ...]
    ) -> Stream:
        """Record new children that are in no batch, durably; cut to what the run's limit allows.

        Args:
            replica: whose.
            number: of the replica's next batch. With `loose`, it says which call this is: one that is made twice, or
                late, changes nothing.
            loose: how many of the replica's children are in no batch before it.
            proposals: the children.
            versions: the shards' versions that they were sampled from.
        """
        ...

    def gather(self, replica: int, number: int, size: int) -> None:
        """Record the batch `number`, durably: of the first `size` children that have ended and are in no batch.

        The replica learns from it when `open_batch` has given it; nothing is recorded where there is such a batch.
        """
        ...

    def finish(self, child_id: int, outcome: Outcome, reward: float | None) -> ChildRecord:
        """Record a child's outcome, durably; the first one wins, and the child is given back as it is recorded.

        Args:
            child_id: whose.
            outcome: what its training gave.
            reward: what the searcher learns from; `None` keeps the child from it.
        """
        ...

    def learned(self, replica: int, number: int, lesson: Lesson) -> None:
        """Record that a batch was learnt from, durably."""
        ...

    def completed(self) -> int:
        """How many children have ended."""
        ...

    def history(self, after: int = 0) -> Sequence[ChildRecord]:
        """The ended children, in completion order, those that are kept from the searcher included.

        Args:
            after: the id of one of them, for those alone that ended later; 0: all.
        """
        ...

    def pending(self) -> Sequence[ChildRecord]:
        """The children that were sampled and have not ended."""
        ...
