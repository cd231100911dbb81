"""How different two genomes are (Stanley & Miikkulainen 2002, section 3.3, equation 1; spec §15).

Standard library only.
"""

import itertools
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
    ahead, behind = (first, second) if _last(first) > _last(second) else (second, first)
    end = _last(behind)
    excess = sum(1 for _ in itertools.takewhile(lambda link: link.innovation > end, reversed(ahead.links)))
    return Alignment(
        matching=len(differences),
        disjoint=len(first.links) + len(second.links) - 2 * len(differences) - excess,
        excess=excess,
        weight_difference=sum(differences) / len(differences) if differences else 0.0,
    )


def _last(genome: Genome) -> int:
    return genome.links[-1].innovation


def distance(first: Genome, second: Genome, options: NeatOptions) -> float:
    """Return the compatibility distance: c1 E / N + c2 D / N + c3 W.

    E, D and W are the excess and the disjoint links and the mean difference of weights; N is the number of links in
    the larger genome, or 1 if both are small.
    """
    aligned, size = align(first, second), max(len(first.links), len(second.links))
    divisor = size if size >= SMALL_GENOME else 1
    unmatched = (options.excess_weight * aligned.excess + options.disjoint_weight * aligned.disjoint) / divisor
    return unmatched + options.difference_weight * aligned.weight_difference
