"""ENAS's space of recurrent cells (Pham et al. 2018, arXiv 1802.03268, section 2.1; spec §6.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.highway_cells import enas_gate, enas_search_cell
from controller.decisions import Tokens
from controller.spaces.highway import HighwaySpace
from controller.spaces.supernet import one_hot, strengths_of, strongest

LAYERS = 12


@dataclass(frozen=True, kw_only=True)
class EnasRnnSpace(HighwaySpace):
    """Recurrent cells of highway layers, which have weights of their own for each layer carried on and activation."""

    layers: int = LAYERS
    """Layers that are searched, behind the first one, which reads the input and the last state."""

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the cell that the tokens encode; its output is the next h."""
        return enas_search_cell(self.gates(tokens), layers=self.layers, activations=self.activations)

    def supernet(self) -> Architecture:
        """Return the cell in which each layer has every earlier layer and every activation to choose from."""
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return each layer's gate: 1 at its pair of a layer that it carries on and an activation."""
        count = len(self.activations)
        return {
            enas_gate(number): one_hot(layer.source * count + self.activations.index(layer.activation), number * count)
            for number, layer in enumerate(self.layers_of(tokens), start=1)
        }

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the strongest pair of each layer."""
        tokens: list[int] = []
        count = len(self.activations)
        for number in range(1, self.layers + 1):
            source, activation = divmod(strongest(strengths_of(strengths, enas_gate(number), number * count)), count)
            tokens += [source] * (number > 1) + [activation]
        return tuple(tokens)


TEXT = EnasRnnSpace(layers=4)
"""Of a size for a search on a processor."""


@lru_cache(maxsize=16)
def _supernet(space: EnasRnnSpace) -> Architecture:
    return enas_search_cell(None, layers=space.layers, activations=space.activations)
