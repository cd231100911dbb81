"""Each part of a regime does in a training what it says."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, node
from child_trainer.networks.build import build
from child_trainer.outcome import Budget, Cause
from child_trainer.regime import Regime
from child_trainer.seeding import derive
from child_trainer.tasks import language
from child_trainer.tasks.catalogue import load_task
from child_trainer.training import epochs
from child_trainer.training import image_classifier as sgd
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.task import OverTime, Progress
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BATCH_NORM, EVERY_PART, Slot

QUICK = Budget(epochs=2, batch_size=64, train_fraction=0.3)


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


def curve(network, task, **regime):
    outcome = train(network, task, replace(QUICK, regime=Regime(**regime)), seed=3)
    assert outcome.failure is None
    return outcome.curve


# --- Optimizers --------------------------------------------------------------------------------------------------


class OneMap(nn.Module):
    """A linear map of 4 pixels in double precision, whose steps can be written out."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 3, bias=False).double()

    def forward(self, images):
        return self.map(images.double().flatten(1))


def trained(budget, evaluate=lambda network: 0.9, make_again=None, progress=None):
    """Train a map on four images in one batch an epoch; return it with its weights before and its data."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4, 1, 2, 2), dtype=torch.uint8)
    images = sgd.Images(pixels, torch.tensor([0, 1, 2, 1]))
    network = OneMap()
    before = network.map.weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    sgd.fit(
        network,
        images,
        evaluate,
        budget,
        progress or Progress(epochs=budget.epochs),
        augment=lambda batch: batch,
        generator=generator,
        make_again=make_again,
    )
    return network.map.weight.detach(), before, sgd.standardise(pixels).double().flatten(1), images.labels


def gradient(weight, inputs, labels, decay=0.0):
    target = torch.eye(3, dtype=torch.float64)[labels]
    return (torch.softmax(inputs @ weight.T, 1) - target).T @ inputs / 4 + decay * weight


def test_adam_follows_its_formula():
    regime = Regime(optimizer="adam", adam_betas=(0.8, 0.95), optimizer_epsilon=1e-3)
    found, weight, inputs, labels = trained(Budget(epochs=3, batch_size=4, learning_rate=0.05, regime=regime))
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in (1, 2, 3):
        g = gradient(weight, inputs, labels, decay=1e-4)
        mean, square = 0.8 * mean + 0.2 * g, 0.95 * square + 0.05 * g * g
        weight = weight - 0.05 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-3)
    torch.testing.assert_close(found, weight)


def test_rmsprop_follows_its_formula():
    regime = Regime(optimizer="rmsprop", rmsprop_decay=0.7, optimizer_epsilon=0.1)
    budget = Budget(epochs=3, batch_size=4, learning_rate=0.05, momentum=0.6, weight_decay=0.0, regime=regime)
    found, weight, inputs, labels = trained(budget)
    square, velocity = torch.zeros_like(weight), torch.zeros_like(weight)
    for _ in range(3):
        g = gradient(weight, inputs, labels)
        square = 0.7 * square + 0.3 * g * g
        velocity = 0.6 * velocity + g / (square.sqrt() + 0.1)
        weight = weight - 0.05 * velocity
    torch.testing.assert_close(found, weight)


def test_a_long_gradient_is_scaled_down_to_the_norm_and_a_short_one_is_left():
    plain = Budget(epochs=1, batch_size=4, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    free, before, *_ = trained(plain)
    clipped, _, *_ = trained(replace(plain, regime=Regime(clip_norm=0.01)))
    assert (before - free).norm() > 0.1
    torch.testing.assert_close(clipped - before, (free - before) / (free - before).norm() * 0.01, rtol=1e-4, atol=0)
    loose, _, *_ = trained(replace(plain, regime=Regime(clip_norm=100.0)))
    assert torch.equal(loose, free)


def test_every_step_has_the_rate_of_the_schedule(digits, monkeypatch):
    seen = []
    take_step = epochs.take_step

    def recorded(state, loss, clip_norm):
        seen.append(state.optimizer.param_groups[0]["lr"])
        take_step(state, loss, clip_norm)

    monkeypatch.setattr(sgd, "take_step", recorded)
    regime = Regime(schedule="cosine", warmup_epochs=0.5)
    train(BATCH_NORM, digits, replace(QUICK, regime=regime), seed=3)
    assert seen == [regime.rate(0.1, step / 4, 2) for step in range(8)]  # 281 images: 4 steps an epoch
    assert seen[0] == 0 and seen[4] == pytest.approx(0.05)


# --- Losses ------------------------------------------------------------------------------------------------------


def test_label_smoothing_spreads_a_share_over_all_classes():
    logits, labels = torch.randn(5, 10), torch.tensor([1, 9, 0, 3, 3])
    logs = logits.log_softmax(1)
    expected = -(0.8 * logs[range(5), labels] + 0.2 * logs.mean(1)).mean()
    loss = sgd._loss(nn.Identity(), logits, labels, regime=Regime(label_smoothing=0.2))
    torch.testing.assert_close(loss, expected)
    assert loss != sgd._loss(nn.Identity(), logits, labels, regime=Regime())


TRUNK = (
    node("a", "conv", "image", filters=6, height=3, width=3),
    node("b", "conv", "a", filters=6, height=3, width=3),
)
WITH_AUXILIARY = Architecture("feedforward", (*TRUNK, node("side", "relu", "a")), ("b", "side"))


def auxiliary_gradients(weight, digits):
    network = build(WITH_AUXILIARY, digits, generator=torch.Generator().manual_seed(0))
    images, labels = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    loss = sgd._loss(network, images, labels, regime=Regime(auxiliary_weight=weight, label_smoothing=0.1))
    loss.backward()
    logits, others = network.with_auxiliary(images)
    losses = [F.cross_entropy(x, labels, label_smoothing=0.1).item() for x in (logits, others)]
    return network, loss.item(), losses


def test_the_auxiliary_loss_is_added_with_its_weight_and_reaches_what_it_depends_on(digits):
    with_it, loss, (main, auxiliary) = auxiliary_gradients(0.4, digits)
    assert loss == pytest.approx(main + 0.4 * auxiliary, rel=1e-6)
    without, plain, (main, _) = auxiliary_gradients(0.0, digits)
    assert plain == pytest.approx(main, rel=1e-6)
    shared, own = with_it.graph.operations[0][0].weight.grad, without.graph.operations[0][0].weight.grad
    assert not torch.allclose(shared, own)
    behind = with_it.graph.operations[1][0].weight.grad, without.graph.operations[1][0].weight.grad
    torch.testing.assert_close(*behind)  # the auxiliary head does not see it
    assert without.auxiliary_head.weight.grad is None
    assert with_it.auxiliary_head.weight.grad.abs().sum() > 0


def test_an_auxiliary_head_changes_a_training_only_where_it_has_a_weight(digits):
    plain = curve(Architecture("feedforward", TRUNK, ("b",)), digits)
    assert curve(Architecture("feedforward", TRUNK, ("b",)), digits, auxiliary_weight=0.5) == plain
    # Its head draws initial weights after the network's own, which are the same.
    assert curve(WITH_AUXILIARY, digits) == plain
    assert curve(WITH_AUXILIARY, digits, auxiliary_weight=0.5) != plain


# --- What a regime makes of images, paths and weights ------------------------------------------------------------


@pytest.mark.parametrize(
    "regime",
    [
        {"cutout": 4},
        {"path_keep": 0.5},
        {"auxiliary_weight": 0.4},
        {"label_smoothing": 0.2},
        {"norm_epsilon": 0.1},
        {"norm_momentum": 0.5},
        {"initial": "xavier"},
        {"clip_norm": 0.05},
        {"optimizer": "adam"},
        {"schedule": "cosine"},
        {"warmup_epochs": 1},
        {"restart_below": 0.9, "restarts": 1},
        {"precision": "bfloat16"},
    ],
    ids=lambda regime: next(iter(regime)),
)
def test_each_part_changes_a_training_and_the_same_seed_repeats_it(digits, regime):
    def weights(**values):
        slot = Slot()
        assert train(EVERY_PART, digits, replace(QUICK, regime=Regime(**values)), seed=3, checkpoints=slot).curve
        tensors = Checkpoint.from_bytes(slot.data).tensors
        return torch.cat([tensors[name].flatten() for name in sorted(tensors) if name.startswith("network/")])

    changed = weights(**regime)
    assert not torch.equal(changed, weights())
    assert torch.equal(changed, weights(**regime))


def test_paths_are_dropped_more_and_more(digits, monkeypatch):
    seen = []
    path = sgd.DropPath
    advance = path.advance

    def recorded(self, path_keep, progress):
        advance(self, path_keep, progress)
        seen.append((self.depth, self.keep))

    monkeypatch.setattr(path, "advance", recorded)
    curve(EVERY_PART, digits, path_keep=0.6)
    assert [keep for _, keep in seen] == pytest.approx([1 - step / 8 * 0.5 * 0.4 for step in range(8)])
    assert {depth for depth, _ in seen} == {0.5}


def test_xavier_has_the_variance_of_glorot_in_convolutions_and_linear_maps(digits):
    wide = Architecture("feedforward", (node("c", "conv", "image", filters=600, height=5, width=5),), ("c",))
    network = build(wide, digits, generator=torch.Generator().manual_seed(0), regime=Regime(initial="xavier"))
    convolution = network.graph.operations[0][0].weight
    for weight, inputs, outputs in ((convolution, 25, 600 * 25), (network.head.weight, 600, 10)):
        assert weight.var().item() == pytest.approx(2 / (inputs + outputs), rel=0.05)
        bound = math.sqrt(6 / (inputs + outputs))
        assert 0.95 * bound < weight.abs().max() <= bound
    assert not network.head.bias.any()


def test_convolutions_that_can_be_the_identity_begin_as_it(digits):
    nodes = [
        node("wide", "conv", "image", filters=4, height=3, width=3, order="conv"),
        *(
            node(f"{height}x{width}", "conv", "wide", filters=4, height=height, width=width, order="conv")
            for height, width in ((1, 1), (3, 3), (5, 1), (2, 2))
        ),
        node("strided", "conv", "wide", filters=4, height=3, width=3, stride_height=2, stride_width=2, order="conv"),
    ]
    outputs = tuple(n.name for n in nodes)
    network = build(Architecture("feedforward", tuple(nodes), outputs), digits, regime=Regime(initial="identity"))
    images = torch.randn(2, 4, 8, 8)
    kept = [torch.equal(operation(images), images) for operation in network.graph.operations[1:5]]
    assert kept == [True, True, True, False]
    assert network.graph.operations[5][-1].weight.count_nonzero() == 4 * 4 * 9


def test_batch_normalisation_has_the_regimes_constants(digits):
    nodes = (*TRUNK, node("n", "batch_norm", "b"), node("v", "global_avg_pool", "n"), node("m", "batch_norm", "v"))
    network = build(Architecture("feedforward", nodes, ("m",)), digits, regime=Regime(norm_epsilon=1e-3))
    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    assert [(m.eps, m.momentum) for m in network.modules() if isinstance(m, kinds)] == [(1e-3, 0.1)] * 4
    network = build(Architecture("feedforward", nodes, ("m",)), digits, regime=Regime(norm_momentum=0.01))
    assert [(m.eps, m.momentum) for m in network.modules() if isinstance(m, kinds)] == [(1e-5, 0.01)] * 4


def test_a_networks_own_constants_go_before_the_regimes(digits):
    """At each place that builds it, as its weights mean nothing with others."""
    nodes = (node("a", "conv", "image", filters=4, height=3, width=3),)
    own = Architecture("feedforward", nodes, ("a",), (("learning_rate", 0.1), ("norm_epsilon", 1e-2)))
    network = build(own, digits, regime=Regime(norm_epsilon=1e-3, norm_momentum=0.2))
    (norm,) = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert (norm.eps, norm.momentum) == (1e-2, 0.2)
    with pytest.raises(InvalidArchitecture, match="`norm_epsilon` must be a positive number, got -1"):
        build(Architecture("feedforward", nodes, ("a",), (("norm_epsilon", -1.0),)), digits)


# --- Restarts ----------------------------------------------------------------------------------------------------


def restarted(accuracies, monkeypatch, epochs_=2, **values):
    """Train with an evaluation that answers these accuracies in turn; return the rates, the restarts and the curve."""
    rates, made = [], []
    take_step = epochs.take_step

    def recorded(state, loss, clip_norm):
        rates.append(round(state.optimizer.param_groups[0]["lr"], 9))
        take_step(state, loss, clip_norm)

    def make_again(number):
        made.append(number)
        return OneMap()

    monkeypatch.setattr(sgd, "take_step", recorded)
    answers, progress = iter(accuracies), Progress(epochs=epochs_)
    regime = Regime(restart_below=0.15, **values)
    trained(
        Budget(epochs=epochs_, batch_size=4, learning_rate=0.1, regime=regime),
        lambda network: next(answers),
        make_again,
        progress,
    )
    return rates, made, progress.curve


def test_a_training_that_learns_nothing_begins_again_with_a_lower_rate(monkeypatch):
    rates, made, kept = restarted([0.1, 0.15, 0.151, 0.1], monkeypatch)
    assert rates == pytest.approx([0.1, 0.04, 0.016, 0.016])  # later epochs never restart
    assert made == [1, 2]
    assert kept == [0.151, 0.1]


def test_the_training_after_the_last_restart_is_kept(monkeypatch):
    rates, made, kept = restarted([0.1] * 6, monkeypatch)
    assert rates == pytest.approx([0.1, 0.04, 0.016, 0.0064, 0.00256, 0.00256])  # spec §7.3: 5 trainings
    assert (made, kept) == ([1, 2, 3, 4], [0.1, 0.1])
    rates, made, kept = restarted([0.1, 0.2, 0.3], monkeypatch, restarts=1, restart_decay=0.5)
    assert (rates, made, kept) == (pytest.approx([0.1, 0.05, 0.05]), [1], [0.2, 0.3])


def test_a_training_without_the_rule_never_begins_again(monkeypatch):
    monkeypatch.setattr(sgd, "take_step", epochs.take_step)
    answers, progress = iter([0.0, 0.0]), Progress(epochs=2)
    trained(Budget(epochs=2, batch_size=4), lambda network: next(answers), lambda number: OneMap(), progress)
    assert progress.curve == [0.0, 0.0]


def test_a_restart_draws_other_weights_and_forgets_the_optimizers_state(digits):
    saved = []

    class Kept(Slot):
        def save(self, data):
            super().save(data)
            saved.append(Checkpoint.from_bytes(data))

    regime = Regime(restart_below=0.99, restarts=1)
    outcome = train(BATCH_NORM, digits, replace(QUICK, regime=regime), seed=3, checkpoints=Kept())
    assert len(outcome.curve) == 2
    again, first_epoch = saved
    assert (again.curve, again.step, int(again.tensors["restarts"]), float(again.tensors["loss"])) == ((), 0, 1, 0.0)
    assert not any(name.startswith("optimizer/") for name in again.tensors)
    assert any(name.startswith("optimizer/") for name in first_epoch.tensors)
    drawn = {seed: torch.Generator().manual_seed(derive(3, seed)) for seed in ("weights", "weights after restart 1")}
    before, after = (build(BATCH_NORM, digits, generator=generator).state_dict() for generator in drawn.values())
    assert all(torch.equal(again.tensors[f"network/{name}"], tensor) for name, tensor in after.items())
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_training_that_diverges_in_its_first_epoch_begins_again(digits):
    wild = replace(QUICK, learning_rate=1e20)
    assert train(BATCH_NORM, digits, wild, seed=1).failure.cause is Cause.DIVERGED
    regime = Regime(restart_below=0.1, restart_decay=1e-21)
    outcome = train(BATCH_NORM, digits, replace(wild, regime=regime), seed=1)
    assert outcome.failure is None
    assert len(outcome.curve) == 2
    hopeless = Regime(restart_below=0.1, restarts=2, restart_decay=1.0)
    assert train(BATCH_NORM, digits, replace(wild, regime=hopeless), seed=1).failure.cause is Cause.DIVERGED


def test_the_time_of_abandoned_epochs_counts():
    evaluated = []

    def evaluate(network):
        evaluated.append(network)
        return 0.1

    budget = Budget(epochs=2, batch_size=4, regime=Regime(restart_below=0.15))
    with pytest.raises(OverTime, match=r"^epoch 1 ended after "):
        trained(budget, evaluate, lambda number: OneMap(), Progress(max_seconds=1e-9, epochs=2))
    assert len(evaluated) == 1


# --- Language models ---------------------------------------------------------------------------------------------


def test_a_language_model_is_trained_by_the_same_regime(monkeypatch):
    from child_trainer.architectures.reference_cells import lstm
    from child_trainer.language_options import LanguageOptions

    options = LanguageOptions(
        cell_layers=1, hidden_size=8, max_vocabulary=50, unroll=50, decay_after=1, learning_rate_decay=0.5
    )
    task = load_task("text", options=options)
    seen = []
    take_step = epochs.take_step

    def recorded(state, loss, clip_norm):
        seen.append((state.optimizer.param_groups[0]["lr"], clip_norm, type(state.optimizer).__name__))
        take_step(state, loss, clip_norm)

    monkeypatch.setattr(language, "take_step", recorded)
    budget = Budget(epochs=2, batch_size=20, learning_rate=1.0, train_fraction=0.02)
    plain = train(lstm(), task, budget, seed=1)
    steps = len(seen) // 2
    assert seen == [(1.0, 5.0, "InPlaceSgd")] * steps + [(0.5, 5.0, "InPlaceSgd")] * steps
    seen.clear()
    regime = Regime(optimizer="adam", schedule="cosine", clip_norm=0.1, label_smoothing=0.1)
    other = train(lstm(), task, replace(budget, regime=regime), seed=1)
    assert seen[0] == (1.0, 0.1, "Adam")
    assert seen[steps][0] == pytest.approx(0.5 * 0.5)  # half of the cosine, and the options' own decay
    assert other.failure is None
    assert other.curve != plain.curve
