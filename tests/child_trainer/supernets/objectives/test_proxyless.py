import math

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.cost_ratio import MAX_RATIO
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.objective import Draw
from child_trainer.supernets.objectives.proxyless import (
    FULL,
    REINFORCE,
    TWO,
    binary_gate,
    rescaled_gradient,
    two_path_gate,
    with_cost,
)
from child_trainer.supernets.scoring import score
from tests.child_trainer.supernets.objectives.test_path import DATA, NETWORK, PROBLEM

STRENGTHS = {"op": torch.tensor([0.7, -0.2, 0.1]), "next": torch.tensor([0.0, 1.0])}
COSTS = {"op": (5.0, 3.0, 1.0), "next": (2.0, 1.0)}


def step(objective, seed=0, half=1, costs=COSTS, **values):
    settings = objective.settings_of(values)
    draw = objective.half_steps[half].draw(NETWORK.gate_sizes, STRENGTHS, settings, Generator().manual_seed(seed))
    return objective.half_steps[half].step(NETWORK, DATA, NETWORK.initial(0), draw, settings, costs), draw


def chosen(draw: Draw) -> dict[str, Tensor]:
    return {name: torch.tensor([torch.as_tensor(n).item() for n in gate]) for name, gate in draw.gates[0].items()}


def gate_gradients(gates: dict[str, Tensor]) -> dict[str, Tensor]:
    """dL/dg of the validation loss at these gates, by plain differentiation of all paths."""
    variable = {name: gate.clone().requires_grad_() for name, gate in gates.items()}
    images, labels = DATA.validation()
    found = torch.autograd.grad(
        F.cross_entropy(NETWORK(NETWORK.initial(0), images, variable), labels), list(variable.values())
    )
    return dict(zip(variable, found, strict=True))


# --- One path ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_strengths_follow_the_gates_by_the_jacobian_of_the_softmax(seed):  # spec §14, T14.1, G14
    found, draw = step(FULL, seed)
    of_gates = gate_gradients(chosen(draw))
    for name, strengths in STRENGTHS.items():
        p = strengths.softmax(0)
        by_the_formula = torch.stack(
            [
                sum(of_gates[name][j] * p[j] * (float(i == j) - p[i]) for j in range(len(p)))  # type: ignore[misc]
                for i in range(len(p))
            ]
        )
        torch.testing.assert_close(found.strengths[name], by_the_formula)
        assert found.strengths[name].sum().item() == pytest.approx(0, abs=1e-7)


def test_a_gate_is_exactly_one_hot_and_drawn_by_the_softmax():
    strengths, generator, draws = torch.tensor([0.3, 1.0, -1.0], requires_grad=True), Generator().manual_seed(0), 5_000
    gates = torch.stack([binary_gate(strengths, generator).detach() for _ in range(draws)])
    assert gates.unique().tolist() == [0.0, 1.0]
    assert gates.sum(1).eq(1).all()
    torch.testing.assert_close(gates.mean(0), strengths.detach().softmax(0), rtol=0, atol=0.02)


def test_weights_read_the_sampled_path_alone():
    names = []
    for seed in range(8):
        _, draw = step(FULL, seed, half=0)
        own = FULL.half_steps[0].names(NETWORK, draw)
        assert own == NETWORK.names(chosen(draw))
        names.append(tuple(own))
    assert len(set(names)) > 1
    # For the strengths, all paths are computed.
    _, draw = step(FULL)
    assert FULL.half_steps[1].names(NETWORK, draw) == list(NETWORK.shapes)


def test_strengths_take_one_step_for_every_five_of_the_weights():
    settings = FULL.settings_of({})
    assert [len(FULL.due(number, settings)) for number in range(11)] == [2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2]


