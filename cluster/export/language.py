"""The network of an export of a language model: one step, from a word and a state to the next word's logits."""

import torch
from torch import Tensor, nn

from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.language_options import LanguageOptions
from child_trainer.networks import language_weights
from child_trainer.networks.fused_cell import FusedCell
from child_trainer.networks.language_model import LanguageModel, build_language_model
from child_trainer.training.epochs import with_own_options
from cluster.export.programs import Program


class ExportedLanguageModel(nn.Module):
    """Takes a word of each of some texts, with the state of all layers, and returns them for the next step.

    A program cannot have a loop over any number of words: who uses it calls it for each word.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        for layer in model.layers:
            assert isinstance(layer, FusedCell)
            layer.program = None  # node by node: no tracer follows derivatives that are written out

    def forward(self, words: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of each next word, and the state after the words.

        Args:
            words: `[B]` int64.
            h, c: `[L, B, H]` float32 of the L layers.

        Returns:
            The logits `[B, V]`, h and c.
        """
        logits, after = self.model(words.unsqueeze(0), list(zip(h.unbind(), c.unbind(), strict=True)))
        next_h, next_c = zip(*after, strict=True)
        return logits.squeeze(0), torch.stack(next_h), torch.stack(next_c)


def exported_language_model(weights: TrainedWeights, options: LanguageOptions) -> Program:
    """Build a trained language model on the CPU, in evaluation mode.

    Args:
        weights: as a training left them.
        options: with which it was trained.

    Raises:
        InvalidArchitecture: the cell cannot be built.
        WrongWeights: the weights are of another model.
    """
    words, cell = language_weights.words_of(weights.tensors), weights.architecture
    model = build_language_model(cell, len(words), with_own_options(options, cell), generator=torch.Generator())
    language_weights.load(model, words, weights.tensors)

    def example(number: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(number)
        size = (len(model.layers), number, model.hidden_size)
        h, c = (torch.rand(size, generator=generator) - 0.5 for _ in range(2))
        return torch.randint(0, len(words), (number,), generator=generator), h, c

    return Program(
        network=ExportedLanguageModel(model).eval(),
        batch={"words": 0, "h": 1, "c": 1},
        outputs=("logits", "next_h", "next_c"),
        example=example,
    )
