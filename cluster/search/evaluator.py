"""The interface of what trains children: local, on Ray or simulated. Children go in, outcomes come out when ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Job
from controller.searcher import Child, Lane


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """A child to train: all that a worker needs.

    Attributes:
        child_id, seed: the child's.
        architecture: what to train; `None` for steps on the supernet as a whole.
        tokens: the decisions behind the architecture.
        job: what to do on the shared weights; `None`: train the architecture from scratch.
        lane: of the steps, if that is the job.
        gpu_bytes: memory of a GPU that its training is predicted to allocate; `None` if nobody asks, or it is unknown.
    """

    child_id: int
    seed: int
    architecture: Architecture | None
    tokens: tuple[int, ...] = ()
    job: Job | None = None
    lane: Lane | None = None
    gpu_bytes: int | None = None


def assignment_of(child: Child, seed: int) -> Assignment:
    """Return the assignment to train a child with this seed."""
    return Assignment(
        child_id=child.id,
        seed=seed,
        architecture=child.proposal.architecture,
        tokens=child.proposal.tokens,
        job=child.proposal.job,
        lane=child.lane,
    )


class Evaluator(Protocol):
    """Trains the children that one replica submits.

    Rules, held by `tests/contracts/evaluator.py`:
    1. It returns the outcome of every submitted child exactly once, however the child's training went.
    2. Outcomes come in the order in which children end, not in that of submission.
    3. A failure that the child causes is an outcome, never an exception.
    """

    def submit(self, *assignments: Assignment) -> None:
        """Submit children, without waiting; those of one call may share a message."""
        ...

    def completed(self) -> list[tuple[int, Outcome]]:
        """Return the child ids and outcomes that are ready; wait a moment for one if there is none."""
        ...


class ChildTrainer(Protocol):
    """Trains one child; `cluster.runners.trainer.Trainer` implements it."""

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        """Return the outcome of one child, its own faults included."""
        ...


class SeedsTrainer(Protocol):
    """Trains several seeds of one architecture as one network; `cluster.runners.trainer.Trainer` implements it."""

    def why_alone(self, assignment: Assignment) -> str | None:
        """Return why the child is not trained as one network with other seeds; `None` if it may be, and is faster."""
        ...

    def train_together(
        self, assignments: Sequence[Assignment], *, preempted: Callable[[], bool] | None = None
    ) -> list[Outcome]:
        """Return the outcomes of children of one architecture and different seeds, their own faults included."""
        ...
