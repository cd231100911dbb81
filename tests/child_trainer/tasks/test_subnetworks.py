"""Training of the sub-networks of a child on real images (spec §17)."""

import math
from dataclasses import replace

import pytest

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Budget, Cause
from child_trainer.regime import Regime
from child_trainer.seed_agem.options import SubnetworkOptions
from child_trainer.tasks.catalogue import TASKS, find_task, load_task, load_test
from child_trainer.training.train import train
from controller.spaces.subnetworks import SubnetworkSpace
from tests.child_trainer.seed_agem.networks import EQUAL, SPACE, WIDER
from tests.child_trainer.training.interruptions import Slot

BUDGET = Budget(epochs=4, batch_size=32, learning_rate=0.5, train_fraction=0.2)
TASK = load_task("digits-subnetworks")
QUICK = load_task("digits-subnetworks", options=SubnetworkOptions(true_label_weight=0.9, teacher_weight=0.1))
"""The teacher holds it back less, so that a few steps show something."""


def child(*tokens: tuple[int, ...], selected: int = 0) -> Architecture:
    return SPACE.decode((*(token for each in tokens for token in each), *(selected,) * 3))


def test_the_subnetworks_learn_and_the_child_tells_how_alike_they_are() -> None:
    space = SubnetworkSpace(layers=2, activations=("relu", "tanh"), skip_connections=False)
    network = space.decode((*(1, 1, 0, 0) * 2, *(1, 1, 0, 1) * 2, 0, 0, 0))
    outcome = train(network, QUICK, replace(BUDGET, train_fraction=1.0, learning_rate=0.2), seed=1)
    assert outcome.failure is None
    assert outcome.metric is not None
    assert outcome.metric > 0.4
    told = outcome.measurements
    assert 0 < told["similarity_reward"] <= 1
    assert told["similarity_reward"] == pytest.approx(math.exp(-told["structural_penalty"] / 2))
    assert 0 < told["similarity"] <= 1
    assert sum(told[f"{mode}_epochs"] for mode in ("individual", "iterative", "joint")) == BUDGET.epochs
    alone = train(network.without_auxiliary(), load_task("digits"), replace(BUDGET, epochs=1), seed=1)
    assert (outcome.parameters, outcome.flops) == (alone.parameters, alone.flops)
    assert told["trained_parameters"] == outcome.parameters  # equal but for activations: all is shared at last


def test_the_metric_is_that_of_the_selected_one_and_equal_ones_share_all_at_last() -> None:
    first, second = (train(child(EQUAL, WIDER, selected=k), QUICK, BUDGET, seed=1) for k in (0, 1))
    assert first.parameters != second.parameters
    for outcome in (first, second):  # of the same two networks
        assert outcome.measurements["mean_accuracy"] == pytest.approx(
            (first.curve[-1] + second.curve[-1]) / 2, abs=0.05
        )
    assert first.curve[-1] != second.curve[-1]
    equal = train(child(EQUAL, EQUAL), TASK, BUDGET, seed=1)
    assert equal.measurements["trained_parameters"] == equal.parameters
    apart = load_task("digits-subnetworks", options=SubnetworkOptions(share=False))
    independent = train(child(EQUAL, EQUAL), apart, BUDGET, seed=1)
    assert independent.measurements["trained_parameters"] == 2 * (independent.parameters or 0)


@pytest.mark.parametrize(
    "options",
    [
        SubnetworkOptions(),
        SubnetworkOptions(mode_rule="formula", structure_target="identity"),
        SubnetworkOptions(agreement_threshold=0.0, accuracy_threshold=0.0),
    ],
    ids=["prose", "formula", "individual"],
)
@pytest.mark.parametrize("stop", [0, 7, 10])
def test_a_training_that_was_interrupted_goes_on_to_the_bit(options: SubnetworkOptions, stop: int) -> None:
    """Five steps an epoch: before, amid and after the epochs in which layers become shared."""
    task = load_task("digits-subnetworks", options=options)
    budget, network, slot = replace(BUDGET, epochs=3, train_fraction=0.18), child(EQUAL, WIDER), Slot()
    whole = train(network, task, budget, seed=2)
    steps = iter(range(100))
    stopped = train(network, task, budget, seed=2, checkpoints=slot, preempted=lambda: next(steps) == stop)
    assert stopped.failure is not None
    assert stopped.failure.cause is Cause.PREEMPTED
    resumed = train(network, task, budget, seed=2, checkpoints=slot)
    assert (resumed.curve, resumed.measurements) == (whole.curve, whole.measurements)


def test_a_network_without_subnetworks_is_refused() -> None:
    outcome = train(child(EQUAL, WIDER).without_auxiliary(), TASK, BUDGET, seed=1)
    assert outcome.failure is not None
    assert outcome.failure.cause is Cause.INVALID
    assert "trains at least 2 sub-networks, each with an output of its own, got 1" in outcome.failure.message


def test_a_task_without_subnetworks_trains_the_selected_one_of_three() -> None:
    space = SubnetworkSpace(subnetworks=3, layers=1, activations=("relu",), skip_connections=False)
    network, budget = space.decode((*[0, 0, 0] * 3, 1, 1, 1)), replace(BUDGET, epochs=1)
    regime = Regime(auxiliary_weight=0.4)
    outcome = train(network, load_task("digits"), replace(budget, regime=regime), seed=1)
    assert outcome.failure is None
    alone = train(network.without_auxiliary(), load_task("digits"), budget, seed=1)
    assert (outcome.parameters, outcome.flops) == (alone.parameters, alone.flops)


def test_the_images_are_those_of_the_task_before_the_suffix() -> None:
    plain, test = load_task("digits"), load_test("digits-subnetworks")
    assert TASK.images.training.pixels.equal(plain.training.pixels)  # pyright: ignore[reportAttributeAccessIssue]
    assert test.pixels.equal(load_test("digits").pixels)
    for name in ("digits", "fashion-mnist", "cifar10"):
        assert TASKS[f"{name}-subnetworks"].problem == TASKS[name].problem


def test_what_its_training_does_not_have_is_refused_before_it_begins() -> None:
    with pytest.raises(ValueError, match="`restart_below` is not for this task, whose training has no such thing"):
        find_task("digits-subnetworks").check_budget(replace(BUDGET, regime=Regime(restart_below=0.1)))
    with pytest.raises(
        ValueError, match="is for networks of the space 'subnetworks' only, got the space 'convolutional'"
    ):
        find_task("digits-subnetworks").check_space("digits-subnetworks", "convolutional", {})
    find_task("digits-subnetworks").check_space("digits-subnetworks", "subnetworks", vars(SubnetworkSpace()))
