"""ProxylessNAS: binary gates, of which one path or two are computed (Cai et al. 2019, arXiv 1812.00332; spec §14)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from child_trainer.cost_ratio import MAX_RATIO, cost_ratio
from child_trainer.supernets.gated_graph import Gate, Gates
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.costs import check_costs, chosen_cost, expected_cost
from child_trainer.supernets.objectives.gradients import Gradients, constant, differentiate, pull_back
from child_trainer.supernets.objectives.objective import (
    STRENGTHS,
    Batches,
    Costs,
    Differentiate,
    Draw,
    DrawGates,
    HalfStep,
    Objective,
    Settings,
    Step,
    Tensors,
    draw_seed,
    leaves,
)
from child_trainer.supernets.objectives.path import train_weights
from child_trainer.supernets.scoring import score

LatencyLoss = Literal["none", "add", "add#linear", "mul#log"]
"""How the expected cost E enters the loss, beside the cross-entropy CE:

- `add`: CE + weight E, as in the paper (equation 11);
- `add#linear`: CE + weight (E - reference) / reference;
- `mul#log`: scale CE (log E / log reference)^power, the published code's default, with a ratio above 0.
"""


@dataclass(frozen=True, kw_only=True)
class ProxylessSettings(Settings):
    """Settings of ProxylessNAS."""

    period: int = 5
    """Steps of the weights for each step of the strengths."""
    cost_loss: LatencyLoss = "none"
    """How the expected cost enters the loss; all but none need a table of costs."""
    cost_weight: float = 0.1
    """Weight of the cost in the two sums."""
    cost_reference: float = 1.0
    """Cost that is aimed at, in the unit of the table; the product needs one above 1."""
    cost_scale: float = 0.2
    """Factor of the product, alpha in the published code."""
    cost_power: float = 0.3
    """Power of the product, beta in the published code."""
    rate: float = 0.001
    """Learning rate with which the strengths' shard takes plain gradient steps; for two paths."""
    samples: int = 10
    """Paths that are scored for a step of REINFORCE, which subtracts the mean of their rewards."""
    reward_power: float = 0.1
    """Power of reference / cost in the reward of REINFORCE, beside the accuracy; it needs a table of costs. 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("period", self.period >= 1, "at least 1")
        self.require("samples", self.samples >= 2, "at least 2")
        for name in ("cost_reference", "cost_scale", "rate"):
            self.require(name, getattr(self, name) > 0, "above 0")
        for name in ("cost_weight", "cost_power", "reward_power"):
            self.require(name, getattr(self, name) >= 0, "0 or more")
        if self.cost_loss == "mul#log":
            self.require("cost_reference", self.cost_reference > 1, "above 1 for the product")


# --- Sampling ------------------------------------------------------------------------------------------------------


def binary_gate(strengths: Tensor, generator: Generator) -> Tensor:
    """Return the one-hot vector of a sampled option, with the gradient of its probabilities.

    So dL/da_i = sum_j dL/dg_j p_j (delta_ij - p_i) (equation 4).
    """
    probabilities = strengths.softmax(0)
    chosen = _sampled(strengths, 1, generator)
    # The difference is 0, so that the gate is exactly 0 or 1.
    return torch.zeros_like(probabilities.detach()).index_fill_(0, chosen, 1.0) + (
        probabilities - probabilities.detach()
    )


def two_path_gate(strengths: Tensor, generator: Generator) -> list[float | Tensor]:
    """Return a gate of two sampled options, of which one is 1; all others are constant zeros (section 3.2.1).

    The two have the gradient of the softmax over both alone.
    """
    if len(strengths) == 1:
        return [1.0]
    pair = _sampled(strengths, 2, generator)
    probabilities = strengths[pair].softmax(0)
    chosen = _sampled(strengths[pair], 1, generator)
    hot = torch.zeros_like(probabilities.detach()).index_fill_(0, chosen, 1.0) + (
        probabilities - probabilities.detach()
    )
    gate: list[float | Tensor] = [0.0] * len(strengths)
    for place, number in zip(pair.tolist(), hot.unbind(), strict=True):
        gate[place] = number
    return gate


def _sampled(strengths: Tensor, count: int, generator: Generator) -> Tensor:
    """Return the places of so many different options, drawn by their softmax.

    All of it is computed on the CPU: the weights that a step reads are known from strengths there, and a GPU's softmax
    differs in the last bits, by which it would now and then draw an option whose weights were not read.
    """
    probabilities = strengths.detach().cpu().softmax(0).double()
    return torch.multinomial(probabilities, count, generator=generator).to(strengths.device)


def binary_gates(sizes: Mapping[str, int], given: Gates, settings: ProxylessSettings, generator: Generator) -> Draw:
    """Return the gates of one sampled path, with gradients for every option."""
    strengths = leaves(given)
    gates = {name: binary_gate(strengths[name], generator) for name in sizes}
    return Draw((gates,), strengths, draw_seed(generator))


def two_path_gates(sizes: Mapping[str, int], given: Gates, settings: ProxylessSettings, generator: Generator) -> Draw:
    """Return the gates of one sampled path, with gradients for two options of each choice."""
    strengths = leaves(given)
    gates = {name: two_path_gate(strengths[name], generator) for name in sizes}
    return Draw((gates,), strengths, draw_seed(generator))


def sampled_path(sizes: Mapping[str, int], given: Gates, settings: Settings, generator: Generator) -> Draw:
    """Return the gates of one sampled path, as constants."""
    strengths = {name: torch.as_tensor(value).detach() for name, value in given.items()}
    gates = constant({name: binary_gate(strengths[name], generator) for name in sizes})
    return Draw((gates,), seed=draw_seed(generator))


def sampled_paths(sizes: Mapping[str, int], given: Gates, settings: ProxylessSettings, generator: Generator) -> Draw:
    """Return the gates of several sampled paths, as constants."""
    strengths = leaves(given)
    gates = tuple(
        constant({name: binary_gate(strengths[name], generator) for name in sizes}) for _ in range(settings.samples)
    )
    return Draw(gates, strengths, draw_seed(generator))


# --- Learning strengths --------------------------------------------------------------------------------------------


def with_cost(cross_entropy: Tensor, cost: Tensor, settings: ProxylessSettings) -> Tensor:
    """Return the loss that the settings make of a cross-entropy and an expected cost, all scalars."""
    match settings.cost_loss:
        case "none":
            return cross_entropy
        case "add":
            return cross_entropy + settings.cost_weight * cost
        case "add#linear":
            return cross_entropy + settings.cost_weight * (cost - settings.cost_reference) / settings.cost_reference
        case "mul#log":
            # A cost of 1 or less has no positive logarithm: such networks count as equally cheap.
            least = settings.cost_reference ** (1 / MAX_RATIO)
            ratio = cost.clamp(min=least).log() / math.log(settings.cost_reference)
            return settings.cost_scale * cross_entropy * ratio**settings.cost_power


def _gradients_with_cost(draw: Draw, found: Gradients, settings: ProxylessSettings, costs: Costs) -> dict[str, Tensor]:
    """Return the strengths' gradients of the loss with the expected cost."""
    if settings.cost_loss == "none":
        return pull_back(draw, found.gates)
    probabilities = {name: strengths.softmax(0) for name, strengths in draw.strengths.items()}
    cross_entropy, cost = found.loss.detach().requires_grad_(), expected_cost(probabilities, costs)
    level = cost.detach().requires_grad_()
    share, slope = torch.autograd.grad(with_cost(cross_entropy, level, settings), (cross_entropy, level))
    gates = [[share * gradient for gradient in some] for some in found.gates]
    return pull_back(draw, gates, lambda: slope * cost)


