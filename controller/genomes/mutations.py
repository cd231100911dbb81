"""NEAT's mutations (Stanley & Miikkulainen 2002, sections 3.1 and 4.1; spec §15). Standard library only."""

import random
from dataclasses import dataclass, replace
from typing import NamedTuple

from controller.genomes.genome import Genome, Link, origins, single
from controller.genomes.innovations import Innovations

MAX_WEIGHT = 1e6
"""Upper bound for `weight_step`, `new_weight` and `max_weight`: there a neuron is a step function long since."""


@dataclass(frozen=True, kw_only=True)
class MutationOptions:
    """How often which mutation occurs. A genome may have several: its weights first, then a node, then a link."""

    mutate_weights: float = 0.8
    """Probability that the weights of a genome are mutated."""
    perturb_weight: float = 0.9
    """Probability that a weight of such a genome is perturbed; otherwise it is drawn again."""
    weight_step: float = 2.5
    """A weight is perturbed by a number drawn uniformly between minus this and this."""
    new_weight: float = 2.5
    """A weight that is drawn again, or of a new link, is uniform between minus this and this."""
    max_weight: float = 5.0
    """Weights stay between minus this and this. The paper has no limit; without one most neurons saturate."""
    add_node: float = 0.03
    """Probability that a link is split by a new node."""
    add_link: float = 0.05
    """Probability that two nodes are connected by a new link (the paper: 0.3 in a large population)."""
    recurrent_link: float = 0.2
    """Probability that a new link is recurrent, where the space has recurrent networks."""

    def __post_init__(self) -> None:
        for name in ("mutate_weights", "perturb_weight", "add_node", "add_link", "recurrent_link"):
            check_probability(name, getattr(self, name))
        for name in ("weight_step", "new_weight", "max_weight"):
            value = getattr(self, name)
            if not 0 < value <= MAX_WEIGHT:
                raise ValueError(f"`{name}` must be above 0 and at most {MAX_WEIGHT:g}, got {value}")


def check_probability(name: str, value: float) -> None:
    """Raise `ValueError` unless the option is a probability."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be from 0 to 1, got {value}")


class Mutation(NamedTuple):
    """A mutated genome, and what was changed in a few words; no words if nothing was."""

    genome: Genome
    change: str


def mutate(
    genome: Genome, options: MutationOptions, innovations: Innovations, rng: random.Random, *, recurrent: bool = False
) -> Mutation:
    """Return the genome with other weights, then with a new node, then with a new link, each by its probability.

    Args:
        genome: the one to mutate.
        options: the probabilities.
        innovations: those of the generation that is made.
        rng: draws.
        recurrent: whether links may be recurrent.
    """
    changes: list[str] = []
    if rng.random() < options.mutate_weights:
        genome = mutate_weights(genome, options, rng)
        changes.append("weights")
    if rng.random() < options.add_node:
        genome, change = add_node(genome, innovations, rng)
        changes.append(change)
    if rng.random() < options.add_link:
        genome, change = add_link(genome, options, innovations, rng, recurrent=recurrent)
        changes.append(change)
    return Mutation(genome, ", ".join(filter(None, changes)))


def mutate_weights(genome: Genome, options: MutationOptions, rng: random.Random) -> Genome:
    """Return the genome with each weight perturbed or drawn again."""
    links = []
    for link in genome.links:
        if rng.random() < options.perturb_weight:
            weight = link.weight + rng.uniform(-options.weight_step, options.weight_step)
        else:
            weight = rng.uniform(-options.new_weight, options.new_weight)
        weight = min(max(weight, -options.max_weight), options.max_weight)
        links.append(Link(link.innovation, link.source, link.target, single(weight), link.enabled, link.recurrent))
    return replace(genome, links=tuple(links))


def add_node(genome: Genome, innovations: Innovations, rng: random.Random) -> Mutation:
    """Return the genome with a new node on one of its enabled links, drawn uniformly.

    The old link is disabled. The link into the node has the weight 1, and the one out of it the old weight.
    """
    enabled = [link for link in genome.links if link.enabled]
    if not enabled:
        return Mutation(genome, "")
    old = rng.choice(enabled)
    split = innovations.split(old.innovation)
    new = (
        replace(old, enabled=False),
        Link(split.into, old.source, split.node, 1.0, recurrent=old.recurrent),
        Link(split.out_of, split.node, old.target, old.weight),
    )
    kept = [link for link in genome.links if link is not old]
    links = tuple(sorted((*kept, *new), key=lambda link: link.innovation))
    hidden = tuple(sorted((*genome.hidden, split.node)))
    return Mutation(replace(genome, hidden=hidden, links=links), f"node {split.node} on link {old.innovation}")


def add_link(
    genome: Genome, options: MutationOptions, innovations: Innovations, rng: random.Random, *, recurrent: bool = False
) -> Mutation:
    """Return the genome with a new link between two nodes without one, drawn uniformly; as it is if there are none."""
    backward = recurrent and rng.random() < options.recurrent_link
    places = sorted(_free_places(genome, recurrent=backward) - {link.place for link in genome.links})
    if not places:
        return Mutation(genome, "")
    place = rng.choice(places)
    weight = single(rng.uniform(-options.new_weight, options.new_weight))
    link = Link(innovations.link(place), place[0], place[1], weight, recurrent=backward)
    links = tuple(sorted((*genome.links, link), key=lambda each: each.innovation))
    return Mutation(replace(genome, links=links), f"link {place[0]} to {place[1]}{' (recurrent)' if backward else ''}")


def _free_places(genome: Genome, *, recurrent: bool) -> set[tuple[int, int, bool]]:
    """Return where a link may be: a forward one from an input or a hidden node, if it closes no cycle."""
    if recurrent:
        return {(source, target, True) for source in genome.neurons for target in genome.neurons}
    places = {(source, target, False) for source in range(genome.inputs) for target in genome.neurons}
    for source in genome.hidden:
        # A link back to one of these would close a cycle.
        before = origins(genome.links, source)
        places |= {(source, target, False) for target in genome.neurons if target not in before}
    return places
