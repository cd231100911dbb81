import json
import math
import time
from itertools import chain

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, node
from child_trainer.outcome import Budget, Cause, Failure, Measure, Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.training import image_classifier as sgd
from child_trainer.training.task import Diverged, Progress
from child_trainer.training.train import train
from tests.golden import architecture

SMALL = architecture(((3, 3, 24, ()), (3, 3, 24, (1,)), (1, 1, 24, (1, 2))), strides=(1, 2, 1))
WITH_DROPOUT = Architecture(
    SMALL.kind, (*SMALL.nodes, node("dropout", "dropout", SMALL.outputs[0], rate=0.3)), ("dropout",)
)
QUICK = Budget(epochs=2, batch_size=64, train_fraction=0.3)


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


def with_hyperparameters(**values):
    return Architecture(SMALL.kind, SMALL.nodes, SMALL.outputs, tuple(sorted(values.items())))


def test_a_small_network_learns_digits(digits):
    epochs = []
    outcome = train(
        SMALL, digits, Budget(epochs=5, batch_size=32), seed=1, on_epoch=lambda *report: epochs.append(report)
    )
    assert outcome.failure is None
    assert outcome.metric > 0.6  # Chance is 0.1.
    assert epochs == list(enumerate(outcome.curve, start=1))
    assert outcome.parameters == 9 * 24 + 9 * 24 * 24 + 48 * 24 + 3 * 48 + 24 * 10 + 10
    convolutions = 64 * 9 * 24 + 16 * 9 * 24 * 24 + 64 * 48 * 24
    assert outcome.flops == 2 * (convolutions + 24 * 10)
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert outcome.gpu_bytes is None


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(digits):
    first, again, other = (train(WITH_DROPOUT, digits, QUICK, seed=seed).curve for seed in (1, 1, 2))
    assert len(first) == 2
    assert first == again
    assert first != other


