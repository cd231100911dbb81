"""What passes between the pool and the workers, and how the pool reaches them. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from child_trainer.outcome import Cause, Outcome
from cluster.pool.supervision import Nodes
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a worker is told to do: an attempt at a child.

    Attributes:
        key: names the attempt.
        place: the process that is meant; another one at the same slot refuses.
        assignment: the child.
        batch_size: instead of the budget's, or `None`.
    """

    key: str
    place: str
    assignment: Assignment
    batch_size: int | None

    def begun(self, slot: int, now: float) -> Attempt:
        """The attempt that is made by the worker with this number, from the Unix time `now` on."""
        return Attempt(
            child_id=self.assignment.child_id,
            seed=self.assignment.seed,
            key=self.key,
            slot=slot,
            worker=self.place,
            batch_size=self.batch_size,
            started_at=now,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Death:
    """What a process left behind when it died.

    Attributes:
        place: which it was.
        key: the last attempt that it began, or `None` if it began none.
        words: how it died, as far as it could say.
    """

    place: str
    key: str | None = None
    words: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a worker says of itself.

    Attributes:
        place: its process, named so that no other is called alike.
        node: the id of its node.
        trained: children since the process began.
        key, outcome: its last attempt and what that gave; `None` before the first.
        death: of the process before it at the same slot on the same node, or `None` if nothing is known of one.
    """

    place: str
    node: str
    trained: int
    key: str | None = None
    outcome: Outcome | None = None
    death: Death | None = None


def settled_by(report: Report, attempt: Attempt, cause: Cause) -> Outcome | None:
    """What an attempt came to, by what the worker at its slot says now; `None` if it never began.

    Args:
        report: by the process that made the attempt, or by a later one.
        attempt: whose call brought no answer.
        cause: what the child failed of if the process died of it.
    """
    if report.place == attempt.worker:
        return report.outcome if report.key == attempt.key else None
    death = report.death if report.death and report.death.place == attempt.worker else None
    if death and death.key != attempt.key:
        return None  # it was dead before the order came
    return Outcome.failed(cause, _obituary(attempt.worker, death.words if death else ""), seed=attempt.seed)


def _obituary(place: str, words: str) -> str:
    """The text for a process that died; the last line says it all, as in Python's tracebacks."""
    if not words:
        return f"{place} died without a word: killed from outside, or for want of memory"
    return f"{words}\n{place} died: {words.partition(chr(10))[0]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Muster:
    """Who is there.

    Attributes:
        up: how many workers are up on each node, by its id.
        lost: slots of which nothing more is expected until somebody else is started there.
    """

    up: Mapping[str, int]
    lost: tuple[int, ...] = ()


class Gone(Exception):
    """A worker can never be started again by itself; the message says why."""


class NoWorkers(RuntimeError):
    """No worker is left to train anything."""


class BrokenOff(Exception):
    """A call to a worker brought no answer: its process may have died, or may still be at it."""


class NotBegun(Exception):
    """The process that was meant is not there any more; the one in its place has not begun."""


class Crew(Protocol):
    """The workers as the pool reaches them, by slot."""

    async def report(self, slot: int) -> Report:
        """What the worker has to say once it is up and idle, however long that takes; raises `Gone`."""
        ...

    async def train(self, slot: int, order: Order) -> Outcome:
        """Have it train a child; raises `BrokenOff` or `NotBegun`."""
        ...

    async def restart(self, slot: int, place: str) -> None:
        """End the process at `place`, whatever it does; another one is started. If that has happened, nothing does."""
        ...

    async def nodes(self) -> Nodes:
        """The nodes as they are now."""
        ...

    def forget(self, child_id: int) -> None:
        """The child has ended: what was kept to go on with it may go."""
        ...


class PoolLedger(Protocol):
    """The ledger as the pool reaches it; every call may be repeated."""

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """The attempts at a child, oldest first."""
        ...

    async def running(self) -> Sequence[Attempt]:
        """The attempts that have not ended."""
        ...

    async def start(self, attempt: Attempt) -> None:
        """Record that the attempt begins, durably."""
        ...

    async def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """Record what an attempt came to, durably, and whether this was the first word on it."""
        ...
