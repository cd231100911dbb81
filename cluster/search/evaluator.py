"""The one seam between local and distributed: children go in, outcomes come out as they are ready."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a worker needs to train a child."""

    child_id: int
    architecture: Architecture
    seed: int


class Evaluator(Protocol):
    """Trains what one replica submits.

    Rules, held by `tests/contracts/evaluator.py`:
    1. Every submitted child's outcome is given exactly once, whatever happened to the child.
    2. Outcomes come in the order in which children end, not in the order of submission.
    3. A child's own fault is an outcome with a failure, never an exception.
    """

    def submit(self, assignment: Assignment) -> None:
        """Hand over a child; returns at once."""
        ...

    def completed(self) -> list[tuple[int, Outcome]]:
        """Child ids and outcomes that are ready, waiting a moment for one if there is none yet."""
        ...


class ChildTrainer(Protocol):
    """Trains one child; `cluster.runners.trainer.Trainer` implements it."""

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        """Return the outcome of one child, its own faults included."""
        ...
