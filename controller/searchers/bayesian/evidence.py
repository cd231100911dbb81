"""What a search's history tells Bayesian optimisation: the surrogate's points and its settings."""

import heapq
from collections.abc import Callable, Sequence
from itertools import islice
from operator import attrgetter

import numpy as np

from controller.decisions import Tokens
from controller.searcher import ChildRecord, reward_of
from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.bayesian.surrogate import (
    Array,
    Features,
    Settings,
    choose_settings,
    log_regrets,
    matrix,
    normal_scores,
    standardised,
)
from controller.searchers.history_state import HistoryState

TARGETS = {"log-regret": log_regrets, "ranks": normal_scores, "rewards": standardised}

MIN_POINTS = 2
"""Children with a reward that the surrogate needs."""

GROWTH = 1.1
"""Factor by which the children with a reward must have grown before the settings are chosen again."""


_tokens_of = attrgetter("tokens")


class Evidence(HistoryState):
    """The children with a reward, all tokens that were tried, and the surrogate's settings after a history.

    The settings are chosen when there are 2 children, 3 and so on, later whenever there are a tenth more.

    Attributes:
        tried: the tokens of all ended children.
    """

    def __init__(self, options: BayesianOptions, encode: Callable[[Tokens], Features]) -> None:
        self._options, self._encode = options, encode
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> "Evidence":
        """Return the evidence of this history."""
        self.follow(history)
        return self

    def targets(self, points: Sequence[ChildRecord]) -> Array:
        """Return what the surrogate is fitted to [N] for these children."""
        return TARGETS[self._options.targets]([reward_of(child) for child in points])

    def reward_of_target(self, target: float, points: Sequence[ChildRecord]) -> float:
        """Return the reward at which these children's targets would have this value.

        It is interpolated between their rewards, which it does not leave.
        """
        rewards = sorted(reward_of(child) for child in points)
        return float(np.interp(target, TARGETS[self._options.targets](rewards), rewards))

    @property
    def points(self) -> tuple[ChildRecord, ...]:
        """The children with a reward, in completion order; of more than `max_points` the best half and the latest."""
        limit = self._options.max_points
        if len(self._judged) <= limit:
            return tuple(self._judged)
        best = {-place for _, place in self._best}
        later = (place for place in reversed(range(len(self._judged))) if place not in best)
        kept = best.union(islice(later, limit - len(best)))
        return tuple(self._judged[place] for place in sorted(kept))

    @property
    def settings(self) -> Settings | None:
        """The surrogate's settings, or `None` with fewer than 2 children with a reward."""
        # They are chosen when they are asked for: a reader of a long history needs the last ones only.
        if self._settings is None and self._num_chosen_from:
            points = _thinned(self._judged[: self._num_chosen_from], self._options.max_points)
            inputs = matrix(self._encode(child.tokens) for child in points)
            self._settings = choose_settings(inputs, self.targets(points))
        return self._settings

    def _begin(self) -> None:
        self.tried: set[Tokens] = set()
        self._judged: list[ChildRecord] = []
        self._best: list[tuple[float, int]] = []  # a heap of the best: rewards, and places in `_judged` below 0
        self._next_choice = MIN_POINTS
        self._settings: Settings | None = None
        self._num_chosen_from = 0

    def _add(self, child: ChildRecord) -> None:
        self._add_all((child,))

    def _add_all(self, children: Sequence[ChildRecord]) -> None:
        self.tried.update(map(_tokens_of, children))
        judged, best, limit = self._judged, self._best, self._options.max_points // 2
        for child in children:
            reward = child.reward
            if reward is None:
                continue
            judged.append(child)
            if len(best) < limit:
                heapq.heappush(best, (reward, 1 - len(judged)))  # of equal ones the earlier is better
            elif not reward <= best[0][0]:
                heapq.heapreplace(best, (reward, 1 - len(judged)))
        while self._next_choice <= len(judged):
            self._settings, self._num_chosen_from = None, self._next_choice
            self._next_choice = max(self._next_choice + 1, int(self._next_choice * GROWTH))


def _thinned(judged: Sequence[ChildRecord], limit: int) -> tuple[ChildRecord, ...]:
    """Return the children, or of more than `limit` the best half of that many and the latest others, in order."""
    if len(judged) <= limit:
        return tuple(judged)
    best = {child.id for child in heapq.nlargest(limit // 2, judged, key=reward_of)}
    others = islice((child.id for child in reversed(judged) if child.id not in best), limit - len(best))
    kept = best.union(others)
    return tuple(child for child in judged if child.id in kept)
