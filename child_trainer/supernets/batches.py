"""The images of one step on shared weights, prepared for a network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from child_trainer.training.image_classifier import EVALUATION_BATCH, Images, standardise


class Batch(NamedTuple):
    """Images `[B, C, H, W]` float32 and their classes `[B]` int64, on the device."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of a task, and how they are prepared.

    Attributes:
        training, validation: the images, on the device.
        augment: changes standardised training images, with a generator on the device.
        prepare: changes standardised images for evaluation.
    """

    training: Images
    validation: Images
    augment: Callable[[Tensor, torch.Generator], Tensor]
    prepare: Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one step: random images, which its generator draws.

    Attributes:
        source: the images.
        size: of a batch; smaller where there are fewer images.
        generator: on the images' device.
    """

    source: ImageSource
    size: int
    generator: torch.Generator

    def training(self) -> Batch:
        """Draw a batch of different training images, augmented."""
        images, labels = self._draw(self.source.training)
        return Batch(self.source.augment(images, self.generator), labels)

    def validation(self) -> Batch:
        """Draw a batch of different validation images, prepared as for evaluation."""
        images, labels = self._draw(self.source.validation)
        return Batch(self.source.prepare(images), labels)

    def to_refit(self, count: int) -> Iterator[Tensor]:
        """Draw so many batches of training images, prepared as for evaluation."""
        for _ in range(count):
            yield self.source.prepare(self._draw(self.source.training)[0])

    def some_validation(self, count: int) -> Iterator[Batch]:
        """Draw so many batches of validation images."""
        for _ in range(count):
            yield self.validation()

    def all_validation(self) -> Iterator[Batch]:
        """Yield all validation images, prepared, in batches."""
        images = self.source.validation
        for start in range(0, len(images), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            yield Batch(self.source.prepare(standardise(images.pixels[batch])), images.labels[batch])

    def _draw(self, images: Images) -> tuple[Tensor, Tensor]:
        device = images.labels.device
        chosen = torch.randperm(len(images), generator=self.generator, device=device)[: self.size]
        return standardise(images.pixels[chosen]), images.labels[chosen]