def _learn_strengths(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: ProxylessSettings, costs: Costs
) -> Step:
    if settings.cost_loss != "none":
        check_costs(costs, network.gate_sizes)
    found = differentiate(network, batches.validation(), weights, draw, settings, of="gates")
    return Step({}, _gradients_with_cost(draw, found, settings, costs), found.loss.item(), found.accuracy)


def _learn_two(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: ProxylessSettings, costs: Costs
) -> Step:
    step = _learn_strengths(network, batches, weights, draw, settings, costs)
    strengths = {
        name: rescaled_gradient(draw.strengths[name].detach(), step.strengths[name], _variable(gate), settings.rate)
        for name, gate in draw.gates[0].items()
    }
    return Step({}, strengths, step.loss, step.accuracy)


def _variable(gate: Gate) -> list[int]:
    """Return the places of the numbers that have gradients."""
    return [place for place, number in enumerate(gate) if isinstance(number, Tensor)]


def rescaled_gradient(strengths: Tensor, gradient: Tensor, pair: list[int], rate: float) -> Tensor:
    """Return the gradient by which a plain step changes two strengths, and no other option's probability.

    After a step of the two, they are shifted together so that the sum of their exponentials is what it was (section
    3.2.1). The same step with this gradient ends there at once.

    Args:
        strengths: before the step, `[K]`.
        gradient: of the two; others are not looked at.
        pair: their places; none if there is only one option.
        rate: learning rate of the step.
    """
    moved = torch.zeros_like(strengths)
    if pair:
        # In float64: a small difference is divided by a small rate.
        before, slope = strengths[pair].double(), gradient[pair].double()
        shift = (before - rate * slope).logsumexp(0) - before.logsumexp(0)
        moved[pair] = (slope + shift / rate).to(strengths)
    return moved


