"""Genomes for tests: random ones, and those of the paper's figure 4."""

import random

from controller.genomes.genome import Genome, Link, random_start
from controller.genomes.innovations import Innovations
from controller.genomes.mutations import MutationOptions, mutate

STRUCTURAL = MutationOptions(add_node=0.4, add_link=0.6)


def grown(seed: int, steps: int = 30, *, recurrent: bool = False) -> Genome:
    """A genome of 3 inputs and 2 outputs after many mutations."""
    rng = random.Random(seed)
    genome = random_start(3, 2, 1.0, rng)
    for _ in range(steps):
        genome = mutate(genome, STRUCTURAL, Innovations.of(genome), rng, recurrent=recurrent).genome
    return genome


PLACES = {1: (0, 3), 2: (1, 3), 3: (2, 3), 4: (1, 4), 5: (4, 3), 6: (4, 5), 7: (5, 3), 8: (0, 4), 9: (2, 4), 10: (0, 5)}
"""What each link of the figure connects (its node 4 is our 3, its nodes 5 and 6 are ours 4 and 5)."""


def parent(numbers: tuple[int, ...], disabled: tuple[int, ...], weight: float) -> Genome:
    links = tuple(Link(number, *PLACES[number], weight, number not in disabled) for number in numbers)
    hidden = sorted({node for number in numbers for node in PLACES[number] if node > 3})
    return Genome(3, 1, tuple(hidden), links)


FIRST = parent((1, 2, 3, 4, 5, 8), disabled=(2,), weight=1.0)
SECOND = parent((1, 2, 3, 4, 5, 6, 7, 9, 10), disabled=(2, 5), weight=-2.0)
"""The parents of figure 4."""
