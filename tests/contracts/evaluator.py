"""The rules of `cluster.search.evaluator.Evaluator`. An implementation subclasses and supplies `evaluator`."""

import time
from collections import Counter

import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Cause, Outcome
from cluster.search.evaluator import Assignment, Evaluator

GATHER_TIMEOUT_S = 60.0


def architecture(filters: int = 24) -> Architecture:
    return Architecture("feedforward", (node("a", "conv", "image", height=3, width=3, filters=filters),), ("a",))


RECURRENT = Architecture("recurrent", (node("h1", "tanh", "x"),), ("h1",))
"""An architecture that a task for images must refuse."""


def assignment(child_id: int, graph: Architecture | None = None) -> Assignment:
    return Assignment(child_id=child_id, architecture=graph or architecture(), seed=100 + child_id)


def gather(evaluator: Evaluator, count: int) -> list[tuple[int, Outcome]]:
    """Return the next `count` outcomes, and those that came together with the last of them."""
    outcomes: list[tuple[int, Outcome]] = []
    deadline = time.monotonic() + GATHER_TIMEOUT_S
    while len(outcomes) < count:
        assert time.monotonic() < deadline, f"{len(outcomes)} of {count} outcomes after {GATHER_TIMEOUT_S} s"
        outcomes += evaluator.completed()
    return outcomes


class EvaluatorContract:
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        """Trains on the task `digits` for one epoch."""
        raise NotImplementedError

    def test_every_child_comes_back_exactly_once(self, evaluator: Evaluator) -> None:
        for child_id in range(1, 7):
            evaluator.submit(assignment(child_id))
        outcomes = gather(evaluator, 6)
        assert Counter(child_id for child_id, _ in outcomes) == Counter(range(1, 7))
        assert all(outcome.seed == 100 + child_id for child_id, outcome in outcomes)
        assert all(outcome.failure is None and outcome.curve for _, outcome in outcomes)

    def test_children_may_be_submitted_while_others_are_out(self, evaluator: Evaluator) -> None:
        evaluator.submit(assignment(1))
        evaluator.submit(assignment(2))
        first = gather(evaluator, 1)
        evaluator.submit(assignment(3))
        assert {i for i, _ in first + gather(evaluator, 3 - len(first))} == {1, 2, 3}

    def test_a_childs_own_fault_is_an_outcome(self, evaluator: Evaluator) -> None:
        evaluator.submit(assignment(1, RECURRENT))
        evaluator.submit(assignment(2))
        outcomes = dict(gather(evaluator, 2))
        assert outcomes[1].failure is not None
        assert outcomes[1].failure.cause == Cause.INVALID
        assert outcomes[2].failure is None

    def test_equal_seeds_give_equal_outcomes(self, evaluator: Evaluator) -> None:
        for child_id in (1, 2):
            evaluator.submit(Assignment(child_id=child_id, architecture=architecture(), seed=5))
        outcomes = dict(gather(evaluator, 2))
        assert outcomes[1].curve == outcomes[2].curve
