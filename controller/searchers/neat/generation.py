"""One generation of NEAT from the one before: a pure function of genomes, fitnesses and a seed (spec §15).

Standard library only.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.genomes.genome import Genome
from controller.genomes.innovations import Innovations
from controller.genomes.mutations import Mutation, mutate
from controller.searchers.neat.crossover import crossover
from controller.searchers.neat.options import NeatOptions
from controller.searchers.neat.species import Members, Species, divide, shares

REFOCUS_SPECIES = 2
"""Species that have offspring when the whole population has not improved for long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evolved:
    """What a search knows beside the genomes of the present generation.

    Attributes:
        generation: the number of the present generation, from 0.
        species: those that enter it.
        best: the highest fitness of the search; `None` before the first.
        improved: the generation of that.
        next_link, next_node, next_species: the first numbers that were never given.
    """

    generation: int
    species: tuple[Species, ...]
    best: float | None
    improved: int
    next_link: int
    next_node: int
    next_species: int


@dataclass(frozen=True, slots=True)
class Offspring:
    """A genome of the next generation.

    Attributes:
        genome: the genome.
        species: the number of its parents' species.
        parents: their places in the generation before.
        change: how it differs from them, in a few words.
    """

    genome: Genome
    species: int
    parents: tuple[int, ...]
    change: str


def beginning(genome: Genome) -> Evolved:
    """Return what is known before the first generation; any of its genomes gives the first free numbers."""
    first = Innovations.of(genome)
    return Evolved(
        generation=0,
        species=(),
        best=None,
        improved=0,
        next_link=first.next_link,
        next_node=first.next_node,
        next_species=1,
    )


def next_generation(
    evolved: Evolved,
    genomes: Mapping[int, Genome],
    fitnesses: Mapping[int, float],
    options: NeatOptions,
    rng: random.Random,
    *,
    recurrent: bool = False,
) -> tuple[Evolved, tuple[Offspring, ...]]:
    """Return the next generation.

    Args:
        evolved: what is known of the search up to the present generation.
        genomes: the present generation by place, those without a fitness left out; at least one.
        fitnesses: likewise.
        options: NEAT's.
        rng: draws; two that are seeded alike make the same generation.
        recurrent: whether links may be recurrent.
    """
    generation = evolved.generation
    members = divide(genomes, fitnesses, evolved.species, generation, options, evolved.next_species)
    best = max(fitnesses.values())
    improves = evolved.best is None or best > evolved.best
    refocuses = not improves and generation - evolved.improved >= options.population_patience
    breeding = _refocused(members) if refocuses else _breeding(members, fitnesses, generation, options)
    innovations = Innovations(evolved.next_link, evolved.next_node)
    offspring = _Breeder(genomes, fitnesses, breeding, options, innovations, rng, recurrent).offspring()
    now = {each.number: generation for each in breeding} if refocuses else {}
    species = tuple(
        Species(
            number=each.number,
            representative=genomes[rng.choice(each.slots)],
            best=each.best,
            improved=now.get(each.number, each.improved),
        )
        for each in members
    )
    following = Evolved(
        generation=generation + 1,
        species=species,
        best=best if improves else evolved.best,
        improved=generation if improves or refocuses else evolved.improved,
        next_link=innovations.next_link,
        next_node=innovations.next_node,
        next_species=max(evolved.next_species, *(each.number + 1 for each in members)),
    )
    return following, offspring


def _refocused(members: Sequence[Members]) -> list[Members]:
    """Return the species whose best have been the fittest."""
    ranked = sorted(members, key=lambda each: (-each.best, each.number))
    return sorted(ranked[:REFOCUS_SPECIES], key=lambda each: each.number)


def _breeding(
    members: Sequence[Members], fitnesses: Mapping[int, float], generation: int, options: NeatOptions
) -> list[Members]:
    """Return the species that have improved of late, and the one with the fittest genome of the generation.

    The paper does not say what becomes of the best species when it stagnates. It is kept, so that the rule for the
    whole population, which waits longer, finds it.
    """
    champion = max(members, key=lambda each: (fitnesses[each.slots[0]], -each.number))
    return [each for each in members if each is champion or generation - each.improved < options.species_patience]


@dataclass(frozen=True, slots=True)
class _Breeder:
    """Makes the offspring of one generation."""

    genomes: Mapping[int, Genome]
    fitnesses: Mapping[int, float]
    species: Sequence[Members]
    options: NeatOptions
    innovations: Innovations
    rng: random.Random
    recurrent: bool

    def offspring(self) -> tuple[Offspring, ...]:
        """Return as many as the population has; a species has its share of the shared fitness of all."""
        # Fitness sharing divides a genome's fitness by its species' size; a species' sum is then its mean fitness.
        lowest = min(0.0, *self.fitnesses.values())
        means = [sum(self.fitnesses[slot] - lowest for slot in each.slots) / len(each.slots) for each in self.species]
        made: list[Offspring] = []
        for each, count in zip(self.species, shares(means, self.options.population), strict=True):
            made += self._offspring_of(each, count)
        return tuple(made)

    def _offspring_of(self, members: Members, count: int) -> list[Offspring]:
        champion = members.slots[0]
        made: list[Offspring] = []
        if count and len(members.slots) > self.options.champion_size:
            made.append(Offspring(self.genomes[champion], members.number, (champion,), "champion"))
        return made + [self._child(members) for _ in range(count - len(made))]

    def _child(self, members: Members) -> Offspring:
        first = self.rng.choice(self._parents(members))
        if self.rng.random() < self.options.mutation_only:
            mutated = self._mutated(self.genomes[first])
            return Offspring(mutated.genome, members.number, (first,), mutated.change or "copy")
        second = self.rng.choice(self._parents(self._partners(members)))
        crossed = crossover(
            self.genomes[first],
            self.genomes[second],
            (self.fitnesses[first], self.fitnesses[second]),
            self.options.stays_disabled,
            self.rng,
        )
        mutated = self._mutated(crossed)
        change = f"crossover, {mutated.change}" if mutated.change else "crossover"
        return Offspring(mutated.genome, members.number, tuple(dict.fromkeys((first, second))), change)

    def _mutated(self, genome: Genome) -> Mutation:
        return mutate(genome, self.options, self.innovations, self.rng, recurrent=self.recurrent)

    def _parents(self, members: Members) -> tuple[int, ...]:
        """Return the fittest of a species, at least one."""
        return members.slots[: max(1, round(self.options.survival * len(members.slots)))]

    def _partners(self, members: Members) -> Members:
        """Return the species of the second parent, rarely another one."""
        others = [each for each in self.species if each is not members]
        return self.rng.choice(others) if others and self.rng.random() < self.options.interspecies else members
