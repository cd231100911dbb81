import pytest
import torch
from torch import Generator
from torch.nn import functional as F

from child_trainer.supernets.objectives.costs import expected_cost
from child_trainer.supernets.objectives.snas import SNAS, concrete
from tests.child_trainer.supernets.objectives.test_path import DATA, NETWORK

STRENGTHS = {"op": torch.tensor([0.7, -0.2, 0.1]), "next": torch.tensor([0.0, 1.0])}
COSTS = {"op": (5.0, 1.0, 0.0), "next": (2.0, 0.0)}


def step(**values):
    settings = SNAS.settings_of(values)
    (half,) = SNAS.due(0, settings)
    draw = half.draw(NETWORK.gate_sizes, STRENGTHS, settings, Generator().manual_seed(0))
    return half.step(NETWORK, DATA, NETWORK.initial(0), draw, settings, COSTS)


def test_the_largest_entry_has_the_probability_of_the_softmax():  # spec §13, T13.1, G15
    strengths, draws = torch.tensor([0.5, -1.0, 1.2, 0.0]), 100_000
    samples = concrete(strengths.expand(draws, 4), 0.5, Generator().manual_seed(0))
    counts = samples.argmax(1).bincount().double()
    expected = draws * strengths.softmax(0)
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_squared < 11.34  # 3 degrees of freedom, 1 %


@pytest.mark.parametrize("temperature", [1.0, 0.03])
def test_a_sample_sums_to_one_and_becomes_one_hot(temperature):  # T13.2
    generator = Generator().manual_seed(1)
    samples = concrete(torch.zeros(500, 5, dtype=torch.float64), temperature, generator)
    torch.testing.assert_close(samples.sum(1), torch.ones(500, dtype=torch.float64))
    sharp = (samples.max(1).values > 0.99).double().mean().item()
    assert sharp > 0.8 if temperature < 0.1 else sharp < 0.1


def test_the_temperature_falls_linearly():
    temperatures = [SNAS.settings_of({"progress": p}).temperature for p in (0.0, 0.5, 1.0)]
    assert temperatures == pytest.approx([1.0, 0.515, 0.03])


def test_the_expected_cost_and_its_gradient_have_the_closed_form():  # T13.3
    logits = {name: torch.tensor(values, dtype=torch.float64) for name, values in (("op", [0.3, -1.0, 2.0]),)}
    cost = torch.tensor(COSTS["op"], dtype=torch.float64)
    p = logits["op"].softmax(0)
    expected = expected_cost({"op": p}, COSTS)
    assert expected.item() == pytest.approx((p * cost).sum().item())
    gradient = torch.func.grad(lambda z: expected_cost({"op": z.softmax(0)}, COSTS))(logits["op"])
    torch.testing.assert_close(gradient, p * (cost - expected))


def test_the_cost_adds_its_own_gradient_and_changes_no_weight():
    plain, costly = step(), step(cost_weight=0.5)
    for name, strengths in STRENGTHS.items():
        p, cost = strengths.softmax(0), torch.tensor(COSTS[name])
        torch.testing.assert_close(
            costly.strengths[name] - plain.strengths[name], 0.5 * p * (cost - p @ cost), rtol=1e-4, atol=1e-6
        )
    assert all(torch.equal(costly.weights[name], gradient) for name, gradient in plain.weights.items())


def test_one_loss_moves_strengths_and_weights():
    found = step(progress=0.5)
    alphas = {name: strengths.clone().requires_grad_() for name, strengths in STRENGTHS.items()}
    generator = Generator().manual_seed(0)
    gates = {name: concrete(alphas[name], 0.515, generator) for name in NETWORK.gate_sizes}
    own = {name: w.clone().requires_grad_() for name, w in NETWORK.initial(0).items()}
    images, labels = DATA.training()
    F.cross_entropy(NETWORK(own, images, gates), labels).backward()
    for name, gradient in found.strengths.items():
        torch.testing.assert_close(gradient, alphas[name].grad)
    for name, gradient in found.weights.items():
        torch.testing.assert_close(gradient, own[name].grad)


def test_a_table_that_does_not_fit_is_refused():
    settings = SNAS.settings_of({"cost_weight": 1.0})
    (half,) = SNAS.due(0, settings)
    draw = half.draw(NETWORK.gate_sizes, STRENGTHS, settings, Generator().manual_seed(0))
    for costs, sentence in (
        ({}, "needs 3 numbers for the gate 'op', got 0"),
        ({"op": (1.0, 2.0), "next": (0.0, 1.0)}, "needs 3 numbers for the gate 'op', got 2"),
        (COSTS | {"other": (1.0,)}, "has the gate 'other', which the supernet has not"),
    ):
        with pytest.raises(ValueError, match=sentence):
            half.step(NETWORK, DATA, NETWORK.initial(0), draw, settings, costs)
