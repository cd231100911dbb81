"""Options of progressive search. Standard library only."""

import math
from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types
from controller.limits import check_number

MAX_MEMBERS, MAX_UNITS, MAX_FIT_STEPS = 100, 2_000, 100_000
"""Upper bounds for `ensemble`, for `embedding` and `hidden`, and for `fit_steps`; with more a fit takes an hour."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveOptions:
    """PNAS's sequential model-based search (spec §5.2)."""

    beam: int = 256
    """Children of each level after the first, and how many of a level's best the next one expands (K)."""
    surrogate: Literal["mlp", "lstm"] = "mlp"
    """What predicts the reward: a perceptron on the mean of the parts' embeddings, or an LSTM over the tokens. The
    paper's perceptron ranks larger cells better."""
    ensemble: int = 5
    """Members of the surrogate, whose mean is its prediction; each of several leaves out one share of the data."""
    embedding: int = 100
    """Size of the embedding of a token."""
    hidden: int = 100
    """Hidden units of each member."""
    fit_steps: int = 1_000
    """Steps of each fit of a member."""
    fit_batch_size: int = 64
    """Children of each step of a fit."""
    fit_learning_rate: float = 0.01
    """Adam's step size in the first fit, to the first level."""
    later_fit_learning_rate: float = 0.002
    """Adam's step size in the later fits, each of which continues the one before on the data of the latest level, or of
    all levels where samples do not grow."""
    output_bias: float = 1.8
    """Initial bias of the output, before its sigmoid: 1.8 predicts a reward of 0.86."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("beam", "fit_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name, most in (("ensemble", MAX_MEMBERS), ("embedding", MAX_UNITS), ("hidden", MAX_UNITS)):
            check_number(self, name, 1, most)
        check_number(self, "fit_steps", 1, MAX_FIT_STEPS)
        for name in ("fit_learning_rate", "later_fit_learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"`{name}` must be a positive number, got {getattr(self, name)}")
        if not math.isfinite(self.output_bias):
            raise ValueError(f"`output_bias` must be a number, got {self.output_bias}")

    def caution(self, children: float) -> str | None:
        """Return a warning for a search with so few children, as the end of a sentence; `None` if there are enough."""
        if 2 * self.beam <= children:
            return None
        smaller = max(1, round(children / 5))
        note = f"each level of a search has up to {self.beam:,} children, its beam"
        return note + (f"; with beam={smaller} there would be more levels" if smaller < self.beam else "")
