"""DARTS: strengths by the validation loss, weights by the training loss (Liu et al. 2019, arXiv 1806.09055; spec §12).

Also the objective of spec §19, in which the strengths are learnt by both losses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.gradients import Gradients, Of, differentiate, pull_back
from child_trainer.supernets.objectives.objective import (
    STRENGTHS,
    Batch,
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
from child_trainer.supernets.objectives.path import train_weights

UNROLLED_STEP = 0.01
"""Length of the step along the validation gradient at which the mixed second derivative is measured (section 2.3)."""


@dataclass(frozen=True, kw_only=True)
class DartsSettings(Settings):
    """Settings of DARTS."""

    order: Literal[1, 2] = 1
    """1: strengths by the weights as they are; 2: by the weights after their next step."""
    rate: float = 0.025
    """Learning rate of the step of the weights that the second order looks ahead by."""
    decay: float = 0.0
    """Weight decay of that step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("order", self.order in (1, 2), "1 or 2")
        self.require("rate", self.rate > 0, "above 0")
        self.require("decay", self.decay >= 0, "0 or more")


def softmax_gates(sizes: Mapping[str, int], given: Gates, settings: Settings, generator: Generator) -> Draw:
    """Return the softmax of each gate's strengths."""
    strengths = leaves(given)
    return Draw(({name: strengths[name].softmax(0) for name in sizes},), strengths, draw_seed(generator))


LossAt = Callable[[Tensors, Of], Gradients]
"""A loss at given weights, with gradients."""


def unrolled(training: LossAt, validation: LossAt, weights: Tensors, rate: float, decay: float = 0.0) -> Gradients:
    """Return the validation loss after the next step of the weights, with its gradient with respect to the gates.

    With w' = w - rate (dL_train(w, a)/dw + decay w), this is dL_val(w', a)/da - rate (d2 L_train/da dw) dL_val/dw'. The
    product is measured as a central difference, whose error falls with the square of its step (equations 7 and 8). The
    published code also looks ahead by the optimizer's momentum, the paper does not.

    Args:
        training: the loss that the step follows.
        validation: the loss after it.
        weights: before the step.
        rate: learning rate of the step.
        decay: its weight decay.
    """
    step = training(weights, "weights").weights
    ahead = {name: w - rate * (step[name] + decay * w) if name in step else w for name, w in weights.items()}
    found = validation(ahead, "both")
    norm = torch.stack([g.square().sum() for g in found.weights.values()]).sum().sqrt()
    if not norm:
        return found
    size = UNROLLED_STEP / norm
    plus, minus = (
        training(
            {name: w + change * found.weights[name] if name in found.weights else w for name, w in weights.items()},
            "gates",
        ).gates
        for change in (size, -size)
    )
    gates = [
        [direct - rate * (p - m) / (2 * size) for direct, p, m in zip(*some, strict=True)]
        for some in zip(found.gates, plus, minus, strict=True)
    ]
    return Gradients({}, gates, found.loss, found.accuracy)


def _learn_strengths(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: DartsSettings, costs: Costs
) -> Step:
    def loss_of(batch: Batch) -> LossAt:
        return lambda weights, of: differentiate(network, batch, weights, draw, settings, of=of)

    if settings.order == 1:
        found = loss_of(batches.validation())(weights, "gates")
    else:
        training, validation = loss_of(batches.training()), loss_of(batches.validation())
        found = unrolled(training, validation, weights, settings.rate, settings.decay)
    return Step({}, pull_back(draw, found.gates), found.loss.item(), found.accuracy)


_WEIGHTS = HalfStep(draw=softmax_gates, differentiate=train_weights)

DARTS = Objective(
    settings=DartsSettings,
    half_steps=(HalfStep(draw=softmax_gates, differentiate=_learn_strengths, learns=STRENGTHS), _WEIGHTS),
    reads_strengths=True,
)
"""Strengths first, then weights with the new strengths."""


@dataclass(frozen=True, kw_only=True)
class WeightedSettings(Settings):
    """Settings of the weighted objective."""

    validation_weight: float = 1.0
    """Weight of the validation loss beside the training loss, lambda; DARTS's first order is its limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("validation_weight", self.validation_weight >= 0, "0 or more")


def _learn_by_both(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: WeightedSettings, costs: Costs
) -> Step:
    one, other = (
        differentiate(network, batch, weights, draw, settings, of="gates")
        for batch in (batches.training(), batches.validation())
    )
    gates = [
        [t + settings.validation_weight * v for t, v in zip(*some, strict=True)]
        for some in zip(one.gates, other.gates, strict=True)
    ]
    return Step({}, pull_back(draw, gates), other.loss.item(), other.accuracy)


WEIGHTED = Objective(
    settings=WeightedSettings,
    half_steps=(HalfStep(draw=softmax_gates, differentiate=_learn_by_both, learns=STRENGTHS), _WEIGHTS),
    reads_strengths=True,
)
"""Strengths by L_train - lambda R_val with R_val = -L_val, then weights by L_train (spec §19)."""
