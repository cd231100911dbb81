"""What jobs on shared weights need of a task: batches for steps, scores of paths, and the cost of a path."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from child_trainer.supernets.batches import Batches, ImageSource
from child_trainer.supernets.cost import flops, word_flops
from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.language_network import LanguageSupernet
from child_trainer.supernets.network import SupernetNetwork, Tensors
from child_trainer.supernets.objectives import objective
from child_trainer.supernets.scoring import Score, score
from child_trainer.supernets.text_batches import TextBatches, TextSource
from child_trainer.supernets.text_scoring import score_text
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.language import LanguageTask
from child_trainer.training.task import Task


class DrawnBatches(objective.Batches, Protocol):
    """The batches of one step, or of one score."""

    @property
    def generator(self) -> torch.Generator:
        """What draws them, on the data's device."""
        ...

    def to_refit(self, count: int) -> Iterable[Tensor]:
        """Draw the inputs of so many batches to refit statistics on."""
        ...


class SharedData(Protocol):
    """The data of a task, for a supernet that is built for it."""

    def batches(self, size: int, generator: torch.Generator) -> DrawnBatches:
        """Return the batches that a generator on the data's device draws, of this size each."""
        ...

    def score(
        self,
        network: SupernetNetwork,
        weights: Tensors,
        gates: Gates,
        batches: DrawnBatches,
        count: int,
        refit_on: Iterable[Tensor] | None,
    ) -> Score:
        """Score a path on so many validation batches, or on all validation data if 0; see `scoring.score`."""
        ...

    def metric(self, found: Score) -> float:
        """Return the metric that a score is; infinite if it is too large."""
        ...

    def flops(self, network: SupernetNetwork, gates: Mapping[str, Tensor]) -> int:
        """Return the floating-point operations of a path's forward pass on one example."""
        ...


@dataclass(frozen=True, slots=True)
class ImageData:
    """Images."""

    task: ImageTask

    def batches(self, size: int, generator: torch.Generator) -> Batches:
        """Return batches of images."""
        task = self.task
        return Batches(ImageSource(task.training, task.validation, task.augmented, task.centred), size, generator)

    def score(
        self,
        network: SupernetNetwork,
        weights: Tensors,
        gates: Gates,
        batches: DrawnBatches,
        count: int,
        refit_on: Iterable[Tensor] | None,
    ) -> Score:
        """Score a path on images."""
        images = cast(Batches, batches)
        validation = images.some_validation(count) if count else images.all_validation()
        return score(network, weights, gates, validation, refit_on)

    def metric(self, found: Score) -> float:
        """Return the accuracy."""
        return found.accuracy

    def flops(self, network: SupernetNetwork, gates: Mapping[str, Tensor]) -> int:
        """Return the operations for one image."""
        return flops(network, gates, self.task.input_shape)


@dataclass(frozen=True, slots=True)
class TextData:
    """Text, whose next word is predicted."""

    task: LanguageTask

    def batches(self, size: int, generator: torch.Generator) -> TextBatches:
        """Return batches of sequences of words."""
        task = self.task
        return TextBatches(TextSource(task.training, task.validation, task.options.unroll), size, generator)

    def score(
        self,
        network: SupernetNetwork,
        weights: Tensors,
        gates: Gates,
        batches: DrawnBatches,
        count: int,
        refit_on: Iterable[Tensor] | None,
    ) -> Score:
        """Score a path on sequences from random places, or on the whole text with the state carried along."""
        if count:
            return score(network, weights, gates, cast(TextBatches, batches).some_validation(count), refit_on)
        text, unroll = self.task.validation, self.task.options.unroll
        return score_text(cast(LanguageSupernet, network), weights, gates, text, unroll=unroll, refit_on=refit_on)

    def metric(self, found: Score) -> float:
        """Return the perplexity of a word."""
        try:
            return math.exp(found.loss)
        except OverflowError:
            return math.inf

    def flops(self, network: SupernetNetwork, gates: Mapping[str, Tensor]) -> int:
        """Return the operations for one word."""
        return word_flops(cast(LanguageSupernet, network), gates)


_KINDS: Mapping[type, Callable[..., SharedData]] = {ImageTask: ImageData, LanguageTask: TextData}


def data_of(task: Task) -> SharedData:
    """Return the data of a task, which has images or text (`shared_weights.make_network` says so before a run)."""
    for kind, make in _KINDS.items():
        if isinstance(task, kind):
            return make(task)
    raise TypeError(f"the task {task.name!r} must have images or text, got a {type(task).__name__}")
