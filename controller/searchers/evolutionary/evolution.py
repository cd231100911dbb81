"""Regularized evolution and its tournament baseline (Real et al. 2019, arXiv 1802.01548; spec §4.2)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.decisions import Tokens, mutate, uniform
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.history_state import HistoryState
from controller.space import SearchSpace


@dataclass(frozen=True)
class Evolution:
    """Each child is a mutation of the best of a few that are alive; when it ends, it replaces one of them.

    Many children may be in training at once: the population depends only on those that have ended, in the order of
    their ends.
    """

    space: SearchSpace
    options: EvolutionOptions

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return nothing: it learns nothing by gradient."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` children of the present population, or random ones while that is not full."""
        begun = view.completed + len(view.pending())
        alive = self._population.after(view.history())
        samples = [
            self._random(view) if begun + i < self.options.population or not alive else self._child(alive, view.rng)
            for i in range(n)
        ]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return nothing: what has ended is in the history."""
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


class Population(HistoryState):
    """The children that are alive after a history."""

    def __init__(self, options: EvolutionOptions) -> None:
        self._options = options
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> Sequence[ChildRecord]:
        """Return the children that are alive after this history, the oldest first."""
        self.follow(history)
        return tuple(self._alive)

    def _begin(self) -> None:
        self._alive: list[ChildRecord] = []

    def _add(self, child: ChildRecord) -> None:
        if child.reward is None:
            return
        self._alive.append(child)
        if len(self._alive) <= self._options.population:
            return
        if self._options.dies == "oldest":
            del self._alive[0]
            return
        # Seeded by the child that ended, so that every replica removes the same one.
        rng = random.Random(child.outcome.seed if child.outcome else child.id)
        self._alive.remove(min(_drawn(self._alive[:-1], self._options, rng), key=reward_of))


def reward_of(child: ChildRecord) -> float:
    """Return the reward of a child that the searcher may learn from."""
    assert child.reward is not None, f"child {child.id} has no reward"
    return child.reward


def _drawn(alive: Sequence[ChildRecord], options: EvolutionOptions, rng: random.Random) -> list[ChildRecord]:
    return rng.choices(alive, k=options.tournament)
