"""The messages between the pool and its workers, and the protocols of what the pool uses. Standard library only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from child_trainer.outcome import Cause, Outcome
from cluster.pool.supervision import Gpu, Nodes
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, AttemptEnd, GpuUse, fused_key, key_of_all


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOrder:
    """An order to a worker: one attempt at a child, or at several seeds of one architecture as one network.

    Attributes:
        key: names the attempt, and of several the first; see `cluster.search.records.fused_key`.
        place: the process that the order is for; another process at the same slot refuses it.
        assignment: the child, and of several the first.
        batch_size: replaces the budget's, unless `None`.
        gpu: what the training has of a GPU, where the pool decides that.
        gpu_limit_bytes: memory that the process may allocate there; `None`: as much as there is.
        others: the other children that are trained as one network with the first.
    """

    key: str
    place: str
    assignment: Assignment
    batch_size: int | None
    gpu: GpuUse | None = None
    gpu_limit_bytes: int | None = None
    others: tuple[Assignment, ...] = ()

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """All children of the order."""
        return (self.assignment, *self.others)

    def attempts(self, slot: int, now: float) -> tuple[Attempt, ...]:
        """Return the attempts that the worker of this slot makes from the Unix time `now` on, one at each child."""
        return tuple(
            Attempt(
                child_id=assignment.child_id,
                seed=assignment.seed,
                key=fused_key(self.key, place),
                slot=slot,
                worker=self.place,
                batch_size=self.batch_size,
                started_at=now,
                gpu=self.gpu and replace(self.gpu, predicted_bytes=assignment.gpu_bytes),
            )
            for place, assignment in enumerate(self.assignments)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessExit:
    """How a worker's process ended.

    Attributes:
        place: the process.
        key: of the last order that it started, or `None` if it started none.
        message: the stack that Python wrote of a fault; empty if there is none.
    """

    place: str
    key: str | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A worker's report about itself.

    Attributes:
        place: its process, under a name that no other process has.
        node: the id of its node.
        trained: how many children it has trained since the process started.
        key, outcomes: of its last order, and what the attempt at each of its children gave; `None` and nothing before
            the first.
        previous_exit: of the process before it at the same slot on the same node, or `None` if none is known.
        gpu: that it trains on, where children get parts of one.
    """

    place: str
    node: str
    trained: int
    key: str | None = None
    outcomes: tuple[Outcome, ...] = ()
    previous_exit: ProcessExit | None = None
    gpu: Gpu | None = None

    def by_key(self) -> Iterator[tuple[str, Outcome]]:
        """Yield the key of each attempt of its last order, and what it gave."""
        for place, outcome in enumerate(self.outcomes):
            yield fused_key(self.key or "", place), outcome


def outcome_of_lost_call(report: Report, attempt: Attempt, cause: Cause) -> Outcome | None:
    """Return the outcome of an attempt whose call was lost, from the worker's report; `None` if it never started.

    Args:
        report: by the process that made the attempt, or by a later one at its slot.
        attempt: the one whose call returned nothing.
        cause: why the child failed if the process exited during the attempt.
    """
    if report.place == attempt.worker:
        return dict(report.by_key()).get(attempt.key)
    known = report.previous_exit if report.previous_exit and report.previous_exit.place == attempt.worker else None
    if known and known.key != key_of_all(attempt.key):
        return None  # the process had exited before the order came
    return Outcome.failed(cause, _exit_message(attempt.worker, known.message if known else ""), seed=attempt.seed)


def _exit_message(place: str, message: str) -> str:
    """Return the failure's text; its last line is a summary, as in Python's tracebacks."""
    if not message:
        return f"{place} exited without a message: it was killed, perhaps for lack of memory"
    return f"{message}\n{place} crashed: {message.partition(chr(10))[0]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """The pool's answer to a caller that waits for several children.

    Attributes:
        ended: those that have ended, with their outcomes, in the order in which they ended.
        unknown: those that the pool does not know, or not any more: their assignments must be sent.
    """

    ended: tuple[tuple[int, Outcome], ...]
    unknown: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerCensus:
    """Which workers are up, and which are lost.

    Attributes:
        up: how many workers are up on each node, by the node's id.
        lost: slots whose worker never returns unless the caller starts another one there.
    """

    up: Mapping[str, int]
    lost: tuple[int, ...] = ()


class WorkerLost(Exception):
    """A worker that cannot be started again automatically; the message says why."""


class NoWorkers(RuntimeError):
    """No worker is left to train anything."""


class CallLost(Exception):
    """A call to a worker that returned nothing: its process may have exited, or may still be training."""


class NotStarted(Exception):
    """An order to a process that has exited; the one in its place has not started the attempt."""


class FusionRefused(NotStarted):
    """An order to train several seeds as one, of which each is to be trained alone; the argument says why."""


class WorkerGroup(Protocol):
    """The workers, by slot, as the pool calls them."""

    async def report(self, slot: int) -> Report:
        """Wait until the worker is up and idle, however long that takes, and return its report.

        Raises:
            WorkerLost: it cannot be started again.
        """
        ...

    async def train(self, slot: int, order: TrainingOrder) -> Sequence[Outcome]:
        """Have the worker train a child, or several as one, and return the outcome of each.

        Raises:
            CallLost, NotStarted, FusionRefused, LostWeights: nothing has come of it.
        """
        ...

    async def restart(self, slot: int, place: str) -> None:
        """End the process at `place`, whatever it does, and start another; do nothing if it has ended already."""
        ...

    async def nodes(self) -> Nodes:
        """Return the nodes' present state."""
        ...

    def forget(self, child_id: int) -> None:
        """Remove the checkpoint of a child that has ended."""
        ...


class PoolLedger(Protocol):
    """The part of the ledger that the pool uses; every call may be repeated."""

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """Return the attempts at a child, oldest first."""
        ...

    async def running(self) -> Sequence[Attempt]:
        """Return the attempts that have not ended."""
        ...

    async def last_child(self) -> int:
        """Return the id of the child that was sampled last, 0 before the first."""
        ...

    async def memory_uses(self) -> Sequence[tuple[int, int]]:
        """Return what trainings were predicted to take of a GPU's memory and what they took, in bytes."""
        ...

    async def start(self, attempts: Sequence[Attempt]) -> None:
        """Record that an attempt begins, or several that are made as one, durably and all together."""
        ...

    async def end(self, ends: Sequence[AttemptEnd], *, can_wait: bool = False) -> Sequence[bool]:
        """Record what an attempt gave, or several that were made as one, durably and all together.

        Several share their time, see `AttemptLedger.share_time`. With `can_wait` the record may wait a moment, to share
        a message with others. Ends are recorded in the order of the calls.

        Returns:
            For each whether this was the first record of its end.
        """
        ...

    def hasten(self) -> None:
        """Have the records that wait made now."""
        ...