def test_the_callers_random_numbers_are_left_alone(digits):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(WITH_DROPOUT, digits, QUICK, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callers_random_numbers_do_not_matter(digits):
    curves = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        curves.append(train(WITH_DROPOUT, digits, QUICK, seed=3).curve)
    assert curves[0] == curves[1]


def test_the_architectures_learning_rate_overrides_the_budgets(digits):
    own = train(with_hyperparameters(learning_rate=0.02), digits, QUICK, seed=1).curve
    budget = Budget(epochs=2, batch_size=64, train_fraction=0.3, learning_rate=0.02)
    assert own == train(SMALL, digits, budget, seed=1).curve
    assert own != train(SMALL, digits, QUICK, seed=1).curve


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` must be a positive number, got 0.0"),
        ({"learning_rate": -1.0}, "`learning_rate` must be a positive number, got -1.0"),
        (
            {"warmth": 3.0},
            "a training has no setting 'warmth' of its own; it has learning_rate, weight_decay, momentum",
        ),
        ({"cutout": 2.5}, "`cutout` must be a whole number, got 2.5"),
    ],
)
def test_bad_hyperparameters_make_the_child_invalid(digits, values, sentence):
    failure = train(with_hyperparameters(**values), digits, QUICK, seed=1).failure
    assert failure.cause is Cause.INVALID
    assert sentence in failure.message


def test_on_epoch_may_stop_it(digits):
    outcome = train(SMALL, digits, QUICK, seed=1, on_epoch=lambda epoch, metric: True)
    assert len(outcome.curve) == 1
    assert outcome.failure is None


@pytest.mark.parametrize(("fraction", "images"), [(1.0, 937), (0.5, 468), (1e-9, 1)])
def test_a_fraction_is_always_the_same_images(digits, fraction, images):
    part = digits.training.first(fraction)
    assert len(part) == images
    assert torch.equal(part.pixels, digits.training.pixels[:images])


def test_an_epoch_is_a_new_order_of_the_images_in_full_batches():
    batches, calls = [], []
    images = sgd.Images(torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8), torch.zeros(100, dtype=torch.int64))
    names = {tuple(image.flatten().tolist()): i for i, image in enumerate(sgd.standardise(images.pixels))}

    def augment(batch):
        batches.append([names[tuple(image.flatten().tolist())] for image in batch])
        return batch

    class Recorded(Progress):
        def finished_epoch(self, metric):
            calls.append(metric)
            return super().finished_epoch(metric)

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    budget = Budget(epochs=2, batch_size=32)
    sgd.fit(network, images, lambda _: 0.25, budget, Recorded(), augment=augment, generator=generator)
    assert [len(batch) for batch in batches] == [32] * 6
    epochs = [list(chain(*batches[:3])), list(chain(*batches[3:]))]
    assert [len(set(epoch)) for epoch in epochs] == [96, 96]
    assert epochs[0] != epochs[1]
    assert calls == [0.25, 0.25]


def test_steps_follow_nesterovs_formula():  # spec §1.6: momentum 0.9, weight decay 1e-4
    pixels = torch.randint(0, 256, (4, 1, 2, 2), dtype=torch.uint8)
    images = sgd.Images(pixels, torch.tensor([0, 1, 2, 1]))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3, bias=False)).double()
    weight = network[1].weight.detach().clone()
    velocity = torch.zeros_like(weight)
    inputs = sgd.standardise(pixels).double().flatten(1)
    target = torch.eye(3, dtype=torch.float64)[images.labels]
    for _ in range(3):
        gradient = (torch.softmax(inputs @ weight.T, 1) - target).T @ inputs / 4 + 1e-4 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - 0.1 * (gradient + 0.9 * velocity)

    budget = Budget(epochs=3, batch_size=4)

    def double(batch):
        return batch.double()

    class AsDouble(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, batch):
            return self.inner(batch.double())

    sgd.fit(AsDouble(), images, lambda _: 0.0, budget, Progress(), augment=double, generator=torch.Generator())
    torch.testing.assert_close(network[1].weight.detach(), weight)


def test_accuracy_counts_right_answers_on_images_as_they_are():
    pixels = torch.tensor([[0, 9], [9, 0], [0, 9]], dtype=torch.uint8).reshape(3, 1, 1, 2)
    images = sgd.Images(pixels, torch.tensor([1, 0, 0]))  # The class is the brighter pixel; the last label is wrong.
    network = torch.nn.Flatten().train()
    assert sgd.accuracy(network, sgd.PreparedImages(images, lambda batch: batch)) == pytest.approx(2 / 3)
    assert network.training


def test_outputs_that_are_not_finite_are_a_divergence():
    images = sgd.Images(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))

    class Broken(torch.nn.Module):
        def forward(self, batch):
            return torch.full((len(batch), 10), math.nan)

    with pytest.raises(Diverged, match="outputs are not finite"):
        sgd.accuracy(Broken(), sgd.PreparedImages(images, lambda batch: batch))


# --- What every failure means ------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_a_divergence(digits):
    outcome = train(SMALL, digits, Budget(epochs=2, batch_size=64, learning_rate=1e30), seed=1)
    assert outcome.failure.cause is Cause.DIVERGED
    assert "the training loss is nan in epoch 1" in outcome.failure.message
    assert outcome.metric is None
    assert outcome.parameters > 0


def test_a_divergence_keeps_the_curve_so_far(digits, monkeypatch):
    epochs = iter([torch.tensor(1.0), torch.tensor(2.0), torch.tensor(math.inf)])
    monkeypatch.setattr(sgd, "_train_epoch", lambda *_: next(epochs))
    outcome = train(SMALL, digits, Budget(epochs=5), seed=1)
    assert outcome.failure.cause is Cause.DIVERGED
    assert len(outcome.curve) == 2


def test_an_impossible_network_is_invalid(digits):
    network = Architecture("feedforward", (node("out", "linear", "image", units=3),), ("out",))
    outcome = train(network, digits, QUICK, seed=1)
    assert outcome.failure.cause is Cause.INVALID
    assert "node 'out' (linear) cannot take inputs of shape (1, 8, 8)" in outcome.failure.message
    assert (outcome.curve, outcome.parameters, outcome.flops) == ((), None, None)


def test_too_many_seconds_are_a_timeout(digits):
    budget = Budget(epochs=3, batch_size=64, train_fraction=0.3, max_seconds=1e-6)
    outcome = train(SMALL, digits, budget, seed=1)
    assert outcome.failure.cause is Cause.TIMEOUT
    assert "`max_seconds` is 1e-06" in outcome.failure.message
    assert len(outcome.curve) == 1


def test_an_allocation_that_is_too_large_is_out_of_memory(digits):
    def allocate(epoch, metric):
        torch.empty(10**15)

    outcome = train(SMALL, digits, QUICK, seed=1, on_epoch=allocate)
    assert outcome.failure.cause is Cause.OUT_OF_MEMORY
    assert "memory" in outcome.failure.message
    assert len(outcome.curve) == 1


class Failing:
    """A task that reports one epoch and then raises a given error."""

    name = "failing"
    measure = Measure.ACCURACY

    def __init__(self, error):
        self.error = error

    def fit(self, architecture, budget, progress, *, seed, device="cpu"):
        progress.finished_epoch(0.5)
        raise self.error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), Cause.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Cause.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), Cause.OUT_OF_MEMORY),
        (RuntimeError("GET was unable to find an engine to execute this computation"), Cause.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), Cause.OUT_OF_MEMORY),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (InvalidArchitecture("no"), Cause.INVALID),
        (Diverged("nan"), Cause.DIVERGED),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Cause.CRASHED),
        (ValueError("out of memory"), Cause.CRASHED),
        (KeyError("x"), Cause.CRASHED),
    ],
)
def test_each_error_has_its_cause(error, cause):
    outcome = train(SMALL, Failing(error), QUICK, seed=7)
    assert outcome.failure.cause is cause
    assert outcome.failure.message
    assert outcome.curve == (0.5,)
    assert outcome.seed == 7


class Judging(Failing):
    """A task that reports one epoch and then a given metric."""

    def __init__(self, metric):
        self.metric = metric

    def fit(self, architecture, budget, progress, *, seed, device="cpu"):
        progress.finished_epoch(0.5)
        progress.finished_epoch(self.metric)


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), float("-inf")])
def test_a_child_whose_metric_is_not_finite_has_diverged(metric):
    outcome = train(SMALL, Judging(metric), QUICK, seed=1)
    assert outcome.failure == Failure(cause=Cause.DIVERGED, message=f"the metric is {metric} after epoch 2")
    assert outcome.curve == (0.5,)


def test_a_crash_keeps_its_traceback(digits):
    def crash(epoch, metric):
        raise LookupError("the on_epoch of this test")

    failure = train(SMALL, digits, QUICK, seed=1, on_epoch=crash).failure
    assert failure.cause is Cause.CRASHED
    assert failure.message.startswith("Traceback")
    assert "LookupError: the on_epoch of this test" in failure.message
    assert "test_train.py" in failure.message


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_of_the_process_are_raised(error):
    with pytest.raises(error):
        train(SMALL, Failing(error()), QUICK, seed=1)


def test_a_small_child_costs_little_before_it_trains(digits):
    train(SMALL, digits, QUICK, seed=1)  # The first one pays for PyTorch's lazy imports.
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        digits.fit(SMALL, Budget(epochs=1, batch_size=1000, train_fraction=1e-9), Instant(), seed=1)
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.25  # Some 20 ms on a machine that is not busy.


class Instant(Progress):
    def finished_epoch(self, metric):
        return True


@pytest.mark.parametrize(("measure", "metric"), [(Measure.ACCURACY, 6.0), (Measure.PERPLEXITY, 2.0)])
def test_the_metric_is_the_best_of_the_last_five_epochs(measure, metric):
    curve = (0.5, 9.0, 3.0, 6.0, 2.0, 4.0, 5.0)
    outcome = Outcome(curve=curve, seconds=1.0, parameters=1, flops=1, seed=1, measure=measure)
    assert outcome.metric == metric
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_outcomes_without_a_measure_are_accuracies():
    data = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=1).to_json()
    del data["measure"]
    assert Outcome.from_json(data).measure is Measure.ACCURACY
