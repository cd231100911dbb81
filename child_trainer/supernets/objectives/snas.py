"""SNAS: strengths and weights by one loss, through a relaxed sample of a path (Xie et al. 2019; spec §13)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.costs import check_costs, expected_cost
from child_trainer.supernets.objectives.gradients import differentiate, pull_back, weight_gradients
from child_trainer.supernets.objectives.objective import (
    Batches,
    Costs,
    Draw,
    HalfStep,
    Objective,
    Settings,
    Step,
    Tensors,
    draw_seed,
    leaves,
)


@dataclass(frozen=True, kw_only=True)
class SnasSettings(Settings):
    """Settings of SNAS."""

    first_temperature: float = 1.0
    """Temperature of the relaxation at the start of the search."""
    last_temperature: float = 0.03
    """Temperature at the end; it falls linearly."""
    cost_weight: float = 0.0
    """Weight of the expected cost in the loss; it needs a table of costs (mild: 0.0015 with their logarithms)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("first_temperature", self.first_temperature > 0, "above 0")
        self.require("last_temperature", self.last_temperature > 0, "above 0")
        self.require("cost_weight", self.cost_weight >= 0, "0 or more")

    @property
    def temperature(self) -> float:
        """The temperature of this step."""
        return self.first_temperature + self.progress * (self.last_temperature - self.first_temperature)


def concrete(strengths: Tensor, temperature: float, generator: Generator) -> Tensor:
    """Return a sample of the concrete distribution, softmax((log alpha + G) / temperature) with G Gumbel(0, 1).

    Its largest entry is at k with the probability softmax(log alpha)_k, whatever the temperature.

    Args:
        strengths: log alpha, `[..., K]`.
        temperature: towards 0, samples become one-hot.
        generator: on the CPU.
    """
    # Exponential noise E gives Gumbel noise -log E; it is never 0.
    noise = torch.empty(strengths.shape, dtype=torch.float64).exponential_(generator=generator).log().neg()
    return ((strengths + noise.to(strengths)) / temperature).softmax(-1)


def concrete_gates(sizes: Mapping[str, int], given: Gates, settings: SnasSettings, generator: Generator) -> Draw:
    """Return a relaxed sample for each gate."""
    strengths = leaves(given)
    gates = {name: concrete(strengths[name], settings.temperature, generator) for name in sizes}
    return Draw((gates,), strengths, draw_seed(generator))


def _learn_both(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: SnasSettings, costs: Costs
) -> Step:
    if settings.cost_weight:
        check_costs(costs, network.gate_sizes)
    found = differentiate(network, batches.training(), weights, draw, settings, of="both")

    def cost() -> Tensor:
        probabilities = {name: strengths.softmax(0) for name, strengths in draw.strengths.items()}
        return settings.cost_weight * expected_cost(probabilities, costs)

    strengths = pull_back(draw, found.gates, cost if settings.cost_weight else None)
    gradients = weight_gradients(network, found, weights, draw, settings)
    return Step(gradients, strengths, found.loss.item(), found.accuracy)


SNAS = Objective(
    settings=SnasSettings,
    half_steps=(HalfStep(draw=concrete_gates, differentiate=_learn_both, learns=frozenset({"weights", "strengths"})),),
    reads_strengths=True,
)
"""Strengths and weights together, both on the training batch."""
