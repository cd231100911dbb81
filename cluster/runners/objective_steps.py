"""The steps of a child's job as an objective makes them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from child_trainer.seeding import derive
from child_trainer.supernets.jobs import Steps
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives import objective
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from child_trainer.supernets.objectives.objective import Costs, Draw, Learnt, Settings, Step
from child_trainer.training.task import Diverged
from cluster.runners.shared_data import DrawnBatches
from cluster.runners.shared_weights import GROUP
from cluster.search.steps import Gradients, HalfStep
from controller.space import HasSupernet
from controller.strengths import tensor_names


class ObjectiveSteps:
    """The steps of one child, as `make_steps` makes them.

    Args:
        job: the child's.
        network: the supernet.
        paths: the gates of each step's path; none if the objective draws them.
        batches: returns the batches for one purpose.
        seed: the child's.
        costs: of each option, for objectives that count costs.
        groups: of the shared weights, which the job's rate is for.

    Raises:
        ValueError: there is no such objective, or it has not these settings.
    """

    def __init__(
        self,
        job: Steps,
        network: SupernetNetwork,
        paths: Sequence[Mapping[str, Tensor]],
        batches: Callable[[str], DrawnBatches],
        seed: int,
        costs: Costs,
        groups: Iterable[str] = (GROUP,),
    ) -> None:
        if job.objective not in OBJECTIVES:
            raise ValueError(f"there is no objective {job.objective!r}; the objectives are {', '.join(OBJECTIVES)}")
        self._job, self._objective = job, OBJECTIVES[job.objective]
        self._settings: Settings = self._objective.settings_of(job.settings)
        self._network, self._paths, self._batches, self._seed, self._costs = network, paths, batches, seed, costs
        self._groups = tuple(groups)
        self._made: list[tuple[objective.HalfStep[Any], Step]] = []

    @property
    def strengths(self) -> list[str]:
        """The names of the tensors with strengths that the steps read; none if the objective reads none."""
        if not self._objective.reads_strengths:
            return []
        both = any(len(half.learns) > 1 for half in self._objective.half_steps)
        return tensor_names(self._network.gate_sizes, before=both)

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of the weights, where the job has one."""
        return {} if self._job.rate is None else dict.fromkeys(self._groups, self._job.rate)

    def half_steps(self, step: int) -> list[HalfStep]:
        """Return the parts of a step that are due, with the settings as they are in this step."""
        number, total, settings = self._job.first + step, self._job.total, self._settings
        if total:
            settings = replace(settings, progress=number / total)
        due = self._objective.due(number, settings)
        places = {id(half): place for place, half in enumerate(self._objective.half_steps)}
        return [_Part(self, step, places[id(half)], half, settings) for half in due]

    def means(self) -> dict[str, float]:
        """Return the means over the steps of this attempt, by name; none if it made no step."""
        found: dict[str, float] = {}
        for prefix, weights in (("", True), ("strengths_", False)):
            steps = [step for half, step in self._made if ("weights" in half.learns) == weights]
            if steps:
                found |= {f"{prefix}{name}": fmean(getattr(s, name) for s in steps) for name in ("loss", "accuracy")}
                if rewards := [step.reward for step in steps if step.reward is not None]:
                    found[f"{prefix}reward"] = fmean(rewards)
        return found

    def draw(self, part: "_Part", strengths: Mapping[str, Tensor]) -> Draw:
        """Return what a part draws, the same at each call with the same strengths."""
        generator = torch.Generator().manual_seed(derive(self._seed, f"gates of {part.words}"))
        given = self._paths[part.step] if self._paths else strengths
        return part.half.draw(self._network.gate_sizes, given, part.settings, generator)

    def names(self, part: "_Part", strengths: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the weights that a part reads."""
        return part.half.names(self._network, self.draw(part, strengths))

    def gradients(self, part: "_Part", weights: Mapping[str, Tensor], strengths: Mapping[str, Tensor]) -> Gradients:
        """Return the gradients that a part pushes.

        Raises:
            Diverged: the loss is not finite.
        """
        batches = self._batches(f"images of {part.words}")
        device = batches.generator.device
        draw = self.draw(part, moved(strengths, device))
        made = part.half.step(self._network, batches, moved(weights, device), draw, part.settings, self._costs)
        if not math.isfinite(made.loss):
            raise Diverged(f"the training loss is {made.loss} in step {part.step + 1}")
        self._made.append((part.half, made))
        return Gradients(moved(made.weights, "cpu"), moved(made.strengths, "cpu"))


@dataclass(frozen=True, slots=True)
class _Part:
    """A half-step of one step of a child: `cluster.search.steps.HalfStep`."""

    steps: ObjectiveSteps
    step: int
    place: int
    half: objective.HalfStep[Any]
    settings: Settings

    @property
    def words(self) -> str:
        return f"step {self.step}" + (f", part {self.place}" if self.place else "")

    @property
    def learns(self) -> frozenset[Learnt]:
        return self.half.learns

    def names(self, strengths: Mapping[str, Tensor]) -> list[str]:
        return self.steps.names(self, strengths)

    def gradients(self, weights: Mapping[str, Tensor], strengths: Mapping[str, Tensor]) -> Gradients:
        return self.steps.gradients(self, weights, strengths)


def path_gates(space: HasSupernet, tokens: Sequence[int]) -> dict[str, Tensor]:
    """Return the gates of a sample's path."""
    return {name: torch.tensor(vector) for name, vector in space.gates(tokens).items()}


def moved(tensors: Mapping[str, Tensor], device: str | torch.device) -> dict[str, Tensor]:
    """Return the tensors on a device."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}
