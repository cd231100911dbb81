"""Species: genomes that are close to each other share their fitness (spec §15). Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.genomes.genome import Genome
from controller.searchers.neat.distance import distance
from controller.searchers.neat.options import NeatOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Species:
    """A species, as it enters a generation.

    Attributes:
        number: counts species from 1 over the search.
        representative: a genome of the generation before; one that is close to it is of the species.
        best: the highest fitness that it has had.
        improved: the generation of that.
    """

    number: int
    representative: Genome
    best: float
    improved: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """A species within a generation.

    Attributes:
        number: the species' number.
        slots: the places of its genomes in the generation, the fittest first; of equal ones the earlier first.
        best: the highest fitness that it has had, this generation included.
        improved: the generation of that.
    """

    number: int
    slots: tuple[int, ...]
    best: float
    improved: int


def divide(
    genomes: Mapping[int, Genome],
    fitnesses: Mapping[int, float],
    species: Sequence[Species],
    generation: int,
    options: NeatOptions,
    next_number: int,
) -> list[Members]:
    """Return the species of a generation; one that has no genome is extinct.

    Each genome joins the first species whose representative is closer than the threshold; if there is none, it founds
    one.

    Args:
        genomes: by their places in the generation.
        fitnesses: likewise.
        species: those that enter it.
        generation: its number.
        options: the weights of the distance, and the threshold.
        next_number: of the next species that is founded.
    """
    founders = [(known.number, known.representative) for known in species]
    members: dict[int, list[int]] = {}
    for slot, genome in sorted(genomes.items()):
        number = next((n for n, other in founders if distance(genome, other, options) < options.threshold), None)
        if number is None:
            number, next_number = next_number, next_number + 1
            founders.append((number, genome))
        members.setdefault(number, []).append(slot)
    past = {known.number: known for known in species}
    divided = []
    for number, slots in members.items():
        ranked = tuple(sorted(slots, key=lambda slot: (-fitnesses[slot], slot)))
        best, known = fitnesses[ranked[0]], past.get(number)
        if known is not None and known.best >= best:
            divided.append(Members(number=number, slots=ranked, best=known.best, improved=known.improved))
        else:
            divided.append(Members(number=number, slots=ranked, best=best, improved=generation))
    return sorted(divided, key=lambda each: each.number)


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Return whole numbers in proportion to the weights, which sum to `total` (by largest remainders).

    Equal numbers, as far as possible, if all weights are 0.
    """
    if not sum(weights) > 0:
        weights = [1.0] * len(weights)
    exact = [weight / sum(weights) * total for weight in weights]
    whole = [int(number) for number in exact]
    order = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in order[: total - sum(whole)]:
        whole[i] += 1
    return whole
