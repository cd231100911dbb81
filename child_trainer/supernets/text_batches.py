"""The words of one step on shared weights.

A step has no memory of another one. Its sequences begin at random places of the text, and the state with which they
begin is that after the words before them, as the weights of the step itself read these. So a step that is made again
by another worker is the same, whatever was lost with the first one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class TextBatch(NamedTuple):
    """Words `[B, C + T]` int64, of which the first C are context, and those `[B, T]` that follow the last T."""

    words: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True)
class TextSource:
    """The texts of a task.

    Attributes:
        training, validation: `[N]` int64, numbers of words, on the device; at least two words.
        unroll: the words of a stretch: T, and C.
    """

    training: Tensor
    validation: Tensor
    unroll: int


@dataclass(frozen=True, slots=True)
class TextBatches:
    """The batches of one step: sequences from random places of a text, which its generator draws.

    Attributes:
        source: the texts.
        size: sequences of a batch, B.
        generator: on the texts' device.
    """

    source: TextSource
    size: int
    generator: torch.Generator

    def training(self) -> TextBatch:
        """Draw a batch of the training text."""
        return self._draw(self.source.training)

    def validation(self) -> TextBatch:
        """Draw a batch of the validation text."""
        return self._draw(self.source.validation)

    def to_refit(self, count: int) -> Iterator[Tensor]:
        """Draw the words of so many batches of the training text."""
        for _ in range(count):
            yield self.training().words

    def some_validation(self, count: int) -> Iterator[TextBatch]:
        """Draw so many batches of the validation text."""
        for _ in range(count):
            yield self.validation()

    def _draw(self, text: Tensor) -> TextBatch:
        # A text shorter than a context, a stretch and the word after it is all there is of context.
        length = min(2 * self.source.unroll + 1, len(text))
        starts = torch.randint(len(text) - length + 1, (self.size, 1), generator=self.generator, device=text.device)
        sequences = text[starts + torch.arange(length, device=text.device)]
        return TextBatch(sequences[:, :-1], sequences[:, -min(self.source.unroll, length - 1) :])
