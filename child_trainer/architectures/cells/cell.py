"""A cell as data: blocks that each combine two earlier states, and the states that make up its output.

States are numbered as in NASNet's published code: 0 is the newer input, the output of the cell before; 1 is the older
input, the output of the cell before that one; 2 is the first block's value, and so on. DARTS numbers its two inputs
the other way round. Standard library only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture, Node, node

INPUTS = 2
"""The states that a cell reads: the outputs of the two cells before it."""

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "identity": "the state itself",
        "sep_3x3": "3x3 depthwise-separable convolution, twice",
        "sep_5x5": "5x5 depthwise-separable convolution, twice",
        "sep_7x7": "7x7 depthwise-separable convolution, twice",
        "dil_sep_3x3": "3x3 depthwise-separable convolution with dilation 2",
        "dil_sep_5x5": "5x5 depthwise-separable convolution with dilation 2",
        "dil_conv_3x3": "3x3 convolution with dilation 2",
        "conv_1x1": "1x1 convolution",
        "conv_3x3": "3x3 convolution",
        "conv_1x3_3x1": "1x3, then 3x1 convolution",
        "conv_1x7_7x1": "1x7, then 7x1 convolution",
        "bottleneck_3x3": "3x3 convolution of a quarter of the filters, between 1x1 convolutions",
        "bottleneck_1x7_7x1": "1x7, then 7x1 convolution of a quarter of the filters, between 1x1 convolutions",
        "avg_3x3": "3x3 average pooling",
        "max_2x2": "2x2 maximum pooling",
        "max_3x3": "3x3 maximum pooling",
        "max_5x5": "5x5 maximum pooling",
        "max_7x7": "7x7 maximum pooling",
    }
)
"""Every operation that a block may apply to a state, and what it is."""

COMBINATIONS = ("add", "concat")
"""Ways in which a block may combine its two values."""


class InvalidCell(ValueError):
    """The data does not describe a cell; the message names the block and the rule."""


@dataclass(frozen=True, slots=True)
class Block:
    """Two operations, each on an earlier state, and how their values are combined.

    Attributes:
        inputs: the numbers of the states that it reads.
        operations: the operation on each, one of `OPERATIONS`.
        combine: one of `COMBINATIONS`.
    """

    inputs: tuple[int, int]
    operations: tuple[str, str]
    combine: str = "add"

    def canonical(self) -> "Block":
        """Return the block with its two sides in a fixed order; which side comes first does not matter."""
        sides = sorted(zip(self.inputs, self.operations, strict=True))
        return Block((sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]), self.combine)


@dataclass(frozen=True, slots=True)
class Cell:
    """The blocks of a cell, and the states that are concatenated to its output, in order.

    Raises:
        InvalidCell: a block reads a state that does not come before it, or names an unknown operation.
    """

    blocks: tuple[Block, ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise InvalidCell("a cell must have at least one block, got none")
        for number, block in enumerate(self.blocks, start=1):
            _check_block(block, number)
        count = INPUTS + len(self.blocks)
        if not self.concat or not all(0 <= state < count for state in self.concat):
            states = f"the states 0 to {count - 1}"
            raise InvalidCell(f"a cell of {len(self.blocks)} blocks concatenates some of {states}, got {self.concat}")
        if len(set(self.concat)) < len(self.concat):
            raise InvalidCell(f"a cell concatenates different states, got {self.concat}")

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> "Cell":
        """Return the cell of these blocks whose output has every state that no block reads (spec §3.1)."""
        blocks = tuple(blocks)
        return cls(blocks, unread(blocks))

    def canonical(self) -> "Cell":
        """Return the cell with the two sides of each block in a fixed order (spec §5.1)."""
        return Cell(tuple(block.canonical() for block in self.blocks), self.concat)


@dataclass(frozen=True, slots=True)
class Genotype:
    """The two cells that a network is made of; the reduction cell halves the image."""

    normal: Cell
    reduction: Cell


def unread(blocks: Sequence[Block]) -> tuple[int, ...]:
    """Return the numbers of the states that none of these blocks reads."""
    read = {state for block in blocks for state in block.inputs}
    return tuple(state for state in range(INPUTS + len(blocks)) if state not in read)


def _check_block(block: Block, number: int) -> None:
    states = INPUTS + number - 1
    for state in block.inputs:
        if not 0 <= state < states:
            raise InvalidCell(f"block {number} may read the states 0 to {states - 1}, got {state}")
    for operation in block.operations:
        if operation not in OPERATIONS:
            raise InvalidCell(
                f"block {number} has the unknown operation {operation!r}; there are {', '.join(OPERATIONS)}"
            )
    if block.combine not in COMBINATIONS:
        raise InvalidCell(f"block {number} combines by {' or '.join(COMBINATIONS)}, got {block.combine!r}")


def motif(cell: Cell) -> Architecture:
    """Return the cell as a graph for people, in which each operation is one node named as in the papers."""
    names = ["newer", "older"]
    nodes: list[Node] = []
    for number, block in enumerate(cell.blocks, start=1):
        sides = []
        for side, state, operation in zip("ab", block.inputs, block.operations, strict=True):
            if operation == "identity":
                sides.append(names[state])
                continue
            sides.append(f"{number}{side}")
            nodes.append(node(sides[-1], "part", names[state], label=operation.replace("_", " ")))
        nodes.append(node(f"block {number}", block.combine, sides))
        names.append(f"block {number}")
    nodes.append(node("output", "concat", [names[state] for state in cell.concat]))
    return Architecture("cell", tuple(nodes), ("output",))
