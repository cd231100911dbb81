"""Training of the weights along given or sampled paths: ENAS and SMASH (spec §6, §10), One-Shot (spec §11)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.gradients import differentiate, weight_gradients
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
)


def train_weights(
    network: SupernetNetwork, batches: Batches, weights: Tensors, draw: Draw, settings: Settings, costs: Costs
) -> Step:
    """Return the gradient of the weights that the draw's gates read, on the training batch.

    The gates count as constants; gradients that they have are left alone.
    """
    found = differentiate(network, batches.training(), weights, draw, settings, of="weights")
    return Step(weight_gradients(network, found, weights, draw, settings), {}, found.loss.item(), found.accuracy)


def given_path(sizes: Mapping[str, int], given: Gates, settings: Settings, generator: Generator) -> Draw:
    """Return the gates that are given."""
    return Draw((given,), seed=draw_seed(generator))


PATH = Objective(settings=Settings, half_steps=(HalfStep(draw=given_path, differentiate=train_weights),))
"""A path that the searcher chose, for each step a new one (ENAS, SMASH)."""


@dataclass(frozen=True, kw_only=True)
class DropoutSettings(Settings):
    """Settings of One-Shot's training."""

    drop_rate: float = 0.1
    """Probability, at the end of the search, that all paths into a choice are dropped; it rises linearly from 0."""
    groups: int = 1
    """Ghost groups of a batch: each has statistics of normalisation, and dropped paths, of its own (Bender et al.: 32
    of 32 images)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("drop_rate", 0 <= self.drop_rate < 1, "at least 0 and below 1")
        self.require("groups", self.groups >= 1, "at least 1")


def keep_mask(size: int, drop_rate: float, generator: Generator) -> Tensor:
    """Return a 1 for each path that is kept and a 0 for each other: `[size]` float32.

    Each is dropped with the probability drop_rate^(1 / size), so that all of them are with drop_rate, whatever their
    number (Bender et al. 2018; spec §11).
    """
    return (torch.rand(size, generator=generator) >= drop_rate ** (1 / size)).float()


def dropped_paths(sizes: Mapping[str, int], given: Gates, settings: DropoutSettings, generator: Generator) -> Draw:
    """Return the gates of each ghost group: all paths but the dropped ones."""
    rate = settings.drop_rate * settings.progress
    gates = tuple(
        {name: keep_mask(size, rate, generator) for name, size in sizes.items()} for _ in range(settings.groups)
    )
    return Draw(gates, seed=draw_seed(generator))


DROPOUT = Objective(settings=DropoutSettings, half_steps=(HalfStep(draw=dropped_paths, differentiate=train_weights),))
"""Path dropout: the whole supernet is trained, and paths of it are scored later (One-Shot)."""
