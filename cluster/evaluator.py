"""The one seam between local and distributed: children go in, outcomes come out as they are ready."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from child_trainer.architecture import Architecture
from child_trainer.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a worker needs to train a child."""

    child_id: int
    architecture: Architecture
    seed: int


Train = Callable[[Assignment], Outcome]


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


class InProcessEvaluator:
    """Trains here and now, one child for each call of `completed`.

    Args:
        train: trains a child.
        on_start: told the child's id before its training starts.
    """

    def __init__(self, train: Train, on_start: Callable[[int], None]) -> None:
        self._train = train
        self._on_start = on_start
        self._waiting: deque[Assignment] = deque()

    def submit(self, assignment: Assignment) -> None:
        """Put the child into the queue."""
        self._waiting.append(assignment)

    def completed(self) -> list[tuple[int, Outcome]]:
        """The next child of the queue, trained."""
        if not self._waiting:
            return []
        assignment = self._waiting.popleft()
        self._on_start(assignment.child_id)
        return [(assignment.child_id, self._train(assignment))]
