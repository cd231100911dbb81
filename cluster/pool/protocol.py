"""The messages between the pool and its workers, and the protocols of what the pool uses. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from child_trainer.outcome import Cause, Outcome
from cluster.pool.supervision import Gpu, Nodes
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, GpuUse, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOrder:
    """An order to a worker: one attempt at a child.

    Attributes:
        key: names the attempt.
        place: the process that the order is for; another process at the same slot refuses it.
        assignment: the child.
        batch_size: replaces the budget's, unless `None`.
        gpu: what the attempt has of a GPU, where the pool decides that.
        gpu_limit_bytes: memory that the process may allocate there; `None`: as much as there is.
    """

    key: str
    place: str
    assignment: Assignment
    batch_size: int | None
    gpu: GpuUse | None = None
    gpu_limit_bytes: int | None = None

    def attempt(self, slot: int, now: float) -> Attempt:
        """Return the attempt that the worker of this slot makes from the Unix time `now` on."""
        return Attempt(
            child_id=self.assignment.child_id,
            seed=self.assignment.seed,
            key=self.key,
            slot=slot,
            worker=self.place,
            batch_size=self.batch_size,
            started_at=now,
            gpu=self.gpu,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessExit:
    """How a worker's process ended.

    Attributes:
        place: the process.
        key: the last attempt that it started, or `None` if it started none.
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
        key, outcome: its last attempt and what that gave; `None` before the first.
        previous_exit: of the process before it at the same slot on the same node, or `None` if none is known.
        gpu: that it trains on, where children get parts of one.
    """

    place: str
    node: str
    trained: int
    key: str | None = None
    outcome: Outcome | None = None
    previous_exit: ProcessExit | None = None
    gpu: Gpu | None = None


def outcome_of_lost_call(report: Report, attempt: Attempt, cause: Cause) -> Outcome | None:
    """Return the outcome of an attempt whose call was lost, from the worker's report; `None` if it never started.

    Args:
        report: by the process that made the attempt, or by a later one at its slot.
        attempt: the one whose call returned nothing.
        cause: why the child failed if the process exited during the attempt.
    """
    if report.place == attempt.worker:
        return report.outcome if report.key == attempt.key else None
    known = report.previous_exit if report.previous_exit and report.previous_exit.place == attempt.worker else None
    if known and known.key != attempt.key:
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


class WorkerGroup(Protocol):
    """The workers, by slot, as the pool calls them."""

    async def report(self, slot: int) -> Report:
        """Wait until the worker is up and idle, however long that takes, and return its report.

        Raises:
            WorkerLost: it cannot be started again.
        """
        ...

    async def train(self, slot: int, order: TrainingOrder) -> Outcome:
        """Have the worker train a child; raises `CallLost`, `NotStarted` or `LostWeights`."""
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

    async def start(self, attempt: Attempt) -> None:
        """Record that the attempt begins, durably."""
        ...

    async def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict, *, can_wait: bool = False) -> bool:
        """Record what an attempt gave, durably, and return whether this was the first record of its end.

        With `can_wait` the record may wait a moment, to share a message with others.
        """
        ...

    def hasten(self) -> None:
        """Have the records that wait made now."""
        ...
