from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Budget, Cause, Failure, Outcome
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.pool.failure_policy import MAX_LOST_ALONE, FailurePolicy, parse_failure_policy
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Assignment, ChildTrainer, Evaluator
from cluster.search.records import Ended
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Proposal
from tests.contracts.evaluator import EvaluatorContract, architecture, assignment

TINY = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=1, train_fraction=0.1, batch_size=32))
GOOD = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=101)


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(Path(":memory:"), 0, 10, clock=lambda: 0.0)
    ledger.begin(workers=1)
    ledger.admit(0, 1, [Proposal(tokens=(0, 0, 0), architecture=architecture())] * 6, ())
    return ledger


def evaluator_of(trainer: ChildTrainer, ledger: Ledger, policy: str = "") -> InProcessEvaluator:
    failures = FailurePolicy(max_attempts=3, by_cause=parse_failure_policy(policy))
    return InProcessEvaluator(trainer, ledger, failures, batch_size=32)


class Scripted:
    """Returns the given outcomes, one for each attempt, and records the batch sizes."""

    def __init__(self, *script: Outcome | BaseException) -> None:
        self.script = list(script)
        self.sizes: list[int | None] = []

    def train(self, assignment: Assignment, *, batch_size: int | None = None, **_: Any) -> Outcome:
        self.sizes.append(batch_size)
        result = self.script.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result


def failed(cause: Cause) -> Outcome:
    failure = Failure(cause=cause, message="why")
    return Outcome(curve=(), seconds=1.0, parameters=None, flops=None, seed=101, failure=failure)


def attempts(ledger: Ledger) -> list[tuple[str | None, str | None]]:
    return [(a.verdict, a.cause) for a in ledger.attempts(1)]


class TestInProcess(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, ledger: Ledger) -> Evaluator:
        return evaluator_of(Trainer(TINY), ledger)


def test_without_a_child_nothing_completes(ledger: Ledger) -> None:
    assert evaluator_of(Scripted(), ledger).completed() == []


def test_an_attempt_is_on_record_before_its_training(ledger: Ledger) -> None:
    class Looking(Scripted):
        def train(self, assignment: Assignment, **options: Any) -> Outcome:
            assert [attempt.child_id for attempt in ledger.running()] == [assignment.child_id]
            return super().train(assignment, **options)

    evaluator = evaluator_of(Looking(GOOD), ledger)
    evaluator.submit(assignment(1))
    assert evaluator.completed() == [(1, GOOD)]
    assert attempts(ledger) == [("outcome", None)]


def test_a_failure_follows_the_policy_and_other_children_are_not_held_up(ledger: Ledger) -> None:
    oom = failed(Cause.OUT_OF_MEMORY)
    trainer = Scripted(oom, oom, GOOD, GOOD)
    evaluator = evaluator_of(trainer, ledger, "out_of_memory=smaller-batch")
    evaluator.submit(assignment(1))
    evaluator.submit(assignment(2))
    completed = [evaluator.completed() for _ in range(4)]
    assert completed == [[], [], [(1, GOOD)], [(2, GOOD)]]
    assert trainer.sizes == [None, 16, 8, None]
    assert attempts(ledger) == [("retry", "out_of_memory")] * 2 + [("outcome", None)]


def test_attempts_at_children_that_take_no_time_are_recorded_once_and_alike(ledger: Ledger) -> None:
    crash, policy = failed(Cause.CRASHED), FailurePolicy(max_attempts=3, by_cause=parse_failure_policy("crashed=retry"))
    script = [crash, GOOD, failed(Cause.DIVERGED), GOOD, GOOD]
    evaluator = InProcessEvaluator(Scripted(*script), ledger, policy, batch_size=32, at_once=True)
    evaluator.submit(*map(assignment, (1, 2, 3)))
    with ledger.together():
        ended = [*evaluator.completed(), *evaluator.completed(), *evaluator.completed()]
        ledger.finish_all([Ended(child, outcome, 0.5) for child, outcome in ended])
    assert [child for child, _ in ended] == [1, 2, 3]
    found = [[(a.key, a.worker, a.verdict, a.cause) for a in ledger.attempts(child)] for child in (1, 2, 3)]
    assert found == [
        [("1-1", "local", "retry", "crashed"), ("1-2", "local", "outcome", None)],
        [("2-1", "local", "outcome", "diverged")],
        [("3-1", "local", "outcome", None)],
    ]
    assert [child.outcome for child in ledger.history()] == [outcome for _, outcome in ended]