def _reinforce(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: ProxylessSettings, costs: Costs
) -> Step:
    """Return the strengths' policy gradient: minus the mean of (R - mean R) times that of log p (section 3.3.2)."""
    if settings.reward_power:
        check_costs(costs, network.gate_sizes)
    batch = batches.validation()
    scores = [score(network, weights, gates, [batch]) for gates in draw.gates]
    rewards = [
        found.accuracy * _cheapness(gates, settings, costs) for found, gates in zip(scores, draw.gates, strict=True)
    ]
    mean = sum(rewards) / len(rewards)
    with torch.enable_grad():
        surprise = {name: -strengths.log_softmax(0) for name, strengths in draw.strengths.items()}
        terms = [
            (reward - mean) * torch.stack([torch.as_tensor(gates[name]) @ s for name, s in surprise.items()]).sum()
            for reward, gates in zip(rewards, draw.gates, strict=True)
        ]
        loss = torch.stack(terms).mean()
    found = torch.autograd.grad(loss, list(draw.strengths.values()))
    count = len(scores)
    return Step(
        {},
        dict(zip(draw.strengths, found, strict=True)),
        sum(one.loss for one in scores) / count,
        sum(one.accuracy for one in scores) / count,
        mean,
    )


def _cheapness(gates: Gates, settings: ProxylessSettings, costs: Costs) -> float:
    if not settings.reward_power:
        return 1.0
    return cost_ratio(settings.cost_reference, chosen_cost(gates, costs)) ** settings.reward_power


def _period(settings: ProxylessSettings) -> int:
    return settings.period


def _learning(draw: DrawGates[ProxylessSettings], by: Differentiate[ProxylessSettings]) -> HalfStep[ProxylessSettings]:
    """Return the half-step that learns strengths, from such gates, by such gradients."""
    return HalfStep(draw=draw, differentiate=by, learns=STRENGTHS, period=_period)


_WEIGHTS = HalfStep(draw=sampled_path, differentiate=train_weights)

WARM_UP = Objective(settings=ProxylessSettings, half_steps=(_WEIGHTS,), reads_strengths=True)
"""Weights alone, along sampled paths."""

FULL = Objective(
    settings=ProxylessSettings,
    half_steps=(_WEIGHTS, _learning(binary_gates, _learn_strengths)),
    reads_strengths=True,
)
"""All options of each choice are computed for the strengths, the sampled one with gradients (the code's `full_v2`)."""

TWO = Objective(
    settings=ProxylessSettings,
    half_steps=(_WEIGHTS, _learning(two_path_gates, _learn_two)),
    reads_strengths=True,
)
"""Two options of each choice are computed for the strengths. Their shard must take plain gradient steps at `rate`."""

REINFORCE = Objective(
    settings=ProxylessSettings,
    half_steps=(_WEIGHTS, _learning(sampled_paths, _reinforce)),
    reads_strengths=True,
)
"""Strengths by the policy gradient of the accuracy of sampled paths."""
