"""Trainings that begin with weights of another network, and that keep theirs."""

from dataclasses import replace

import pytest
import torch

from child_trainer.inheritance.changed_architectures import changed
from child_trainer.inheritance.changes import Deepen, Widen
from child_trainer.inheritance.trained_weights import Start, TrainedWeights
from child_trainer.networks.build import build
from child_trainer.networks.weights import load
from child_trainer.outcome import ACCURACY_BEFORE, Budget, Cause
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.task import TaskError
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BATCH_NORM, Slot, at

BUDGET = Budget(epochs=2, batch_size=64, train_fraction=0.5, learning_rate=0.05)
CHANGES = (
    Widen(node=BATCH_NORM.nodes[0].name, width=BATCH_NORM.nodes[0].attribute("filters") + 3),
    Deepen(after=BATCH_NORM.nodes[0].name, name="new", op="conv", width=BATCH_NORM.nodes[0].attribute("filters") + 3),
)


class Kept:
    """A slot in memory."""

    def __init__(self, fails=False):
        self.saved, self._fails = {}, fails

    def save(self, checksum, data):
        if self._fails:
            raise OSError("the disk is full")
        self.saved[checksum] = data


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


@pytest.fixture(scope="module")
def parent(digits):
    kept = Kept()
    outcome = train(BATCH_NORM, digits, BUDGET, seed=5, keep=kept)
    return outcome, TrainedWeights.from_bytes(kept.saved[outcome.weights])


def test_kept_weights_are_those_of_the_last_epoch(digits, parent):
    outcome, weights = parent
    assert weights.checksum == outcome.weights
    network = build(weights.architecture, digits)
    load(network, weights.tensors)
    assert digits.accuracy(network, digits.validation) == outcome.curve[-1]
    # The bytes may differ in the order of their header; the checksum is of the content.
    again = Kept()
    assert train(BATCH_NORM, digits, BUDGET, seed=5, keep=again).weights == outcome.weights


def test_a_child_begins_at_its_parents_accuracy(digits, parent):
    outcome, weights = parent
    child = train(changed(BATCH_NORM, CHANGES), digits, BUDGET, seed=6, start=Start(parent=weights, changes=CHANGES))
    assert child.failure is None
    assert child.measurements[ACCURACY_BEFORE] == pytest.approx(outcome.curve[-1], abs=0.01)


def test_a_child_that_was_interrupted_gives_the_same_and_another_start_begins_anew(digits, parent, caplog):
    start = Start(parent=parent[1], changes=CHANGES)
    architecture, slot, kept = changed(BATCH_NORM, CHANGES), Slot(), Kept()
    whole = train(architecture, digits, BUDGET, seed=6, start=start, keep=kept)
    stopped = train(architecture, digits, BUDGET, seed=6, start=start, checkpoints=slot, preempted=at(5), keep=Kept())
    assert stopped.failure is not None and stopped.failure.cause is Cause.PREEMPTED
    assert stopped.weights is None
    resumed = train(architecture, digits, BUDGET, seed=6, start=start, checkpoints=slot, keep=Kept())
    assert (resumed.curve, resumed.weights, resumed.measurements) == (whole.curve, whole.weights, whole.measurements)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in parent[1].tensors.items()}
    other = replace(start, parent=TrainedWeights(parent[1].architecture, tensors))
    train(architecture, digits, BUDGET, seed=6, start=other, checkpoints=slot)
    assert "the checkpoint is of another training: its start is" in caplog.text


def test_a_child_whose_weights_cannot_be_kept_has_failed(digits):
    outcome = train(BATCH_NORM, digits, BUDGET, seed=5, keep=Kept(fails=True))
    assert outcome.failure is not None
    assert outcome.failure.cause is Cause.CRASHED
    assert "the disk is full" in outcome.failure.message
    assert outcome.weights is None


def test_a_task_without_weights_is_refused():
    with pytest.raises(TaskError, match="the task 'synthetic' neither takes nor keeps weights"):
        train(BATCH_NORM, load_task("synthetic", seed=1), BUDGET, seed=1, keep=Kept())
