"""The language model around a supernet's cell.

Shapes: B sequences side by side; T words that are predicted from; V words of the vocabulary; H units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture
from child_trainer.language_options import LanguageOptions
from child_trainer.networks.fused_cell import State
from child_trainer.networks.language_model import LanguageModel
from child_trainer.networks.operations import Shape
from child_trainer.supernets.gated_cell import GatedCell
from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.plan import Step, Use

NAMES: Mapping[str, str] = {
    "embedding": "embedding/weight",
    "prediction": "prediction/weight",
    "bias": "prediction/bias",
}
"""The names of the parameters around the cell, by PyTorch's names in the language model."""


@dataclass(frozen=True, slots=True)
class TextProblem:
    """What a supernet of language models is built for.

    Attributes:
        vocabulary_size: V.
        options: the model around the cell.
    """

    vocabulary_size: int
    options: LanguageOptions


class GatedLanguageModel(nn.Module):
    """A supernet's cell in a language model of one layer.

    Args:
        supernet: as for `GatedCell`.
        modules: as for `GatedCell`.
        shapes: as for `GatedCell`.
        problem: the words, and the model around the cell; it has a width.
    """

    nodes_path = "model.layers.0.operations"
    """Where the nodes' modules are in this one."""

    def __init__(
        self,
        supernet: Architecture,
        modules: Mapping[str, nn.Module],
        shapes: Mapping[str, Shape],
        problem: TextProblem,
    ) -> None:
        super().__init__()
        width = problem.options.hidden_size
        assert width is not None
        cells = [GatedCell(supernet, modules, shapes)]
        self.model = LanguageModel(cells, problem.vocabulary_size, width, problem.options)
        self._unroll = problem.options.unroll

    def around(self) -> dict[str, str]:
        """Return the names of the parameters around the nodes, each with PyTorch's."""
        return {NAMES[name]: f"model.{name}" for name, _ in self.model.named_parameters(recurse=False)}

    def forward(
        self,
        words: Tensor,
        gates: Gates,
        uses: Mapping[str, Sequence[Use]],
        steps: Sequence[Step],
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """Return the logits `[B, V, T]` float32 of the words that follow the last T of these, and the state after them.

        T is at most the words of a stretch. What comes before them is read first, without gradients, so that they begin
        with the state that it leaves.

        Args:
            words: `[B, N]` int64.
            gates: as for `GatedNodes.along`.
            uses: as for `GatedNodes.along`.
            steps: as for `GatedNodes.along`.
            state: h and c before the first word, `[B, H]` float32 each; default: zeros.
        """
        before = self.model.initial_state(len(words)) if state is None else [state]
        context, words = words[:, : -self._unroll].t(), words[:, -self._unroll :].t()
        with cast(GatedCell, self.model.layers[0]).along(gates, uses, steps):
            if len(context):
                with torch.no_grad():
                    _, before = self.model.read(context, before)
            logits, after = self.model(words, before)
        return logits.permute(1, 2, 0), after[0]
