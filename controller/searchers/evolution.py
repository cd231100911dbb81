"""Regularized evolution and its tournament baseline (Real et al. 2019, arXiv 1802.01548; spec §4.2)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from controller.decisions import Tokens, mutate, uniform
from controller.searcher import Child, ParameterGroup, Proposal, Update, View
from controller.searchers.options import EvolutionOptions
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
        alive = population(view.history(), self.options)
        samples = [
            self._random(view) if begun + i < self.options.population or not alive else self._child(alive, view.rng)
            for i in range(n)
        ]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[Child], view: View) -> Update:
        """Nothing: what has ended is in the history."""
        return Update(gradients={}, figures={})

    def _random(self, view: View) -> Tokens:
        return uniform(self.space.decisions(view.completed), view.rng)

    def _child(self, alive: Sequence[Child], rng: random.Random) -> Tokens:
        parent = max(_drawn(alive, self.options, rng), key=reward_of).proposal.tokens
        if rng.random() < self.options.unchanged:
            return parent
        return mutate(self.space.decisions_of(len(parent)), parent, rng)


def population(history: Sequence[Child], options: EvolutionOptions) -> Sequence[Child]:
    """Who is alive, the oldest first, after the children of `history` have ended in this order."""
    if options.dies == "oldest":
        return history[-options.population :]
    alive: list[Child] = []
    for child in history:
        alive.append(child)
        if len(alive) > options.population:
            # By the seed of the child that ended, so that whoever looks later sees the same one die.
            rng = random.Random(child.outcome.seed if child.outcome else child.id)
            alive.remove(min(_drawn(alive[:-1], options, rng), key=reward_of))
    return alive


def reward_of(child: Child) -> float:
    """What the child was given; all that is in a history has been."""
    assert child.reward is not None, f"child {child.id} has not ended"
    return child.reward


def _drawn(alive: Sequence[Child], options: EvolutionOptions, rng: random.Random) -> list[Child]:
    return rng.choices(alive, k=options.tournament)
