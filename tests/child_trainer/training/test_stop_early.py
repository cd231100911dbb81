"""A training that is stopped between two epochs, by what is asked after each."""

import time

import pytest

from child_trainer.outcome import Budget, Cause, Outcome, Stopped, TrainingSoFar
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import Slot
from tests.golden import architecture

SMALL = architecture(((3, 3, 24, ()), (1, 1, 24, (1,))), strides=(2, 2))
BUDGET = Budget(epochs=4, batch_size=64, train_fraction=0.2)


class Asked:
    """Stops a training after an epoch, and keeps what it was asked with."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.told: list[TrainingSoFar] = []

    def __call__(self, so_far: TrainingSoFar) -> Stopped | None:
        self.told.append(so_far)
        epoch = len(so_far.curve)
        return Stopped(epoch=epoch, reason="it cannot win", predicted=0.5) if epoch == self.last else None


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


def test_it_ends_there_with_the_metric_that_it_has(digits) -> None:
    asked = Asked(2)
    whole, early = train(SMALL, digits, BUDGET, seed=1), train(SMALL, digits, BUDGET, seed=1, stop_early=asked)
    assert early.failure is None
    assert early.curve == whole.curve[:2]
    assert early.metric == max(early.curve)
    assert early.stopped == Stopped(epoch=2, reason="it cannot win", predicted=0.5)
    later = early.to_json()
    later["stopped"]["rung"] = 3  # as a later version may have it
    assert Outcome.from_json(later) == early
    assert early.stopped.text == "stopped early at epoch 2: it cannot win"
    assert [len(so_far.curve) for so_far in asked.told] == [1, 2]
    assert all((so_far.parameters, so_far.flops) == (early.parameters, early.flops) for so_far in asked.told)


def test_the_wait_for_an_answer_is_none_of_the_child_s_seconds(digits) -> None:
    def late(so_far: TrainingSoFar) -> None:
        time.sleep(0.3)

    begun = time.perf_counter()
    outcome = train(SMALL, digits, BUDGET, seed=1, stop_early=late)
    assert outcome.failure is None
    assert time.perf_counter() - begun - outcome.seconds > 0.8  # three answers


def test_after_the_last_epoch_nothing_is_asked(digits) -> None:
    asked = Asked(4)
    outcome = train(SMALL, digits, BUDGET, seed=1, stop_early=asked)
    assert outcome.stopped is None
    assert [len(so_far.curve) for so_far in asked.told] == [1, 2, 3]


def test_after_an_interruption_it_is_asked_with_the_epochs_before(digits) -> None:
    slot, asked = Slot(), Asked(3)
    calls = iter(range(1000))
    preempted = train(SMALL, digits, BUDGET, seed=1, checkpoints=slot, preempted=lambda: next(calls) > 4)
    assert preempted.failure is not None
    assert preempted.failure.cause is Cause.PREEMPTED
    assert preempted.curve
    outcome = train(SMALL, digits, BUDGET, seed=1, checkpoints=slot, stop_early=asked)
    assert outcome.curve == train(SMALL, digits, BUDGET, seed=1).curve[:3]
    assert [len(so_far.curve) for so_far in asked.told] == list(range(len(preempted.curve) + 1, 4))


def test_an_error_in_the_question_is_the_failure_of_the_child(digits) -> None:
    def ask(so_far: TrainingSoFar) -> Stopped | None:
        raise LookupError("no answer")

    outcome = train(SMALL, digits, BUDGET, seed=1, stop_early=ask)
    assert outcome.failure is not None
    assert "no answer" in outcome.failure.message
    assert outcome.stopped is None


def test_an_outcome_tells_of_it_in_json_and_one_that_was_not_stopped_does_not() -> None:
    task, budget = SyntheticTask(child_seconds=0.01), Budget(epochs=5)
    stopped, whole = (train(SMALL, task, budget, seed=1, stop_early=Asked(last)) for last in (2, 9))
    assert Outcome.from_json(stopped.to_json()) == stopped
    assert stopped.to_json()["stopped"] == {"epoch": 2, "reason": "it cannot win", "predicted": 0.5}
    assert "stopped" not in whole.to_json()
    assert Outcome.from_json(whole.to_json()) == whole
