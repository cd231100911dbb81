"""Cells as arcs of ENAS's micro space, and back (Pham et al. 2018; spec §6.2). Standard library only.

An arc has four numbers for each block of a cell: the first input, its operation, the second input, its operation. Input
0 is the older one and 1 the newer one, the reverse of our numbers.
"""

from child_trainer.architectures.cells.cell import Block, Cell, Genotype
from controller.spaces.genotypes import InvalidGenotype, exchanged

OPERATIONS = ("sep_3x3", "sep_5x5", "avg_3x3", "max_3x3", "identity")
"""The operation of each number in ENAS's code."""


def from_enas(normal: str, reduction: str) -> Genotype:
    """Return the cells of two arcs of ENAS's micro space, numbers as in `0 2 0 0 0 4 0 1` (spec §6.2).

    Raises:
        InvalidGenotype: they have not four numbers for each block, or one that is out of range.
    """
    return Genotype(_enas_cell("normal", normal), _enas_cell("reduction", reduction))


def to_enas(genotype: Genotype) -> str:
    """Return the cells as two arcs of ENAS's micro space, the normal cell's in the first line.

    Raises:
        InvalidGenotype: a block concatenates, or has an operation that ENAS lacks.
    """
    lines = []
    for name, cell in (("normal", genotype.normal), ("reduction", genotype.reduction)):
        numbers: list[int] = []
        for number, block in enumerate(cell.blocks, start=1):
            if block.combine != "add" or not set(block.operations) <= set(OPERATIONS):
                raise InvalidGenotype(
                    f"ENAS's cells add values of {', '.join(OPERATIONS)}, but block {number} of the {name} cell"
                    f" has {', '.join((block.combine, *block.operations))}"
                )
            for state, operation in zip(block.inputs, block.operations, strict=True):
                numbers += [exchanged(state), OPERATIONS.index(operation)]
        lines.append(" ".join(map(str, numbers)))
    return "\n".join(lines)


def _enas_cell(name: str, arc: str) -> Cell:
    words = arc.split()
    if len(words) % 4 or not all(word.isdecimal() for word in words):
        raise InvalidGenotype(f"the {name} arc has four numbers for each block, got {arc!r}")
    numbers = [int(word) for word in words]
    if wrong := [number for number in numbers[1::2] if number >= len(OPERATIONS)]:
        raise InvalidGenotype(f"an operation of the {name} arc is at most {len(OPERATIONS) - 1}, got {wrong[0]}")
    blocks = [
        Block((exchanged(one), exchanged(other)), (OPERATIONS[first], OPERATIONS[second]))
        for one, first, other, second in zip(*(numbers[i::4] for i in range(4)), strict=True)
    ]
    return Cell.of(blocks)
