"""Local search: climb to a better neighbour until there is none, then start anew (White et al. 2021; spec §4.6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from controller.decisions import Decisions, Tokens, neighbours, uniform
from controller.searcher import Child, ParameterGroup, Proposal, Update, View
from controller.searchers.evolution import reward_of
from controller.searchers.options import LocalSearchOptions
from controller.space import SearchSpace


@dataclass(frozen=True)
class LocalSearch:
    """Tries the neighbours of where it stands, in random order, and moves on to the first that is better."""

    space: SearchSpace
    options: LocalSearchOptions

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Nothing."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Up to `n` neighbours that were never asked for; random architectures where there are no more."""
        history, pending = view.history(), view.pending()
        begun = view.completed + len(pending)
        starts = max(0, self.options.random_starts - begun)
        under_way = {child.proposal.tokens for child in pending}
        untried = sorted(_untried(self.space, self.options, history) - under_way)
        chosen = view.rng.sample(untried, min(len(untried), max(0, n - starts)))
        decisions = self.space.decisions(view.completed)
        samples = chosen + [uniform(decisions, view.rng) for _ in range(n - len(chosen))]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[Child], view: View) -> Update:
        """Nothing: what has ended is in the history."""
        return Update(gradients={}, figures={})


def _untried(space: SearchSpace, options: LocalSearchOptions, history: Sequence[Child]) -> set[Tokens]:
    """The neighbours, never tried, of where the search stands after this history."""
    here, stuck = None, False
    tried: set[Tokens] = set()
    untried: set[Tokens] = set()
    for count, child in enumerate(history, start=1):
        tokens = child.proposal.tokens
        tried.add(tokens)
        untried.discard(tokens)
        # At the top nothing is left to try: the next random architecture is where another climb starts.
        at_top = count > options.random_starts and stuck
        if here is None or reward_of(child) > reward_of(here) or at_top:
            here = child
            untried = set(_neighbours(space.decisions_of(len(tokens)), tokens) - tried)
        stuck = not untried
    return untried


# The climb up to here is told from the whole history at each step, past the same places every time.
@lru_cache(maxsize=4096)
def _neighbours(decisions: Decisions, tokens: Tokens) -> frozenset[Tokens]:
    return frozenset(neighbours(decisions, tokens))
