"""Trainings with several seeds as one network are those of each seed alone, up to the order of sums."""

from dataclasses import replace

import pytest
import torch

from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.networks.build import build
from child_trainer.networks.horizontal_fusion import FusedClassifier
from child_trainer.outcome import FUSED, Budget, Cause
from child_trainer.regime import Regime
from child_trainer.tasks.catalogue import load_task
from child_trainer.training import fused_classifier
from child_trainer.training.augment import Augmentation
from child_trainer.training.image_classifier import PreparedImages
from child_trainer.training.task import Diverged, Progress, TaskError
from child_trainer.training.train import train
from child_trainer.training.train_together import train_together, why_alone
from tests.child_trainer.training.interruptions import BATCH_NORM, EVERY_PART, Slot, at
from tests.golden import architecture

SEEDS = (5, 6, 11)
BUDGET = Budget(epochs=3, batch_size=64, train_fraction=0.3, learning_rate=0.02)
REGIMES = {
    "sgd": Regime(),
    "adam": Regime(optimizer="adam", schedule="cosine", clip_norm=0.5, label_smoothing=0.1, cutout=3),
}


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


class Kept:
    """Weights in memory."""

    def save(self, checksum, data):
        self.weights = TrainedWeights.from_bytes(data)


@pytest.mark.parametrize("regime", REGIMES)
def test_each_training_is_that_of_its_seed(digits, regime):
    budget = replace(BUDGET, regime=REGIMES[regime])
    keep = [Kept() for _ in SEEDS]
    together = train_together(BATCH_NORM, digits, budget, seeds=SEEDS, keep=keep)
    for seed, outcome, kept in zip(SEEDS, together, keep, strict=True):
        alone_kept = Kept()
        alone = train(BATCH_NORM, digits, budget, seed=seed, keep=alone_kept)
        assert outcome.failure is None and outcome.measurements == {FUSED: 3.0}
        assert (outcome.seed, outcome.parameters, outcome.flops) == (seed, alone.parameters, alone.flops)
        # Of 540 validation images, those at the border between two classes may change sides.
        assert outcome.curve == pytest.approx(alone.curve, abs=3 / len(digits.validation))
        ours, theirs = kept.weights.tensors, alone_kept.weights.tensors
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=2e-3)
    curves = [outcome.curve for outcome in together]
    assert len(set(curves)) == 3
    assert curves == [outcome.curve for outcome in train_together(BATCH_NORM, digits, budget, seeds=SEEDS)]


def test_interrupted_between_epochs_and_continued_to_the_bit(digits):
    undisturbed = train_together(BATCH_NORM, digits, BUDGET, seeds=SEEDS)
    slot = Slot()
    stopped = train_together(BATCH_NORM, digits, BUDGET, seeds=SEEDS, checkpoints=slot, preempted=at(1))
    assert {outcome.failure.cause for outcome in stopped} == {Cause.PREEMPTED}
    assert [outcome.curve for outcome in stopped] == [outcome.curve[:2] for outcome in undisturbed]
    others = train_together(BATCH_NORM, digits, BUDGET, seeds=(5, 6, 12), checkpoints=Slot(slot.data))
    assert [o.curve for o in others][:2] == [o.curve for o in undisturbed][:2]  # from the beginning
    again = train_together(BATCH_NORM, digits, BUDGET, seeds=SEEDS, checkpoints=slot, preempted=lambda: False)
    assert [outcome.curve for outcome in again] == [outcome.curve for outcome in undisturbed]


def test_one_that_diverges_fails_alone(digits):
    """The images of the second one become infinite in its second epoch; the curves of the others stay the same."""
    curves = {}
    for broken in (False, True):
        state = _state(digits, at_step=6 if broken else None)
        validation = PreparedImages(digits.validation, digits.centred)
        fused_classifier.fit(state, digits.training.first(0.3), validation, BUDGET, Progress(epochs=3), prepare=None)
        curves[broken] = [state.curve(number) for number in range(3)]
        errors = [state.failure(number) for number in range(3)]
        assert [isinstance(error, Diverged) for error in errors] == [False, broken, False]
    assert str(errors[1]) == "the training loss is nan in epoch 2"
    assert curves[True] == [curves[False][0], curves[False][1][:1], curves[False][2]]


def _state(digits, at_step):
    steps = iter(range(100))

    def change(images, generator):
        return images * torch.inf if next(steps) == at_step else images

    def draws(seed, change):
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        return fused_classifier.Draws(generators[0], Augmentation(change, generators[1]))

    networks = [build(BATCH_NORM, digits, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    fused = FusedClassifier(BATCH_NORM, networks)
    optimizer = fused_classifier.prepared_network(fused, BUDGET, torch.device("cpu"))
    each = [draws(seed, change if seed == 6 else (lambda images, generator: images)) for seed in SEEDS]
    return fused_classifier.FusedState(fused, optimizer, digits.training.labels, each, BUDGET.epochs)


def test_an_error_that_concerns_all_is_the_failure_of_each(digits):
    outcomes = train_together(BATCH_NORM, digits, replace(BUDGET, max_seconds=1e-6), seeds=SEEDS)
    assert {outcome.failure.cause for outcome in outcomes} == {Cause.TIMEOUT}
    assert {len(outcome.curve) for outcome in outcomes} == {1}
    outcomes = train_together(BATCH_NORM, digits, replace(BUDGET, learning_rate=1e30), seeds=SEEDS)
    assert {outcome.failure.cause for outcome in outcomes} == {Cause.DIVERGED}


def test_what_is_slower_or_cannot_be_done_is_refused(digits):
    assert why_alone(BATCH_NORM, digits, BUDGET) is None
    large = replace(BUDGET, batch_size=65)
    assert why_alone(BATCH_NORM, digits, large) == (
        "a CPU is slower with networks as one where a batch has more than 4,096 pixels, and this has 4,160"
    )
    assert why_alone(BATCH_NORM, digits, large, "cuda") is None
    again = replace(BUDGET, regime=Regime(restart_below=0.5))
    assert why_alone(BATCH_NORM, digits, again) == "with `restart_below` each training may begin again"
    assert "auxiliary head" in str(why_alone(EVERY_PART, digits, BUDGET))
    recurrent = load_task("synthetic", seed=1)
    assert why_alone(architecture(), recurrent, BUDGET) == "the task synthetic trains its networks one by one"
    with pytest.raises(TaskError, match="these trainings cannot be computed as one: a CPU is slower"):
        train_together(BATCH_NORM, digits, large, seeds=SEEDS)
