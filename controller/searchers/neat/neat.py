"""NEAT, NeuroEvolution of Augmenting Topologies (Stanley & Miikkulainen 2002; spec §15)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from controller.genomes.genome import Genome
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.history_state import HistoryState
from controller.searchers.neat.generation import Evolved, Offspring, beginning, next_generation
from controller.searchers.neat.options import NeatOptions
from controller.space import SearchSpace
from controller.spaces.checks import space_words
from controller.spaces.genomes import GenomeSpace


@dataclass(frozen=True)
class Neat:
    """Proposes a generation of genomes, waits for it, and makes the next one of it.

    A generation is as many consecutive children as the population has. Everything about the next one follows from
    their genomes, their rewards and the seed of the first of them, so that every replica makes the same one.
    """

    space: SearchSpace
    options: NeatOptions
    exclusive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.space, GenomeSpace):
            raise ValueError(
                f"the searcher 'neat' evolves networks with their weights: use the space 'genomes', got"
                f" {space_words(self.space)}"
            )

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: NEAT learns nothing by gradient."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return up to `n` children of the present generation; none until the generation before has ended.

        None either once a generation has solved the task, if the search ends with that.
        """
        history = view.history()
        started = len(history) + len(view.pending())
        search = self._search.after(history)
        generation, slot = divmod(started, self.options.population)
        if generation > search.evolved.generation or (search.solved and self.options.stop_when_solved):
            return []
        count = min(n, self.options.population - slot)
        if generation == 0 or not search.offspring:
            return [self._first(generation, view) for _ in range(count)]
        return [self._proposal(child, search) for child in search.offspring[slot : slot + count]]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients, and the numbers of the search so far."""
        return Update(gradients={}, figures=self._search.after(view.history()).figures())

    def _first(self, generation: int, view: View) -> Proposal:
        tokens = self._genomes.first(view.completed, view.rng)
        notes = {"generation": generation}
        return Proposal(tokens=tokens, architecture=self.space.decode(tokens), notes=notes)

    def _proposal(self, child: Offspring, search: "Search") -> Proposal:
        notes = {
            "generation": search.evolved.generation,
            "species": child.species,
            "parent": search.id_of(child.parents[0]),
            "change": child.change,
        }
        if len(child.parents) > 1:
            notes["other_parent"] = search.id_of(child.parents[1])
        tokens = child.genome.to_tokens()
        return Proposal(tokens=tokens, architecture=self._genomes.network(child.genome), notes=notes)

    @property
    def _genomes(self) -> GenomeSpace:
        assert isinstance(self.space, GenomeSpace)
        return self.space

    @cached_property
    def _search(self) -> "Search":
        return Search(self._genomes, self.options)


class Search(HistoryState):
    """The generations that have ended, and the offspring of the last one.

    Attributes:
        evolved: what is known before the present generation.
        offspring: the present generation; none in the first, and after a generation without any reward.
        solved: whether a generation that has ended has a network that solves the task.
    """

    def __init__(self, space: GenomeSpace, options: NeatOptions) -> None:
        self._space, self._options = space, options
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> "Search":
        """Return itself, brought up to this history."""
        self.follow(history)
        return self

    def id_of(self, slot: int) -> int:
        """Return the id of a child of the generation before the present one."""
        return (self.evolved.generation - 1) * self._options.population + slot + 1

    def figures(self) -> dict[str, float]:
        """Return the numbers of the search so far."""
        figures = {"generation": float(self.evolved.generation), "species": float(len(self.evolved.species))}
        if self._best is None or self._best.reward is None:
            return figures
        genome = self._space.genome(self._best.tokens)
        enabled = sum(link.enabled for link in genome.links)
        sizes = {"hidden_nodes": float(len(genome.hidden)), "links": float(enabled)}
        return figures | {"best_fitness": self._best.reward} | sizes

    def _begin(self) -> None:
        self.evolved: Evolved = beginning(self._space.genome(()))
        self.offspring: tuple[Offspring, ...] = ()
        self.solved = False
        self._best: ChildRecord | None = None
        self._members: dict[int, ChildRecord] = {}

    def _add(self, child: ChildRecord) -> None:
        # By its id, and not by the order in which the children of a generation end.
        self._members[(child.id - 1) % self._options.population] = child
        if child.reward is not None and (self._best is None or self._rank(child) > self._rank(self._best)):
            self._best = child
        if len(self._members) == self._options.population:
            self._end_generation()

    @staticmethod
    def _rank(child: ChildRecord) -> tuple[bool, float, int]:
        """Return what the best child has most of: it solves the task, its reward is high, it began early."""
        solved = child.outcome is not None and child.outcome.solved
        return solved, child.reward if child.reward is not None else 0.0, -child.id

    def _end_generation(self) -> None:
        members, self._members = self._members, {}
        self.solved = self.solved or any(child.outcome and child.outcome.solved for child in members.values())
        fitnesses = {slot: child.reward for slot, child in sorted(members.items()) if child.reward is not None}
        if not fitnesses:
            # Nothing to breed from: the next generation is drawn as the first one was.
            self.evolved, self.offspring = _without_species(self.evolved), ()
            return
        genomes: dict[int, Genome] = {slot: self._space.genome(members[slot].tokens) for slot in fitnesses}
        first = members[0]
        # Seeded by a child of the generation, so that every replica makes the same next one.
        rng = random.Random(first.outcome.seed if first.outcome else first.id)
        self.evolved, self.offspring = next_generation(
            self.evolved, genomes, fitnesses, self._options, rng, recurrent=self._space.recurrent
        )


def _without_species(evolved: Evolved) -> Evolved:
    return replace(evolved, generation=evolved.generation + 1, species=())
