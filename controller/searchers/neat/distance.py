"""How different two genomes are (Stanley & Miikkulainen 2002, section 3.3, equation 1; spec §15).

Standard library only.
"""

from bisect import bisect_right
from dataclasses import dataclass

from controller.genomes.genome import Genome
from controller.searchers.neat.options import NeatOptions

SMALL_GENOME = 20
"""Genes below which a genome counts as small: between two small ones the number of genes is no divisor."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two genomes aligned by their innovation numbers.

    Attributes:
        matching: links of both.
        disjoint: links of one, with a number within the range of the other's.
        excess: links of one, with a number beyond the other's last.
        weight_difference: the mean absolute difference of the matching links' weights; 0 without any.
    """

    matching: int
    disjoint: int
    excess: int
    weight_difference: float


def align(first: Genome, second: Genome) -> Alignment:
    """Return how many links of two genomes match, and how many do not."""
    theirs = second.by_innovation
    differences = [abs(x.weight - theirs[x.innovation].weight) for x in first.links if x.innovation in theirs]
    common_end = min(genome.links[-1].innovation if genome.links else 0 for genome in (first, second))
    excess = _num_beyond(first, common_end) + _num_beyond(second, common_end)
    return Alignment(
        matching=len(differences),
        disjoint=len(first.links) + len(second.links) - 2 * len(differences) - excess,
        excess=excess,
        weight_difference=sum(differences) / len(differences) if differences else 0.0,
    )


def _num_beyond(genome: Genome, number: int) -> int:
    """Return how many links have a greater innovation number."""
    return len(genome.links) - bisect_right(genome.links, number, key=lambda link: link.innovation)


def distance(first: Genome, second: Genome, options: NeatOptions) -> float:
    """Return the compatibility distance: c1 E / N + c2 D / N + c3 W.

    E, D and W are the excess and the disjoint links and the mean difference of weights; N is the number of links in
    the larger genome, or 1 if both are small.
    """
    aligned, size = align(first, second), max(len(first.links), len(second.links))
    divisor = size if size >= SMALL_GENOME else 1
    unmatched = (options.excess_weight * aligned.excess + options.disjoint_weight * aligned.disjoint) / divisor
    return unmatched + options.difference_weight * aligned.weight_difference
