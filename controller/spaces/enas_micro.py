"""ENAS's micro space (Pham et al. 2018, arXiv 1802.03268, section 2.4; spec §6.2): cells that can share weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.cells import enas
from child_trainer.architectures.cells.cell import INPUTS, Cell, Genotype
from child_trainer.field_types import check_types
from controller.decisions import Choice, Tokens
from controller.spaces.cells import CellSpace
from controller.spaces.enas_arcs import OPERATIONS, to_enas
from controller.spaces.supernet import Network, check_searches, one_hot, some_hot, strengths_of, strongest


@dataclass(frozen=True, kw_only=True)
class EnasMicroSpace:
    """Cells of blocks that each add two earlier states after an operation on each; all networks can share weights."""

    operations: tuple[str, ...] = OPERATIONS
    """Operations that a block may apply to a state."""
    blocks: int = 5
    """Blocks of a cell."""
    num_cells: int = 6
    """Normal cells; two reduction cells come in addition."""
    filters: int = 20
    """Filters of the first cells; each reduction cell doubles them."""
    network: Network = "search"
    """search: each state that is no block's input has a 1x1 convolution of its own, and the cell's output is their sum,
    so that networks can share weights; final: such states are concatenated."""
    drop_path: bool = False
    """Whether a training may drop paths in the cells (ScheduledDropPath); for final networks."""
    auxiliary: bool = False
    """Whether networks have an auxiliary head, which a training may use; for final networks."""

    def __post_init__(self) -> None:
        check_types(self)
        names = self.operations
        if not names or not set(names) <= set(OPERATIONS) or len(set(names)) < len(names):
            known = ", ".join(OPERATIONS)
            raise ValueError(f"`operations` must be one or more different ones of {known}, got {names}")
        for name, least in (("blocks", 1), ("num_cells", 1), ("filters", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        for name in ("drop_path", "auxiliary"):
            if getattr(self, name) and self.network != "final":
                raise ValueError(f"`{name}` is for final networks: `network` must be 'final', got {self.network!r}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "block"

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the choices of both cells, normal before reduction: of each block two states, then two operations.

        A search has 2.6e25 samples. The paper's 1.3e11, (5 * 5!)^4, counts one input and one operation of a block.
        """
        return _cells(self).decisions(completed)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return _cells(self).choice_sizes()

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, of which there is a single sequence."""
        return _cells(self).decisions_of(num_tokens)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the cells that the tokens encode."""
        if self.network == "search":
            return _searched(self, self.gates(tokens))
        return enas.network(
            self.genotype_of(tokens),
            cells=self.num_cells,
            filters=self.filters,
            drop_path=self.drop_path,
            auxiliary=self.auxiliary,
        )

    def genotype_of(self, tokens: Sequence[int]) -> Genotype:
        """Return the cells that the tokens encode.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        return _cells(self).genotype_of(tokens)

    def tokens_of(self, genotype: Genotype) -> Tokens:
        """Return the tokens that encode these cells.

        Raises:
            InvalidTokens: this space does not have these cells; the message says why.
        """
        return _cells(self).tokens_of(genotype)

    def cells(self, num_tokens: int) -> Mapping[str, Sequence[int]]:
        """Return the positions of each cell's tokens."""
        return _cells(self).cells(num_tokens)

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cells as graphs for people, by name."""
        return _cells(self).motifs(tokens)

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the cells as text in each notation of the literature."""
        return {"ENAS": to_enas(self.genotype_of(tokens)), **_cells(self).genotypes(tokens)}

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: no, a cell may have several values as its output."""
        return False

    def supernet(self) -> Architecture:
        """Return the network in which each side of a block has every operation on every state.

        Raises:
            ValueError: the space has final networks, which share no weights.
        """
        check_searches(self.network)
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gates of both cells; the states at a cell's output follow from its blocks."""
        genotype = self.genotype_of(tokens)
        return self._gates("normal", genotype.normal) | self._gates("reduction", genotype.reduction)

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the strongest operation on a state of each side of a block."""
        tokens: list[int] = []
        for cell in ("normal", "reduction"):
            for block in range(1, self.blocks + 1):
                size = (INPUTS + block - 1) * len(self.operations)
                sides = [
                    divmod(strongest(strengths_of(strengths, f"{cell}.{block}{side}", size)), len(self.operations))
                    for side in "ab"
                ]
                tokens += [state for state, _ in sides] + [operation for _, operation in sides]
        return tuple(tokens)

    def _gates(self, name: str, cell: Cell) -> dict[str, tuple[float, ...]]:
        gates: dict[str, tuple[float, ...]] = {}
        count = len(self.operations)
        for number, block in enumerate(cell.blocks, start=1):
            for side, state, operation in zip("ab", block.inputs, block.operations, strict=True):
                chosen = state * count + self.operations.index(operation)
                gates[f"{name}.{number}{side}"] = one_hot(chosen, (INPUTS + number - 1) * count)
        return gates | {f"{name}.output": some_hot(cell.concat, INPUTS + len(cell.blocks))}


DIGITS = EnasMicroSpace(operations=("sep_3x3", "avg_3x3", "max_3x3", "identity"), blocks=3, num_cells=3, filters=8)
"""Of a size for images of 8x8 pixels and a search on a processor."""


@lru_cache(maxsize=64)
def _cells(space: EnasMicroSpace) -> CellSpace:
    """Return the space of the same cells, with the same tokens."""
    return CellSpace(operations=space.operations, combinations=("add",), blocks=space.blocks)


@lru_cache(maxsize=16)
def _supernet(space: EnasMicroSpace) -> Architecture:
    return _searched(space, None)


def _searched(space: EnasMicroSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    return enas.search_network(
        gates, blocks=space.blocks, operations=space.operations, cells=space.num_cells, filters=space.filters
    )
