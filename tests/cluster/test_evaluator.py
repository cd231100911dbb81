import pytest

from child_trainer.outcome import Budget
from cluster.config import RunConfig, TaskOptions
from cluster.evaluator import Evaluator, InProcessEvaluator
from cluster.training import Trainer
from tests.contracts.evaluator import EvaluatorContract, assignment

TINY = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=1, train_fraction=0.1, batch_size=32))


class TestInProcess(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return InProcessEvaluator(Trainer(TINY).train, lambda _: None)


def test_nothing_waits_when_nothing_was_submitted() -> None:
    assert InProcessEvaluator(Trainer(TINY).train, lambda _: None).completed() == []


def test_a_start_is_reported_before_its_training() -> None:
    events: list[str] = []

    def train(child):  # type: ignore[no-untyped-def]
        events.append(f"train {child.child_id}")
        return Trainer(RunConfig(task=TaskOptions(task="synthetic"))).train(child)

    evaluator = InProcessEvaluator(train, lambda child_id: events.append(f"start {child_id}"))
    evaluator.submit(assignment(7))
    evaluator.completed()
    assert events == ["start 7", "train 7"]
