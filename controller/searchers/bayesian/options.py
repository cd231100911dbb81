"""Options of Bayesian optimisation. Standard library only."""

import math
from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types
from controller.limits import check_number

MAX_CANDIDATES = 100_000
"""Upper bound of `candidates`, and of `mutations` times `parents`; more would take longer than a short training."""


MAX_POINTS = 5_000
"""Upper bound for `max_points`; a choice among more takes minutes, and gigabytes."""


@dataclass(frozen=True, kw_only=True)
class BayesianOptions:
    """Bayesian optimisation with a Gaussian process (spec §19)."""

    random_starts: int = 10
    """Random architectures before the first one that the surrogate chooses."""
    encoding: Literal["tokens", "features"] = "tokens"
    """What the surrogate sees of an architecture: its tokens, or the features that the space has for it."""
    targets: Literal["ranks", "log-regret", "rewards"] = "ranks"
    """What the surrogate is fitted to: normal scores of the rewards' ranks; logarithms of their distances to the best,
    which tell the good ones apart; or the rewards as they are, standardised."""
    improvement: float = 0.01
    """Least improvement that counts in full (xi), in standard deviations of the targets."""
    candidates: int = 1_000
    """Random architectures among which each child is chosen, besides the mutations."""
    parents: int = 10
    """Best children whose mutations are candidates as well."""
    mutations: int = 50
    """Mutations of each of the best children that are candidates: all that there are, or so many random ones."""
    lie: Literal["worst", "mean", "best"] = "worst"
    """Target that a child in training is taken to have, so that others stay away from it (the constant liar)."""
    max_points: int = 500
    """Children that the surrogate is fitted to at most: the best half of them, and the latest others. The time of a
    choice grows with its cube."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, minimum in (("random_starts", 2), ("candidates", 1), ("parents", 1), ("mutations", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {getattr(self, name)}")
        if self.candidates > MAX_CANDIDATES:
            raise ValueError(f"`candidates` must be at most {MAX_CANDIDATES:,}, got {self.candidates}")
        if self.parents * self.mutations > MAX_CANDIDATES:
            raise ValueError(
                f"`parents` times `mutations` must be at most {MAX_CANDIDATES:,}, got {self.parents * self.mutations}"
            )
        if not (math.isfinite(self.improvement) and self.improvement >= 0):
            raise ValueError(f"`improvement` must be 0 or more, got {self.improvement}")
        check_number(self, "max_points", 1, MAX_POINTS)
        if self.max_points < self.random_starts:
            raise ValueError(
                f"`max_points` must be at least `random_starts`, {self.random_starts}, got {self.max_points}"
            )
