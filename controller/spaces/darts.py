"""DARTS's space (Liu et al. 2019, arXiv 1806.09055; spec §12.1): two inputs of each block, and an operation on each.

Its states are numbered as in DARTS, which the names of gates have too: 0 is the older input of a cell, 1 the newer one.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.cells import darts
from child_trainer.architectures.cells.cell import INPUTS, Block, Cell, Genotype, motif
from child_trainer.architectures.cells.darts_supernet import CELLS, NODES, NONE, OPERATIONS, gate, search_network
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, Tokens, check_tokens
from controller.spaces.genotypes import exchanged, to_darts
from controller.spaces.supernet import Network, check_searches, one_hot, probabilities, strengths_of, strongest

Pair = tuple[int, int]
"""The states that a block reads, in ascending order."""


@dataclass(frozen=True, kw_only=True)
class DartsSpace:
    """Cells of blocks that each add two different states after an operation on each; all blocks are the output."""

    operations: tuple[str, ...] = OPERATIONS[1:]
    """Operations that a block may apply to a state; in the supernet there is none besides."""
    blocks: int = NODES
    """Blocks of a cell, its intermediate nodes."""
    num_cells: int = 8
    """Cells in all; the reduction cells stand at a third and at two thirds of the depth."""
    filters: int = 16
    """Filters of the first cells, C; each reduction cell doubles them."""
    network: Network = "search"
    """search: batch normalisation follows pools and has weights in the stem only, so that networks can share weights;
    final: as they are trained after the search."""
    drop_path: bool = False
    """Whether a training may drop paths in the cells; for final networks."""
    auxiliary: bool = False
    """Whether networks have an auxiliary head, which a training may use; for final networks."""

    def __post_init__(self) -> None:
        check_types(self)
        names, known = self.operations, OPERATIONS[1:]
        if not names or not set(names) <= set(known) or len(set(names)) < len(names):
            raise ValueError(f"`operations` must be one or more different ones of {', '.join(known)}, got {names}")
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
        """Return the choices of both cells, normal before reduction: of each block its inputs, then two operations.

        The first block has both inputs of the cell.
        """
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, of which there is a single sequence."""
        if num_tokens != len(_choices(self)):
            raise InvalidTokens(
                f"two cells of {self.blocks} blocks take {len(_choices(self))} tokens, got {num_tokens}"
            )
        return _choices(self)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the cells that the tokens encode."""
        if self.network == "search":
            return _searched(self, self.gates(tokens))
        return darts.network(
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
        check_tokens(self.decisions_of(len(tokens)), tokens)
        half = len(tokens) // 2
        return Genotype(self._cell(iter(tokens[:half])), self._cell(iter(tokens[half:])))

    def tokens_of(self, genotype: Genotype) -> Tokens:
        """Return the tokens that encode these cells; the order of a block's two sides does not matter.

        Raises:
            InvalidTokens: this space does not have these cells; the message says why.
        """
        tokens: list[int] = []
        for name, cell in zip(CELLS, (genotype.normal, genotype.reduction), strict=True):
            if len(cell.blocks) != self.blocks or set(cell.concat) != set(range(INPUTS, INPUTS + self.blocks)):
                raise InvalidTokens(
                    f"the {name} cell must have {self.blocks} blocks, all of them its output, got {len(cell.blocks)}"
                    f" blocks and the output {', '.join(map(str, cell.concat))}"
                )
            for number, block in enumerate(cell.blocks, start=1):
                tokens += self._tokens(name, number, block)
        return tuple(tokens)

    def cells(self, num_tokens: int) -> Mapping[str, Sequence[int]]:
        """Return the positions of each cell's tokens."""
        return {"normal": range(num_tokens // 2), "reduction": range(num_tokens // 2, num_tokens)}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cells as graphs for people, by name."""
        genotype = self.genotype_of(tokens)
        return {"normal cell": motif(genotype.normal), "reduction cell": motif(genotype.reduction)}

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the cells as text in DARTS's notation."""
        return {"DARTS": to_darts(self.genotype_of(tokens))}

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: an edge has one operation or none."""
        return True

    def supernet(self) -> Architecture:
        """Return the network in which each edge has every operation.

        Raises:
            ValueError: the space has final networks, which share no weights.
        """
        check_searches(self.network)
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gate of each edge: 1 at its operation, and nothing at an edge that no block has."""
        genotype = self.genotype_of(tokens)
        gates: dict[str, tuple[float, ...]] = {}
        for name, cell in zip(CELLS, (genotype.normal, genotype.reduction), strict=True):
            for target, block in enumerate(cell.blocks, start=INPUTS):
                chosen = dict(zip(map(exchanged, block.inputs), block.operations, strict=True))
                for source in range(target):
                    operation = chosen.get(source)
                    place = len(self._options) if operation is None else self._options.index(operation)
                    gates[gate(name, (source, target))] = one_hot(place, len(self._options))
        return gates

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the two strongest edges of each block, each with its strongest operation (spec §12.3).

        An edge is as strong as the largest probability of one of its operations, of which none is not one.
        """
        tokens: list[int] = []
        for cell in CELLS:
            for target in range(INPUTS, INPUTS + self.blocks):
                edges = [
                    probabilities(strengths_of(strengths, gate(cell, (source, target)), len(self._options)))[1:]
                    for source in range(target)
                ]
                ranked = sorted(range(target), key=lambda source, edges=edges: -max(edges[source]))
                first, second = sorted(ranked[:2])
                if target > INPUTS:
                    tokens.append(_pairs(target).index((first, second)))
                tokens += [strongest(edges[first]), strongest(edges[second])]
        return tuple(tokens)

    @property
    def _options(self) -> tuple[str, ...]:
        """The options of an edge of the supernet."""
        return (NONE, *self.operations)

    def _cell(self, tokens: Iterator[int]) -> Cell:
        blocks: list[Block] = []
        for target in range(INPUTS, INPUTS + self.blocks):
            first, second = _pairs(target)[next(tokens) if target > INPUTS else 0]
            operations = self.operations[next(tokens)], self.operations[next(tokens)]
            blocks.append(Block((exchanged(first), exchanged(second)), operations))
        return Cell(tuple(blocks), tuple(range(INPUTS, INPUTS + self.blocks)))

    def _tokens(self, cell: str, number: int, block: Block) -> Iterator[int]:
        sides = sorted(zip(map(exchanged, block.inputs), block.operations, strict=True))
        (first, one), (second, other) = sides
        if first == second or block.combine != "add" or not {one, other} <= set(self.operations):
            raise InvalidTokens(
                f"block {number} of the {cell} cell must add {' or '.join(self.operations)} of two different states,"
                f" got {block.combine} of {one} of state {first} and {other} of state {second}"
            )
        if number > 1:
            yield _pairs(INPUTS + number - 1).index((first, second))
        yield from (self.operations.index(one), self.operations.index(other))


DIGITS = DartsSpace(operations=("max_3x3", "identity", "sep_3x3", "dil_sep_3x3"), blocks=3, num_cells=3, filters=4)
"""Of a size for images of 8x8 pixels and a search on a processor."""


@lru_cache(maxsize=64)
def _pairs(states: int) -> tuple[Pair, ...]:
    return tuple(itertools.combinations(range(states), 2))


@lru_cache(maxsize=64)
def _choices(space: DartsSpace) -> tuple[Choice, ...]:
    names = ("older", "newer", *(f"block {number}" for number in range(1, space.blocks)))
    choices: list[Choice] = []
    for cell in CELLS:
        for number in range(1, space.blocks + 1):
            pairs = tuple(f"{names[one]} + {names[other]}" for one, other in _pairs(INPUTS + number - 1))
            choices += [Choice(f"{cell}_inputs", pairs, number)] * (number > 1)
            choices += [Choice(f"{cell}_{side}_operation", space.operations, number) for side in ("first", "second")]
    return tuple(choices)


@lru_cache(maxsize=16)
def _supernet(space: DartsSpace) -> Architecture:
    return _searched(space, None)


def _searched(space: DartsSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    return search_network(
        gates, cells=space.num_cells, filters=space.filters, nodes=space.blocks, operations=space._options
    )