def test_the_ledger_has_an_attempt_that_takes_no_time_when_its_output_is_kept(ledger: Ledger) -> None:
    known: list[bool] = []

    @contextmanager
    def capture(child: int, key: str) -> Iterator[None]:
        yield
        known.append(key in [attempt.key for attempt in ledger.attempts(child)])

    trainer, policy = (
        Scripted(GOOD, failed(Cause.DIVERGED)),
        FailurePolicy(max_attempts=3, by_cause=parse_failure_policy("")),
    )
    evaluator = InProcessEvaluator(trainer, ledger, policy, batch_size=32, capture=capture, at_once=True)
    evaluator.submit(*map(assignment, (1, 2)))
    with ledger.together():
        assert [child for child, _ in (*evaluator.completed(), *evaluator.completed())] == [1, 2]
    assert known == [True, True]


def test_a_child_with_an_outcome_on_record_is_not_trained_again(ledger: Ledger) -> None:
    """As when the process died between the end of the training and the record of its reward."""
    evaluator = evaluator_of(Scripted(GOOD), ledger)
    evaluator.submit(assignment(1))
    evaluator.completed()
    again = evaluator_of(Scripted(), ledger)
    again.submit(assignment(1))
    assert again.completed() == [(1, GOOD)]


def test_a_child_that_ends_the_process_each_time_fails_as_crashed(ledger: Ledger) -> None:
    for number in range(MAX_LOST_ALONE):
        evaluator = evaluator_of(Scripted(SystemExit()), ledger)
        evaluator.submit(assignment(1))
        with pytest.raises(SystemExit):
            evaluator.completed()
        ledger.begin(workers=1)  # the next start of the run
        assert attempts(ledger) == [("lost", None)] * (number + 1)
    evaluator = evaluator_of(Scripted(), ledger)
    evaluator.submit(assignment(1))
    ((_, outcome),) = evaluator.completed()
    message = "the run died during 3 consecutive attempts at the child"
    assert outcome == Outcome.failed(Cause.CRASHED, message, seed=101)


def test_a_child_that_the_stopping_run_preempts_is_retried_whatever_the_policy(ledger: Ledger) -> None:
    policy = FailurePolicy(max_attempts=1, by_cause=parse_failure_policy("preempted=drop"))
    trainer = Scripted(failed(Cause.PREEMPTED), GOOD)
    evaluator = InProcessEvaluator(trainer, ledger, policy, batch_size=32, preempted=lambda: True)
    evaluator.submit(assignment(1))
    assert [evaluator.completed(), evaluator.completed()] == [[], [(1, GOOD)]]
    assert attempts(ledger) == [("retry", "preempted"), ("outcome", None)]


def test_an_interrupted_attempt_is_not_lost(ledger: Ledger) -> None:
    for _ in range(5):
        evaluator = evaluator_of(Scripted(KeyboardInterrupt()), ledger)
        evaluator.submit(assignment(1))
        with pytest.raises(KeyboardInterrupt):
            evaluator.completed()
        ledger.begin(workers=1)
    assert attempts(ledger) == [("retry", "preempted")] * 5
    evaluator = evaluator_of(Scripted(GOOD), ledger)
    evaluator.submit(assignment(1))
    assert evaluator.completed() == [(1, GOOD)]
