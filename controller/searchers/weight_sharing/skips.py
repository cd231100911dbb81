"""How many skip connections an architecture of a supernet has, by which the collapse of DARTS is known.

Skip connections learn nothing, and are favoured the more the longer the strengths are trained; DARTS+ (Liang et al.
2019, arXiv 1909.06035, section 3.2) ends a search once the normal cell has two. Standard library only.
"""

from collections.abc import Mapping, Sequence

from child_trainer.architectures.cells.darts_supernet import CELLS
from controller.searchers.weight_sharing.option_names import NONE, SKIPS

NORMAL, REDUCTION = CELLS


def connections(
    gates: Mapping[str, Sequence[float]], names: Mapping[str, Sequence[str]], *, reduction: bool = True
) -> list[str]:
    """Return the names of an architecture's connections, one for each option that is chosen and is not `none`.

    Args:
        gates: the architecture's, by name.
        names: of the options of each gate.
        reduction: whether to count reduction cells, which most spaces do not have.
    """
    return [
        name
        for gate, vector in gates.items()
        if reduction or gate.partition(".")[0] != REDUCTION
        for name, on in zip(names[gate], vector, strict=True)
        if on and name != NONE
    ]


def num_skips(connections: Sequence[str]) -> int:
    """Return how many of the connections are skip connections."""
    return sum(name in SKIPS for name in connections)