# --- Two paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_step_of_two_paths_leaves_all_other_probabilities_as_they_are(seed):  # T14.2, G14
    rate = 0.5
    found, draw = step(TWO, seed, rate=rate)
    for name, strengths in STRENGTHS.items():
        pair = [place for place, number in enumerate(draw.gates[0][name]) if isinstance(number, Tensor)]
        after = strengths - rate * found.strengths[name]  # what the shard does
        before_p, after_p = strengths.softmax(0), after.softmax(0)
        others = [place for place in range(len(strengths)) if place not in pair]
        torch.testing.assert_close(after_p[others], before_p[others], rtol=0, atol=1e-6)
        assert after_p[pair].sum().item() == pytest.approx(before_p[pair].sum().item(), abs=1e-6)
        assert found.strengths[name][others].eq(0).all()
        assert (after_p[pair] - before_p[pair]).abs().max() > 1e-6


def test_the_two_follow_the_softmax_over_both():
    found, draw = step(TWO, rate=1e-4)  # so small that the rescaling takes off the mean of both gradients
    gate = draw.gates[0]["op"]
    pair = [place for place, number in enumerate(gate) if isinstance(number, Tensor)]
    of_gates = gate_gradients(chosen(draw))["op"][pair]
    p = STRENGTHS["op"][pair].softmax(0)
    plain = p * (of_gates - p @ of_gates)
    torch.testing.assert_close(found.strengths["op"][pair], plain - p @ plain, rtol=1e-3, atol=1e-6)


def test_two_paths_are_read_and_no_third():
    _, draw = step(TWO)
    read = TWO.half_steps[1].names(NETWORK, draw)
    sampled = {place for place, number in enumerate(draw.gates[0]["op"]) if isinstance(number, Tensor)}
    assert ("a/conv.weight" in read, "b/conv.weight" in read) == (0 in sampled, 1 in sampled)
    gate = two_path_gate(torch.zeros(5), Generator().manual_seed(0))
    assert sum(isinstance(number, Tensor) for number in gate) == 2
    assert two_path_gate(torch.zeros(1), Generator().manual_seed(0)) == [1.0]


def test_choices_of_one_option_have_nothing_to_learn():
    window = {"height": 3, "width": 3, "filters": 4}
    graph = Architecture(
        "feedforward", (node("a", "conv", "image", **window), node("end", "mix", ("a",), gate="g")), ("end",)
    )
    network = SupernetNetwork(graph, PROBLEM)
    settings = TWO.settings_of({})
    half = TWO.half_steps[1]
    draw = half.draw(network.gate_sizes, {"g": torch.zeros(1)}, settings, Generator().manual_seed(0))
    found = half.step(network, DATA, network.initial(0), draw, settings)
    assert found.strengths["g"].tolist() == [0.0]
    assert found.loss > 0


def test_rescaling_moves_the_pair_together():
    before, gradient = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([-0.8, 9.0, 0.7])
    after = before - 0.1 * rescaled_gradient(before, gradient, [0, 2], rate=0.1)
    assert after[1] == before[1]
    torch.testing.assert_close(after[0] - after[2], before[0] - before[2] - 0.1 * (gradient[0] - gradient[2]))
    torch.testing.assert_close(after[[0, 2]].logsumexp(0), before[[0, 2]].logsumexp(0))


# --- Latency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["add", "add#linear", "mul#log"])
def test_the_latency_enters_the_loss_as_each_form_says(form):  # spec §14, T14.3, G14
    values = {"cost_loss": form, "cost_weight": 0.5, "cost_reference": 4.0}
    plain, _ = step(FULL)
    found, _ = step(FULL, **values)
    expected = sum(float(STRENGTHS[name].softmax(0) @ torch.tensor(COSTS[name])) for name in STRENGTHS)
    of_loss, of_cost = {
        "add": (1.0, 0.5),
        "add#linear": (1.0, 0.5 / 4),
        "mul#log": (
            0.2 * (math.log(expected) / math.log(4)) ** 0.3,
            0.2 * plain.loss * 0.3 * (math.log(expected) / math.log(4)) ** -0.7 / (expected * math.log(4)),
        ),
    }[form]
    for name, strengths in STRENGTHS.items():
        p, cost = strengths.softmax(0), torch.tensor(COSTS[name])
        truth = of_loss * plain.strengths[name] + of_cost * p * (cost - p @ cost)
        torch.testing.assert_close(found.strengths[name], truth, rtol=1e-4, atol=1e-6)
    assert found.loss == plain.loss


