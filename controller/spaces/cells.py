"""The cells of NASNet, AmoebaNet and PNAS: one space with three sets of constants (spec §3.1, §4.1, §5.1).

A cell is a sequence of blocks. Each block chooses two earlier states, an operation on each, and how to combine the two
values; states that no block reads are the cell's output. A network of fixed shape is made of copies of the cells.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.cells.cell import COMBINATIONS, INPUTS, OPERATIONS, Block, Cell, Genotype, motif
from child_trainer.architectures.cells.nasnet import Macro, network
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, Tokens, check_tokens
from controller.limits import MAX_CELLS, check_number
from controller.spaces.genotypes import InvalidGenotype, to_darts, to_nasnet

MAX_BLOCKS = 50
"""Upper bound for `blocks`; a network of larger cells takes minutes to build."""

NASNET_OPERATIONS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_3x3",
    "max_3x3",
    "max_5x5",
    "max_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_3x3",
    "sep_5x5",
    "sep_7x7",
)
"""NASNet's 13 operations, in the paper's order (spec §3.1)."""

AMOEBANET_OPERATIONS = (
    "identity",
    "sep_3x3",
    "sep_5x5",
    "sep_7x7",
    "avg_3x3",
    "max_3x3",
    "dil_sep_3x3",
    "bottleneck_1x7_7x1",
)
"""AmoebaNet's 8 operations (spec §4.1)."""

PNAS_OPERATIONS = (
    "identity",
    "sep_3x3",
    "sep_5x5",
    "sep_7x7",
    "conv_1x7_7x1",
    "avg_3x3",
    "max_3x3",
    "dil_conv_3x3",
)
"""PNAS's 8 operations (spec §5.1)."""


