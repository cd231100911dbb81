"""Regularized evolution and its tournament baseline (Real et al. 2019, arXiv 1802.01548; spec §4.2)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.decisions import Tokens
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.history_state import HistoryState
from controller.space import SearchSpace, first_tokens, mutated_tokens


@dataclass(frozen=True)
class Evolution:
    """Proposes mutations of the best of a few members of a population; a child that ends replaces a member.

    Many children can be in training at once: the population depends only on those that have ended, in the order of
    their ends.
    """

    space: SearchSpace
    options: EvolutionOptions

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: evolution learns nothing by gradient."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` children of the present population; the first `options.population` of the search are random."""
        started = view.completed + len(view.pending())
        population = self._population.after(view.history())
        samples = [
            first_tokens(self.space, view.completed, view.rng)
            if started + i < self.options.population or not population
            else propose(population, self.space, self.options, view.rng)
            for i in range(n)
        ]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients: the history has all that evolution learns from."""
        return Update(gradients={}, figures={})

    @cached_property
    def _population(self) -> "Population":
        return Population(self.options)


def propose(
    population: Sequence[ChildRecord], space: SearchSpace, options: EvolutionOptions, rng: random.Random
) -> Tokens:
    """Return a child of the population: a mutation, or sometimes a copy, of the winner of a tournament."""
    parent = max(_tournament(population, options, rng), key=reward_of).tokens
    if rng.random() < options.unchanged:
        return parent
    return mutated_tokens(space, parent, rng)


def population_after(
    child: ChildRecord, population: tuple[ChildRecord, ...], options: EvolutionOptions
) -> tuple[ChildRecord, ...]:
    """Return the population, the oldest member first, after `child` has ended.

    The child joins the population. If that is full, its oldest member or the loser of a tournament is removed, unless
    the population grows. A child without a reward does not join.
    """
    if child.reward is None:
        return population
    if options.dies == "none" or len(population) < options.population:
        return (*population, child)
    if options.dies == "oldest":
        return (*population[1:], child)
    # Seeded by the child that ended, so that every replica removes the same member.
    rng = random.Random(child.outcome.seed if child.outcome else child.id)
    worst = min(_tournament(population, options, rng), key=reward_of)
    return (*(member for member in population if member is not worst), child)


def _tournament(population: Sequence[ChildRecord], options: EvolutionOptions, rng: random.Random) -> list[ChildRecord]:
    """Draw the members that compete, with replacement."""
    return rng.choices(population, k=options.drawn(len(population)))


def reward_of(child: ChildRecord) -> float:
    """Return the reward of a child that the searcher may learn from."""
    assert child.reward is not None, f"child {child.id} has no reward"
    return child.reward


class Population(HistoryState):
    """Caches the population after the last history, so that a longer one costs only its new children."""

    def __init__(self, options: EvolutionOptions) -> None:
        self._options = options
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> tuple[ChildRecord, ...]:
        """Return the population after this history, the oldest member first."""
        self.follow(history)
        return self._members

    def _begin(self) -> None:
        self._members: tuple[ChildRecord, ...] = ()

    def _add(self, child: ChildRecord) -> None:
        self._members = population_after(child, self._members, self._options)