def test_the_product_has_its_scale_and_its_power():
    settings = FULL.settings_of({"cost_loss": "mul#log", "cost_reference": 10.0, "cost_scale": 0.5, "cost_power": 2.0})
    assert with_cost(torch.tensor(2.0), torch.tensor(100.0), settings).item() == pytest.approx(0.5 * 2 * 2**2)


def test_the_three_forms_by_hand():
    settings = [
        FULL.settings_of({"cost_loss": form, "cost_weight": 0.1, "cost_reference": 10.0})
        for form in ("none", "add", "add#linear", "mul#log")
    ]
    losses = [with_cost(torch.tensor(2.0), torch.tensor(20.0), s).item() for s in settings]
    assert losses == pytest.approx([2.0, 4.0, 2.1, 0.2 * 2 * (math.log(20) / math.log(10)) ** 0.3])


@pytest.mark.parametrize("cost", [0.0, 0.4])
@pytest.mark.parametrize("form", ["add#linear", "mul#log"])
def test_options_that_cost_nothing_have_finite_gradients(form, cost):
    costs = {"op": (cost, 0.0, 0.0), "next": (0.0, 0.0)}
    found, _ = step(FULL, costs=costs, cost_loss=form, cost_weight=0.5, cost_reference=1e6)
    assert all(gradient.isfinite().all() for gradient in found.strengths.values())


# --- REINFORCE ---------------------------------------------------------------------------------------------------


def test_the_policy_gradient_weighs_each_path_by_its_reward():
    found, draw = step(REINFORCE, samples=4, reward_power=0.1, cost_reference=3.0)
    assert len(draw.gates) == 4
    rewards = []
    for gates in draw.gates:
        cost = sum(c * g for name in STRENGTHS for g, c in zip(gates[name], COSTS[name], strict=True))
        accuracy = score(NETWORK, NETWORK.initial(0), gates, [DATA.validation()]).accuracy
        rewards.append(accuracy * (3.0 / float(cost)) ** 0.1)
    mean = sum(rewards) / 4
    assert found.reward == pytest.approx(mean)
    assert max(rewards) > mean
    truth = {name: torch.zeros(len(strengths)) for name, strengths in STRENGTHS.items()}
    for reward, gates in zip(rewards, draw.gates, strict=True):
        for name, strengths in STRENGTHS.items():  # spec §0.4, T0.3
            truth[name] += (reward - mean) * (strengths.softmax(0) - torch.as_tensor(gates[name])) / 4
    for name, gradient in found.strengths.items():
        torch.testing.assert_close(gradient, truth[name])


def test_without_a_cost_the_reward_is_the_accuracy():
    found, _ = step(REINFORCE, samples=5, reward_power=0.0)
    assert found.reward == pytest.approx(found.accuracy)


def test_paths_that_cost_nothing_have_the_largest_reward_and_no_other_error():
    free, _ = step(REINFORCE, samples=4, cost_reference=3.0, costs={"op": (0.0,) * 3, "next": (0.0,) * 2})
    assert free.reward == pytest.approx(free.accuracy * MAX_RATIO**0.1)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="`cost_loss` must be 'none' or 'add' or 'add#linear' or 'mul#log', got 'mul'"):
        FULL.settings_of({"cost_loss": "mul"})
    with pytest.raises(ValueError, match="`cost_reference` must be above 1 for the product, got 1"):
        FULL.settings_of({"cost_loss": "mul#log"})
    with pytest.raises(ValueError, match="`samples` must be at least 2, got 1"):
        FULL.settings_of({"samples": 1})