@dataclass(frozen=True, kw_only=True)
class CellSpace:
    """Cells of blocks that each combine two earlier states; a network of fixed shape is made of copies of them."""

    operations: tuple[str, ...] = NASNET_OPERATIONS
    """Operations that a block may apply to a state."""
    combinations: tuple[str, ...] = COMBINATIONS
    """Ways in which a block may combine its two values: add, concat; a single one is fixed."""
    blocks: int = 5
    """Blocks of a cell."""
    reduction_cell: bool = True
    """Whether the cell that halves the image is chosen apart; if not, it is the same cell with stride 2, and a cell
    may have fewer blocks."""
    cells_per_stage: int = 2
    """Normal cells in each of the three stages, N; a single cell's reductions are among them."""
    filters: int = 32
    """Filters of the first stage's cells, F; each later stage has twice as many."""
    macro: Macro = "cifar"
    """The network around the cells: cifar has a 3x3 convolution before them, imagenet-mobile and imagenet-large have
    one with stride 2 and two reduction cells."""
    drop_path: bool = False
    """Whether a training may drop paths in the cells (ScheduledDropPath)."""
    auxiliary: bool = False
    """Whether networks have an auxiliary head, which a training may use."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, known in (("operations", tuple(OPERATIONS)), ("combinations", COMBINATIONS)):
            values = getattr(self, name)
            if not values or not set(values) <= set(known) or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must be one or more different ones of {', '.join(known)}, got {values}")
        check_number(self, "blocks", 1, MAX_BLOCKS)
        check_number(self, "cells_per_stage", 1, MAX_CELLS)
        # Half of a cell's filters must be at least one, and ImageNet's first cells have a quarter of F.
        least = 2 if self.macro == "cifar" else 8
        if self.filters < least:
            raise ValueError(f"`filters` must be at least {least}, got {self.filters}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "block"

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the choices of the whole cells, normal before reduction; they are the same throughout a search."""
        return _choices(self, self.blocks)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self, self.blocks)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions that take this many tokens: of all blocks, or of a smaller cell if there is one cell."""
        for blocks in range(self.blocks if self.reduction_cell else 1, self.blocks + 1):
            choices = _choices(self, blocks)
            if len(choices) == num_tokens:
                return choices
        width = self._tokens_per_block
        if self.reduction_cell:
            raise InvalidTokens(
                f"two cells of {self.blocks} blocks take {2 * width * self.blocks} tokens, got {num_tokens}"
            )
        raise InvalidTokens(
            f"a cell takes {width} tokens for each of its 1 to {self.blocks} blocks, got {num_tokens} tokens"
        )

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the cells that the tokens encode."""
        return network(
            self.genotype_of(tokens),
            cells_per_stage=self.cells_per_stage,
            filters=self.filters,
            macro=self.macro,
            reduce_in_place=not self.reduction_cell,
            drop_path=self.drop_path,
            auxiliary=self.auxiliary,
        )

    def genotype_of(self, tokens: Sequence[int]) -> Genotype:
        """Return the cells that the tokens encode; a single one stands for both.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        choices = self.decisions_of(len(tokens))
        check_tokens(choices, tokens)
        width = self._tokens_per_block
        blocks = [self._block(tokens[start : start + width]) for start in range(0, len(tokens), width)]
        if not self.reduction_cell:
            cell = Cell.of(blocks)
            return Genotype(cell, cell)
        return Genotype(Cell.of(blocks[: self.blocks]), Cell.of(blocks[self.blocks :]))

    def tokens_of(self, genotype: Genotype) -> Tokens:
        """Return the tokens that encode these cells.

        Raises:
            InvalidTokens: this space does not have these cells; the message says why.
        """
        cells = {"normal": genotype.normal, "reduction": genotype.reduction}
        if not self.reduction_cell:
            if genotype.normal != genotype.reduction:
                raise InvalidTokens("this space has one cell, but the normal and the reduction cell differ")
            cells = {"": genotype.normal}
        tokens: list[int] = []
        for name, cell in cells.items():
            self._check_cell(f"the {name} cell".replace("  ", " "), cell)
            tokens += [token for block in cell.blocks for token in self._tokens(block)]
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return tuple(tokens)

    def canonical(self, tokens: Sequence[int]) -> Tokens:
        """Return the tokens of the same cells with the two sides of each block in a fixed order (spec §5.1)."""
        genotype = self.genotype_of(tokens)
        return self.tokens_of(Genotype(genotype.normal.canonical(), genotype.reduction.canonical()))

    def cells(self, num_tokens: int) -> Mapping[str, Sequence[int]]:
        """Return the positions of each cell's tokens."""
        if not self.reduction_cell:
            return {"cell": range(num_tokens)}
        return {"normal": range(num_tokens // 2), "reduction": range(num_tokens // 2, num_tokens)}

    def parts(self, number: int) -> Sequence[Tokens]:
        """Return the different blocks that can be a cell's `number`-th, from 1; none if there is a reduction cell.

        Of two blocks with their sides exchanged it has one (spec §5.1).
        """
        if self.reduction_cell or not 1 <= number <= self.blocks:
            return ()
        states, operations = range(INPUTS + number - 1), range(len(self.operations))
        sides = list(itertools.product(states, operations))
        pairs = itertools.combinations_with_replacement(sides, 2)
        blocks = [(first[0], second[0], first[1], second[1]) for first, second in pairs]
        if len(self.combinations) == 1:
            return blocks
        return [(*block, combination) for block in blocks for combination in range(len(self.combinations))]

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cells as graphs for people, by name."""
        genotype = self.genotype_of(tokens)
        if not self.reduction_cell:
            return {"cell": motif(genotype.normal)}
        return {"normal cell": motif(genotype.normal), "reduction cell": motif(genotype.reduction)}

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the cells as text in each notation of the literature that can express them."""
        genotype, texts = self.genotype_of(tokens), {}
        for notation, write in (("DARTS", to_darts), ("NASNet", to_nasnet)):
            with suppress(InvalidGenotype):
                texts[notation] = write(genotype)
        return texts

    @property
    def _tokens_per_block(self) -> int:
        return 4 + (len(self.combinations) > 1)

    def _block(self, tokens: Sequence[int]) -> Block:
        first, second, one, other, *combination = tokens
        combine = self.combinations[combination[0] if combination else 0]
        return Block((first, second), (self.operations[one], self.operations[other]), combine)

    def _tokens(self, block: Block) -> Iterator[int]:
        yield from block.inputs
        yield from map(self.operations.index, block.operations)
        if len(self.combinations) > 1:
            yield self.combinations.index(block.combine)

    def _check_cell(self, name: str, cell: Cell) -> None:
        if self.reduction_cell and len(cell.blocks) != self.blocks:
            raise InvalidTokens(f"{name} must have {self.blocks} blocks, got {len(cell.blocks)}")
        if (usual := Cell.of(cell.blocks).concat) != tuple(sorted(cell.concat)):
            raise InvalidTokens(
                f"{name} of this space concatenates the states that no block reads, {_listed(usual)}, got"
                f" {_listed(cell.concat)}"
            )
        if wrong := {block.combine for block in cell.blocks} - set(self.combinations):
            raise InvalidTokens(f"{name} combines by {' or '.join(self.combinations)}, got {', '.join(sorted(wrong))}")
        used = {operation for block in cell.blocks for operation in block.operations}
        if wrong := used - set(self.operations):
            raise InvalidTokens(f"{name} uses some of {', '.join(self.operations)}, got {', '.join(sorted(wrong))}")


@dataclass(frozen=True, kw_only=True)
class NasNetSpace(CellSpace):
    """NASNet's cells (Zoph et al. 2018): 13 operations, sums or concatenations, and a reduction cell of its own."""


@dataclass(frozen=True, kw_only=True)
class AmoebaNetSpace(CellSpace):
    """AmoebaNet's cells (Real et al. 2019): 8 operations, sums only, and a reduction cell of its own."""

    operations: tuple[str, ...] = AMOEBANET_OPERATIONS
    combinations: tuple[str, ...] = ("add",)
    cells_per_stage: int = 3
    filters: int = 24


@dataclass(frozen=True, kw_only=True)
class PnasSpace(CellSpace):
    """PNAS's cells (Liu et al. 2018): 8 operations, sums only, and one cell of up to five blocks."""

    operations: tuple[str, ...] = PNAS_OPERATIONS
    combinations: tuple[str, ...] = ("add",)
    reduction_cell: bool = False
    filters: int = 24


@lru_cache(maxsize=256)
def _choices(space: CellSpace, blocks: int) -> tuple[Choice, ...]:
    """Return the choices of cells of so many blocks; their places are the blocks, numbered from 1."""
    return tuple(
        choice
        for cell in (("normal_", "reduction_") if space.reduction_cell else ("",))
        for place in range(1, blocks + 1)
        for choice in _block_choices(space, cell, place)
    )


def _block_choices(space: CellSpace, cell: str, place: int) -> Iterator[Choice]:
    states = ("newer", "older", *(f"block {earlier}" for earlier in range(1, place)))
    yield Choice(f"{cell}first_input", states, place)
    yield Choice(f"{cell}second_input", states, place)
    yield Choice(f"{cell}first_operation", space.operations, place)
    yield Choice(f"{cell}second_operation", space.operations, place)
    if len(space.combinations) > 1:
        yield Choice(f"{cell}combination", space.combinations, place)


def _listed(states: Sequence[int]) -> str:
    return ", ".join(map(str, states))
