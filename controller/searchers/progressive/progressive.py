"""PNAS: search by increasing complexity, guided by a surrogate (Liu et al. 2018, arXiv 1712.00559; spec §5.2)."""

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from controller.decisions import Tokens
from controller.searcher import PREDICTED, ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.progressive.candidates import Candidates
from controller.searchers.progressive.levels import Levels, Member, level_of
from controller.searchers.progressive.options import ProgressiveOptions
from controller.space import SearchSpace, first_tokens
from controller.statistics import spearman

MAX_DRAWS = 100
"""Draws of a random sample that was not tried; after these level 1 is taken to have all that there are."""


class ProgressiveSearch:
    """Tries all samples of one part, then level by level the best of the level before with one part more.

    A surrogate, fitted to one level after another, chooses a level's members among all candidates. A level begins when
    the one before has ended, and the search ends after the last. In a space whose samples all have the same length,
    level 1 is random, each later level is chosen among the neighbours of the best so far, and there is no last level.

    Raises:
        ValueError: it cannot work on this space.
    """

    exclusive = True

    def __init__(self, space: SearchSpace, options: ProgressiveOptions) -> None:
        self._space, self._options = space, options
        self._candidates = Candidates(space, options.beam)
        self._levels = Levels(space, options, self._candidates)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: the surrogate is fitted to the history."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return up to `n` members of the present level; none to wait for its end, or after the last level."""
        history, pending = view.history(), view.pending()
        self._levels.follow(history)
        level = max(map(level_of, [*history, *pending]), default=1)
        tried = [child.tokens for child in [*self._levels.ended(level), *pending]]
        proposals = self._begin(n, level, tried, view)
        if proposals or pending or level == self._candidates.num_levels:
            return proposals
        return self._begin(n, level + 1, (), view)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients; as figures the level, and how well the surrogate ranks its ended children."""
        level = max(map(level_of, children))
        self._levels.follow(view.history())
        ended = {child.id: child for child in [*self._levels.ended(level), *children] if level_of(child) == level}
        correlation = spearman(_predictions(ended.values()))
        figures = {"level": float(level)}
        return Update(figures=figures if correlation is None else {**figures, "spearman": correlation})

    def _begin(self, n: int, level: int, tried: Sequence[Tokens], view: View) -> list[Proposal]:
        """Return up to `n` members of the level that were not tried."""
        known = set(tried)
        if level > 1:
            # So many are left even if another machine's arithmetic once gave the level other members.
            left = self._options.beam - len(tried)
            untried = (member for member in self._levels.members(level) if member.tokens not in known)
            return [self._later(level, member) for member in itertools.islice(untried, max(0, min(n, left)))]
        if self._candidates.num_levels is None:
            samples = self._random(min(n, self._options.beam - len(known)), known, view)
        else:
            untried = sorted(set(self._candidates.first()) - known)
            samples = view.rng.sample(untried, min(n, len(untried)))
        return [self._proposal(tokens, {"level": 1}) for tokens in samples]

    def _later(self, level: int, member: Member) -> Proposal:
        change = self._candidates.change(member.parent.tokens, member.tokens)
        notes = {"level": level, PREDICTED: member.predicted, "parent": member.parent.id, "change": change}
        return self._proposal(member.tokens, notes)

    def _proposal(self, tokens: Tokens, notes: Mapping[str, Any]) -> Proposal:
        return Proposal(tokens=tokens, architecture=self._space.decode(tokens), notes=notes)

    def _random(self, n: int, tried: Set[Tokens], view: View) -> Sequence[Tokens]:
        """Return `n` different random samples that were not tried; fewer if hardly any is left."""
        samples: dict[Tokens, None] = {}
        for _ in range(n):
            draws = (first_tokens(self._space, view.completed, view.rng) for _ in range(MAX_DRAWS))
            new = next((tokens for tokens in draws if tokens not in samples and tokens not in tried), None)
            if new is None:
                break
            samples[new] = None
        return list(samples)


def _predictions(children: Iterable[ChildRecord]) -> Sequence[tuple[float, float]]:
    """Return the predicted and the real reward of each child that has both."""
    return [
        (child.notes[PREDICTED], child.reward)
        for child in children
        if PREDICTED in child.notes and child.reward is not None
    ]
