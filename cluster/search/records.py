"""What replicas and the ledger exchange. Imports no torch, so that the ledger's process needs none."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from child_trainer.outcome import Cause, Outcome
from controller.searcher import Child, ChildRecord, Proposal

Batching = Literal["barrier", "stream"]
"""How children become batches; see `cluster.search.replica.Replica`."""

StoreName = Literal["policy", "weights"]
"""The parameter stores of a run: the searcher's own parameters, and the weights that children share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The children behind one gradient.

    Attributes:
        replica: the replica that sampled them.
        number: counts the replica's batches from 1; with the replica it identifies the push.
        versions: the shards' versions that they were sampled from; the oldest ones, if those differ.
        children: in the order of sampling.
    """

    replica: int
    number: int
    versions: tuple[int, ...]
    children: tuple[Child, ...]


class Turn(NamedTuple):
    """Where a replica is when it has pulled.

    Attributes:
        batch: its first batch that was not learnt from, with the outcomes so far; `None` if there is none.
        last_batch: the number of the last batch that it has sampled, 0 before the first.
        completed: how many children of the run have ended.
    """

    batch: Batch | None
    last_batch: int
    completed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """A replica's children that are in no batch yet: in stream mode a batch is formed of children that have ended.

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
    def unbatched(self) -> int:
        """How many children are in no batch."""
        return self.ended + len(self.outstanding)

    def missing(self, size: int) -> int:
        """Return how many to sample so that `size` are outstanding, as far as the run's limit allows."""
        return max(0, min(size - len(self.outstanding), self.room))

    def is_due(self, size: int) -> bool:
        """Return whether enough have ended for a batch: `size` of them, or at the end of the run all that are left."""
        last = self.ended > 0 and not self.outstanding and self.room <= 0
        return self.ended >= size or last


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchResult:
    """The result of learning from a batch.

    Attributes:
        staleness: of the push on each shard, in versions; empty if the push had no gradients; `None` without a push.
        figures: the searcher's own numbers.
        pull_seconds, push_seconds: the replica's waits for the last pull before the push, and for the ack.
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
    """It failed, and the child will be trained again."""
    LATE = "late"
    """It timed out; a result that came later is recorded with the attempt, and not used."""
    LOST = "lost"
    """Its result is unknown, since the run ended during it."""
    NOT_STARTED = "void"
    """It never began: its worker did not get the order. (The first ledgers say `lost` here, too.)"""


class LedgerCall(NamedTuple):
    """A call to the ledger, as a message carries several of them."""

    method: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = {}


class Ended(NamedTuple):
    """A child that has ended, with what the searcher learns from: the arguments of `ReplicaLedger.finish`."""

    child_id: int
    outcome: Outcome
    reward: float | None


class AttemptEnd(NamedTuple):
    """How an attempt ended: the arguments of `AttemptLedger.end_attempt`."""

    key: str
    outcome: Outcome | None
    verdict: Verdict


def fused_key(key: str, place: int) -> str:
    """Return the key of one of several attempts that are made as one; that of the first (0) is the key of all."""
    return f"{key}+{place}" if place else key


def key_of_all(key: str) -> str:
    """Return the key of the first of the attempts that are made as one with this one; else its own key."""
    return key.partition("+")[0]


def start_calls(attempts: Sequence["Attempt"]) -> list[LedgerCall]:
    """Return the calls that record that an attempt begins, or several that are made as one."""
    return [
        LedgerCall("start", (a.child_id, a.worker, a.key), {"slot": a.slot, "batch_size": a.batch_size, "gpu": a.gpu})
        for a in attempts
    ]


def made_together(ledger: "AttemptLedger", calls: Sequence[LedgerCall]) -> list[Any]:
    """Make calls of the ledger in one transaction, and return what each returns, once all of it is durable."""
    with ledger.together():
        return [getattr(ledger, method)(*arguments, **keywords) for method, arguments, keywords in calls]


def end_calls(ends: Sequence[AttemptEnd]) -> list[LedgerCall]:
    """Return the calls that record how an attempt ended, or several that were made as one; one more for several."""
    calls = [LedgerCall("end_attempt", end) for end in ends]
    return calls if len(ends) < 2 else [*calls, LedgerCall("share_time", ([end.key for end in ends],))]


LOCAL_WORKER = "local"
"""The `worker` of attempts that the driver makes in its own process, one child at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """What an attempt has of a GPU, where children get parts by what they need (`--gpus-per-child auto`).

    Attributes:
        gpu: the GPU's name.
        share: the part of it.
        predicted_bytes: memory that the training was predicted to allocate; `None` if that is unknown.
    """

    gpu: str
    share: float
    predicted_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try at training a child.

    Attributes:
        child_id: the child's id.
        seed: the child's seed.
        key: identifies the attempt.
        slot: the worker's number.
        worker: the unique name of the worker's process.
        batch_size: of this attempt, or `None` for the budget's.
        started_at: Unix time.
        verdict: `None` while it runs.
        cause: why it failed, if it did.
        outcome: its result, if that is known.
        gpu: what it has of a GPU, where the pool decides that; `None`: the run's GPUs for each child.
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
    gpu: GpuUse | None = None


