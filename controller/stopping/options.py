"""Options of early stopping: by which rule a child that cannot win is stopped. Standard library only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types
from controller.limits import check_number

Rule = Literal["curve", "median", "halving"]
"""How it is decided that a child is stopped."""

MIN_CHILDREN: Mapping[Rule, int] = {"curve": 100, "median": 5, "halving": 0}
"""Children that must be known before one is stopped, by the rule.

The curves of 100 are enough to predict others (Baker et al. 2018). The best fraction of a rung is only known when
enough children have reached it, so that halving needs no further limit.
"""

MIN_CURVES = 10
"""Least number of curves to fit a prediction to: with three folds, it is tried on three of them."""

MAX_FACTOR = 1_000
"""Upper bound for `halving_factor`."""


@dataclass(frozen=True, kw_only=True)
class StoppingOptions:
    """When the training of a child that cannot win is stopped before its last epoch."""

    early_stop: Rule | None = None
    """Rule by which children that cannot win are stopped after an epoch. With curve the rest of a child's curve is
    predicted from those of others, with median it is compared with their average at the same epoch, with halving the
    best fraction goes on at each of a few epochs. A stopped child's metric is that of the epochs that it was trained.
    Unset: every child is trained to its last epoch."""
    stop_min_epochs: int = 2
    """Epochs that every child is trained at least; with halving the first rung, and so a multiple of it the others."""
    stop_min_children: int | None = None
    """Children that must have ended before one is stopped; with curve those that were trained to their last epoch, and
    with median that many epochs. Unset: 100 with curve, 5 with median, 0 with halving."""
    stop_delta: float = 0.05
    """With curve: a child is stopped if it exceeds the best child with a probability below this."""
    halving_factor: int = 4
    """With halving: one child in so many goes on at each rung, and each rung has so many times the epochs of the one
    before."""
    halving_brackets: int = 1
    """With halving: brackets that children are divided into, of which each begins one rung later."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "stop_min_epochs", 1, 1_000_000)
        check_number(self, "halving_factor", 2, MAX_FACTOR)
        check_number(self, "halving_brackets", 1, 100)
        if not (math.isfinite(self.stop_delta) and 0 < self.stop_delta < 1):
            raise ValueError(f"`stop_delta` must be above 0 and below 1, got {self.stop_delta}")
        if self.stop_min_children is not None:
            check_number(self, "stop_min_children", MIN_CURVES if self.early_stop == "curve" else 0, 1_000_000_000)

    @property
    def min_children(self) -> int:
        """Children that must be known before one is stopped."""
        if self.stop_min_children is not None or self.early_stop is None:
            return self.stop_min_children or 0
        return MIN_CHILDREN[self.early_stop]

    def rung(self, number: int) -> int:
        """Return the epochs of a rung, the first of which has the number 0."""
        return self.stop_min_epochs * self.halving_factor**number

    def check(self, epochs: int, max_children: int) -> None:
        """Raise `ValueError` if no child of so many, of so many epochs each, could ever be stopped."""
        if self.early_stop is None:
            return
        if self.stop_min_epochs >= epochs:
            raise ValueError(
                f"`stop_min_epochs` must be below `epochs`, {epochs}, got {self.stop_min_epochs}: `early_stop` stops a"
                " child between two epochs"
            )
        if self.early_stop == "halving" and (first := self.rung(self.halving_brackets - 1)) >= epochs:
            raise ValueError(
                f"`halving_brackets` must be fewer, as the first rung of the last of {self.halving_brackets} is at"
                f" epoch {first}, and children have {epochs} `epochs`"
            )
        if self.min_children >= max_children:
            raise ValueError(
                f"`stop_min_children` must be below `max_children`, {max_children}, got {self.min_children}"
                + ("" if self.stop_min_children else f", the usual number of `early_stop` {self.early_stop}")
            )
