"""Regularized evolution and its tournament baseline (Real et al. 2019, arXiv 1802.01548; spec §4.2)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.decisions import Tokens, mutate, uniform
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.history_state import Following
from controller.space import SearchSpace


@dataclass(frozen=True)
class Evolution:
    """A child is the mutation of the best of a few that are alive; with its end another one dies.

    Many may be under way at once: who is alive follows from those that have ended, in the order of their ends.
    """

    space: SearchSpace
    options: EvolutionOptions

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Nothing."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """`n` children of one and the same population, or random ones as long as that is not full."""
        begun = view.completed + len(view.pending())
        alive = self._population.after(view.history())
        samples = [
            self._random(view) if begun + i < self.options.population or not alive else self._child(alive, view.rng)
            for i in range(n)
        ]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Nothing: what has ended is in the history."""
        return Update(gradients={}, figures={})

    @cached_property
    def _population(self) -> "Population":
        return Population(self.options)

    def _random(self, view: View) -> Tokens:
        return uniform(self.space.decisions(view.completed), view.rng)

    def _child(self, alive: Sequence[ChildRecord], rng: random.Random) -> Tokens:
        parent = max(_drawn(alive, self.options, rng), key=reward_of).tokens
        if rng.random() < self.options.unchanged:
            return parent
        return mutate(self.space.decisions_of(len(parent)), parent, rng)


class Population(Following):
    """Who is alive after a history."""

    def __init__(self, options: EvolutionOptions) -> None:
        self._options = options
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> Sequence[ChildRecord]:
        """Who is alive, the oldest first, after these children have ended in this order."""
        self.follow(history)
        return tuple(self._alive)

    def _begin(self) -> None:
        self._alive: list[ChildRecord] = []

    def _tell(self, child: ChildRecord) -> None:
        if child.reward is None:
            return
        self._alive.append(child)
        if len(self._alive) <= self._options.population:
            return
        if self._options.dies == "oldest":
            del self._alive[0]
            return
        # By the seed of the child that ended, so that whoever looks later sees the same one die.
        rng = random.Random(child.outcome.seed if child.outcome else child.id)
        self._alive.remove(min(_drawn(self._alive[:-1], self._options, rng), key=reward_of))


def reward_of(child: ChildRecord) -> float:
    """What the child was given, one that the searcher may learn from."""
    assert child.reward is not None, f"child {child.id} has no reward"
    return child.reward


def _drawn(alive: Sequence[ChildRecord], options: EvolutionOptions, rng: random.Random) -> list[ChildRecord]:
    return rng.choices(alive, k=options.tournament)
