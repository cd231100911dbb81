"""A language model around a recurrent cell (Zoph & Le 2017, section 4.2; spec §2.3).

Shapes: T words; B streams of text side by side; H units; V words of the vocabulary. Words are int64, all else float32.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.language_options import LanguageOptions
from child_trainer.networks import cost
from child_trainer.networks.build import build_cell, cell_on_meta
from child_trainer.networks.fused_cell import FusedCell, State

MAX_UNITS = 2**16
"""Upper bound on the units of a model."""


class LanguageModel(nn.Module):
    """Embeds words, runs the layers over them, and predicts each next word.

    Args:
        layers: modules of cells of H input and H hidden units, which compute what a `FusedCell` of theirs does.
        vocabulary_size: V.
        hidden_size: H.
        options: dropout, and whether embedding and prediction share their weights.
    """

    def __init__(
        self, layers: Sequence[nn.Module], vocabulary_size: int, hidden_size: int, options: LanguageOptions
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.embedding_dropout, self.variational_dropout = options.embedding_dropout, options.variational_dropout
        self.embedding = nn.Parameter(torch.empty(vocabulary_size, hidden_size))
        self.layers = nn.ModuleList(layers)
        self.prediction = None if options.tied_embeddings else nn.Parameter(torch.empty(vocabulary_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the tables of words uniformly within 1 / sqrt(H), and set the biases to 0; the layers stay as they are.

        Args:
            generator: draws the weights; default: PyTorch's global generator.
        """
        for table in (self.embedding, self.prediction):
            if table is not None:
                table.uniform_(-(self.hidden_size**-0.5), self.hidden_size**-0.5, generator=generator)
        self.bias.zero_()

    def initial_state(self, streams: int) -> list[State]:
        """Return zeros for h and c, `[B, H]` each, of each layer; B = streams."""
        size = (streams, self.hidden_size)
        return [(self.bias.new_zeros(size), self.bias.new_zeros(size)) for _ in self.layers]

    def forward(self, words: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """Return the logits `[T, B, V]` of each next word, and the state after the words.

        Args:
            words: `[T, B]`.
            state: h and c of each layer before the first word.
        """
        hidden, after = self.read(words, state)
        weight = self.embedding if self.prediction is None else self.prediction
        return F.linear(self._dropped(hidden), weight, self.bias), after

    def read(self, words: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """Return the last layer's hidden states `[T, B, H]`, and the state after the words; see `forward`."""
        hidden = F.embedding(words, self._embedding())
        after: list[State] = []
        for layer, before in zip(self.layers, state, strict=True):
            hidden, last = layer(self._dropped(hidden), before, self._mask(hidden[0]))
            after.append(last)
        return hidden, after

    def _embedding(self) -> Tensor:
        """Return the embedding `[V, H]`, in training with dropped words.

        A dropped word is dropped at all of its places in this sequence (Gal & Ghahramani 2016, section 4.2).
        """
        rate = self.embedding_dropout if self.training else 0.0
        if not rate:
            return self.embedding
        kept = torch.bernoulli(torch.full_like(self.bias, 1 - rate)) / (1 - rate)
        return self.embedding * kept.unsqueeze(1)

    def _mask(self, like: Tensor) -> Tensor | None:
        """Return a dropout mask `[B, H]`, scaled to a mean of 1; `None` without dropout."""
        rate = self.variational_dropout if self.training else 0.0
        return torch.bernoulli(torch.full_like(like, 1 - rate)) / (1 - rate) if rate else None

    def _dropped(self, hidden: Tensor) -> Tensor:
        """Drop the same units of `[T, B, H]` at every step."""
        mask = self._mask(hidden[0])
        return hidden if mask is None else hidden * mask


def build_language_model(
    cell: Architecture, vocabulary_size: int, options: LanguageOptions, *, generator: torch.Generator | None = None
) -> LanguageModel:
    """Build the model on the CPU, ready to train, with all weights uniform within 1 / sqrt(H).

    Args:
        cell: of kind `recurrent`.
        vocabulary_size: V.
        options: the number of layers and their width.
        generator: draws the weights; default: PyTorch's global generator.

    Raises:
        InvalidArchitecture: the cell is feed-forward or cannot be built, or no width is small enough.
    """
    hidden = options.hidden_size or solved_width(cell, vocabulary_size, options)
    cells = [FusedCell(build_cell(cell, hidden, hidden, generator=generator)) for _ in range(options.cell_layers)]
    model = LanguageModel(cells, vocabulary_size, hidden, options)
    model.reset_parameters(generator)
    return model


def language_model_on_meta(cell: Architecture, vocabulary_size: int, options: LanguageOptions) -> LanguageModel:
    """Build the model without memory for its weights, to know its shapes and sizes; see `build_language_model`.

    Raises:
        InvalidArchitecture: as `build_language_model` does.
    """
    hidden = options.hidden_size or solved_width(cell, vocabulary_size, options)
    with torch.device("meta"):
        cells = [FusedCell(cell_on_meta(cell, hidden, hidden)) for _ in range(options.cell_layers)]
        return LanguageModel(cells, vocabulary_size, hidden, options)


def count_parameters(cell: Architecture, vocabulary_size: int, hidden_size: int, options: LanguageOptions) -> int:
    """Return the number of parameters of the whole model, without allocating any."""
    tables = 1 if options.tied_embeddings else 2
    cell_parameters = cost.parameters(cell_on_meta(cell, hidden_size, hidden_size))
    return options.cell_layers * cell_parameters + tables * vocabulary_size * hidden_size + vocabulary_size


@lru_cache(maxsize=1024)
def solved_width(cell: Architecture, vocabulary_size: int, options: LanguageOptions) -> int:
    """Return the largest hidden size with which the model has at most `target_parameters` (spec T2.5).

    Raises:
        InvalidArchitecture: the model has too many parameters even with a hidden size of 1.
    """

    def fits(width: int) -> bool:
        return count_parameters(cell, vocabulary_size, width, options) <= options.target_parameters

    # If all maps of the cell have the hidden size, the count is quadratic in it and the guess is right.
    guess = _largest_below([count_parameters(cell, vocabulary_size, width, options) for width in (1, 2, 3)], options)
    low, high = (guess, guess + 1) if 1 <= guess < MAX_UNITS and fits(guess) else (0, 1)
    while high <= MAX_UNITS and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if not low:
        minimum = count_parameters(cell, vocabulary_size, 1, options)
        raise InvalidArchitecture(
            f"with {vocabulary_size:,} words the smallest model of this cell has {minimum:,} parameters;"
            f" `target_parameters` is {options.target_parameters:,}"
        )
    return low


def _largest_below(counts: list[int], options: LanguageOptions) -> int:
    """Return the largest width whose count is at most the target, for a count quadratic in the width.

    Args:
        counts: of widths 1, 2 and 3.
        options: has the target.
    """
    curve = (counts[2] - 2 * counts[1] + counts[0]) / 2
    slope = counts[1] - counts[0] - 3 * curve
    constant = counts[0] - slope - curve - options.target_parameters
    if constant > 0:
        return 0
    # This form of the root has no cancellation, and also serves a curve of 0.
    return int(-2 * constant / (slope + math.sqrt(slope * slope - 4 * curve * constant)))