class EndedAttempt(NamedTuple):
    """One try at training a child, recorded when it has ended.

    Attributes:
        child_id: the child's id.
        number: counts the child's attempts from 1.
        worker: the unique name of the worker's process.
        batch_size: of this attempt, or `None` for the budget's.
        started_at: Unix time.
        outcome: its result.
        verdict: what it means for the child.
    """

    child_id: int
    number: int
    worker: str
    batch_size: int | None
    started_at: float
    outcome: Outcome | None
    verdict: Verdict


class AttemptLedger(Protocol):
    """The part of the ledger that trainers of children write and read. Every call may be repeated."""

    def attempts(self, child_id: int) -> Sequence[Attempt]:
        """Return the attempts at a child, the oldest first."""
        ...

    def start(
        self,
        child_id: int,
        worker: str,
        key: str | None = None,
        *,
        slot: int = 0,
        batch_size: int | None = None,
        gpu: GpuUse | None = None,
    ) -> None:
        """Record durably that a worker begins an attempt at a child."""
        ...

    def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """Record durably how an attempt ended; return whether this report was the first one."""
        ...

    def now(self) -> float:
        """Return the time, for `record_attempt`."""
        ...

    def record_attempt(self, attempt: EndedAttempt) -> None:
        """Record an attempt that has ended: what `start` and `end_attempt` would, as its beginning is not durable.

        Within a `together` the record of the child's outcome must follow in the same one, as the attempt has no copy of
        it; by itself the attempt keeps its own.
        """
        ...

    def share_time(self, keys: Sequence[str]) -> None:
        """Divide the time of attempts that were made as one, and have ended, into equal parts one after another.

        So that the time of all attempts remains that of their worker. The keys are of at least one attempt.
        """
        ...

    def together(self) -> AbstractContextManager[None]:
        """Return a context: what is recorded in it becomes durable at its end, or none of it after an error."""
        ...


class ReplicaLedger(Protocol):
    """The part of the ledger that replicas write and read. Every call may be repeated."""

    def turn(self, replica: int, applied: int | None = None) -> Turn:
        """Return where the replica is.

        Args:
            replica: the replica's index.
            applied: the last of its pushes that every shard has; the batches of later pushes are learnt again.
        """
        ...

    def last_child(self) -> int:
        """Return the id of the child that was sampled last, 0 before the first."""
        ...

    def admit(
        self,
        replica: int,
        number: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...],
        after: int | None = None,
        origin: str = "",
    ) -> Batch | None:
        """Record a new batch durably, cut to what the run's limit allows.

        Args:
            replica: the replica's index.
            number: of the batch.
            proposals: its children.
            versions: the shards' versions that they were sampled from.
            after: record nothing unless this is still the child that was sampled last; `None`: whichever was.
            origin: what they were proposed from, see `cluster.search.origin`; empty: not recorded.

        Returns:
            The batch, or `None` if the limit is reached or other children were sampled since `after`.
        """
        ...

    def stream(self, replica: int) -> Stream:
        """Return the replica's children that are in no batch."""
        ...

    def add_children(
        self,
        replica: int,
        number: int,
        unbatched: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...],
        after: int | None = None,
        origin: str = "",
    ) -> Stream:
        """Record new children that are in no batch durably, cut to what the run's limit allows.

        Args:
            replica: the replica's index.
            number: of the replica's next batch. Together with `unbatched` it identifies the call: a repeated or late
                one changes nothing.
            unbatched: how many of the replica's children are in no batch before the call.
            proposals: the children.
            versions: the shards' versions that they were sampled from.
            after: record nothing unless this is still the child that was sampled last; `None`: whichever was.
            origin: what they were proposed from; empty: not recorded.
        """
        ...

    def form_batch(self, replica: int, number: int, size: int) -> None:
        """Record the batch `number` durably: the first `size` children that have ended and are in no batch.

        `turn` then has it. If there is such a batch already, the call changes nothing.
        """
        ...

    def finish(self, child_id: int, outcome: Outcome, reward: float | None) -> ChildRecord:
        """Record a child's outcome durably, unless it has one, and return the child as recorded.

        Args:
            child_id: the child's id.
            outcome: the result of its training.
            reward: what the searcher learns from; with `None` it learns nothing from this child.
        """
        ...

    def finish_all(self, children: Sequence[Ended]) -> Sequence[ChildRecord]:
        """Do `finish` for each of the children, in their order and in one transaction."""
        ...

    def learned(self, replica: int, number: int, result: BatchResult) -> None:
        """Record that a batch was learnt from, durably at the latest when the replica's next children are.

        If that does not happen, the batch is learnt from again, and its push is known by its number.
        """
        ...

    def completed(self) -> int:
        """Return how many children have ended."""
        ...

    def history(self, after: int = 0) -> Sequence[ChildRecord]:
        """Return the ended children in completion order, those without a reward included.

        Args:
            after: the id of one of them: return only those that ended later; 0: all.
        """
        ...

    def pending(self) -> Sequence[ChildRecord]:
        """Return the children that were sampled and have not ended."""
        ...
