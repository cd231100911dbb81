"""The cells of NAS-Bench-201 (Dong & Yang 2020, arXiv 2001.00326): 6 edges with 5 operations, 15,625 in all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.nasbench201 import (
    CELL_OPERATIONS,
    CELLS_PER_STAGE,
    EDGES,
    GATES,
    STEM_CHANNELS,
    Cell,
    cell_name,
    network,
    picture,
    supernet,
)
from child_trainer.field_types import check_types
from controller.decisions import Choice, Decisions, InvalidTokens, Tokens, check_tokens
from controller.limits import MAX_CELLS, check_number
from controller.spaces.supernet import one_hot, strengths_of, strongest

_DECISIONS: Decisions = tuple(Choice("edge", CELL_OPERATIONS, place) for place in range(1, len(EDGES) + 1))

_PATHS: tuple[tuple[int, ...], ...] = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The paths from the cell's input to its output, each as positions in `EDGES`."""

NONE = CELL_OPERATIONS[0]


@dataclass(frozen=True, kw_only=True)
class NasBench201Space:
    """The operation of each edge of a cell; a network of fixed shape is made of copies of the cell."""

    cells_per_stage: int = CELLS_PER_STAGE
    """Cells in each of the three stages (the benchmark, and its table: 5)."""
    stem_channels: int = STEM_CHANNELS
    """Channels of the first stage, doubled for each later one (the benchmark, and its table: 16)."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "cells_per_stage", 1, MAX_CELLS)
        if self.stem_channels < 1:
            raise ValueError(f"`stem_channels` must be at least 1, got {self.stem_channels}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "edge"

    def decisions(self, completed: int) -> Decisions:
        """Return the choices of the operation of each edge; they are the same throughout a search."""
        return _DECISIONS

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each of the six choices: five operations."""
        return {d.name: len(CELL_OPERATIONS) for d in _DECISIONS if isinstance(d, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions, which take six tokens."""
        if num_tokens != len(_DECISIONS):
            raise InvalidTokens(f"a cell takes {len(_DECISIONS)} tokens, got {num_tokens}")
        return _DECISIONS

    def features(self, tokens: Sequence[int]) -> Mapping[str, float]:
        """Return how often each path from the cell's input to its output is there, by its operations.

        This is the path encoding of White et al. 2021 (arXiv 1910.11858, section 4). A path with an edge `none` is
        absent. Cells that differ only in edges without effect, or in the order of paths, have equal features.
        """
        paths = [[CELL_OPERATIONS[tokens[edge]] for edge in path] for path in _PATHS]
        return Counter(" ".join(path) for path in paths if NONE not in path)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the cell that the tokens encode."""
        return network(self._cell(tokens), cells_per_stage=self.cells_per_stage, stem_channels=self.stem_channels)

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cell as a graph for people."""
        return {"cell": picture(self._cell(tokens))}

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the cell by the benchmark's name."""
        return {"NAS-Bench-201": cell_name(self._cell(tokens))}

    def _cell(self, tokens: Sequence[int]) -> Cell:
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return tuple(CELL_OPERATIONS[token] for token in tokens)

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: an edge has one operation."""
        return True

    def supernet(self) -> Architecture:
        """Return the network in which each edge has every operation."""
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gate of each edge."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return {gate: one_hot(token, len(CELL_OPERATIONS)) for gate, token in zip(GATES, tokens, strict=True)}

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the cell of the strongest operation of each edge, which may be none."""
        return tuple(strongest(strengths_of(strengths, gate, len(CELL_OPERATIONS))) for gate in GATES)


@lru_cache(maxsize=16)
def _supernet(space: NasBench201Space) -> Architecture:
    return supernet(cells_per_stage=space.cells_per_stage, stem_channels=space.stem_channels)
