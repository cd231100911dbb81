"""DARTS's space of recurrent cells (Liu et al. 2019, arXiv 1806.09055, section 3.1; spec §12.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.highway_cells import NONE, cell, darts_gate, darts_search_cell
from controller.decisions import Tokens
from controller.spaces.highway import HighwaySpace
from controller.spaces.supernet import Network, check_searches, one_hot, probabilities, strengths_of, strongest

LAYERS = 8


@dataclass(frozen=True, kw_only=True)
class DartsRnnSpace(HighwaySpace):
    """Recurrent cells of highway layers, each with one of the earlier layers that it carries on and an activation."""

    layers: int = LAYERS
    """Layers that are searched, behind the first one, which reads the input and the last state."""
    network: Network = "search"
    """search: every layer is batch-normalised, so that cells can share weights; final: none is, as after the search."""

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the cell that the tokens encode; its output is the next h."""
        if self.network == "search":
            return _searched(self, self.gates(tokens))
        return cell(self.layers_of(tokens))

    def supernet(self) -> Architecture:
        """Return the cell in which each layer has an edge from every earlier one, with every activation.

        Raises:
            ValueError: the space has final networks, which share no weights.
        """
        check_searches(self.network)
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gate of each edge: 1 at its activation, and nothing at an edge that is not carried on."""
        gates: dict[str, tuple[float, ...]] = {}
        options = self._options
        for target, layer in enumerate(self.layers_of(tokens), start=1):
            for source in range(target):
                place = options.index(layer.activation) if source == layer.source else len(options)
                gates[darts_gate(source, target)] = one_hot(place, len(options))
        return gates

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the strongest edge into each layer, with its strongest activation (spec §12.3).

        An edge is as strong as the largest probability of one of its activations, of which none is not one.
        """
        tokens: list[int] = []
        for target in range(1, self.layers + 1):
            edges = [
                probabilities(strengths_of(strengths, darts_gate(source, target), len(self._options)))[1:]
                for source in range(target)
            ]
            source = strongest([max(edge) for edge in edges])
            tokens += [source] * (target > 1) + [strongest(edges[source])]
        return tuple(tokens)

    @property
    def _options(self) -> tuple[str, ...]:
        """The options of an edge of the supernet."""
        return (NONE, *self.activations)


TEXT = DartsRnnSpace(layers=4)
"""Of a size for a search on a processor."""


@lru_cache(maxsize=16)
def _supernet(space: DartsRnnSpace) -> Architecture:
    return _searched(space, None)


def _searched(space: DartsRnnSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    return darts_search_cell(gates, layers=space.layers, operations=space._options)
