"""Crossover of two genomes (Stanley & Miikkulainen 2002, section 3.2, figure 4; spec §15). Standard library only."""

import random
from collections.abc import Sequence
from dataclasses import replace

from controller.genomes.genome import Genome, Link, reaches


def crossover(
    first: Genome, second: Genome, fitnesses: tuple[float, float], stays_disabled: float, rng: random.Random
) -> Genome:
    """Return a child of two genomes, whose links are aligned by their innovation numbers.

    A matching link comes from either parent. A disjoint or excess one comes from the fitter parent. Of equally fit
    parents each of these is inherited or not, at random; one that would take a place or close a cycle with those
    inherited before it is left out.

    Args:
        first, second: the parents.
        fitnesses: theirs.
        stays_disabled: the probability that a link is disabled in the child if it is in either parent.
        rng: draws.
    """
    if fitnesses[1] > fitnesses[0]:
        first, second = second, first
    ours, theirs = first.by_innovation, second.by_innovation
    equal = fitnesses[0] == fitnesses[1] and ours.keys() != theirs.keys()
    links: list[Link] = []
    for number in sorted(ours.keys() | theirs.keys()) if equal else ours:
        both = [link for link in (ours.get(number), theirs.get(number)) if link]
        if equal and (not _fits(both[0], links) or (len(both) == 1 and rng.random() < 0.5)):
            continue
        disabled = not all(link.enabled for link in both) and rng.random() < stays_disabled
        link = rng.choice(both)
        links.append(link if link.enabled is not disabled else replace(link, enabled=not disabled))
    return Genome(first.inputs, first.outputs, _hidden_nodes(first, links), tuple(links))


def _fits(link: Link, links: Sequence[Link]) -> bool:
    """Return whether the place is free, and the link closes no cycle with the others."""
    if any(link.place == other.place for other in links):
        return False
    return link.recurrent or not reaches(links, link.target, link.source)


def _hidden_nodes(genome: Genome, links: Sequence[Link]) -> tuple[int, ...]:
    """Return the hidden nodes that the links connect."""
    nodes = {node for link in links for node in (link.source, link.target)}
    return tuple(sorted(node for node in nodes if node >= genome.inputs + genome.outputs))
