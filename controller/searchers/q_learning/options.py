"""Options of Q-learning. Standard library only."""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from child_trainer.field_types import check_types
from controller.limits import check_number

SCHEDULE = (
    (1.0, 1500),
    (0.9, 100),
    (0.8, 100),
    (0.7, 100),
    (0.6, 150),
    (0.5, 150),
    (0.4, 150),
    (0.3, 150),
    (0.2, 150),
    (0.1, 150),
)
"""The paper's exploration: each epsilon with the number of unique models for which it holds (spec §7.2)."""


MAX_REPLAYS = 10_000
"""Upper bound for `replays`; with more it would take longer to learn from a child than to train a short one."""


@dataclass(frozen=True, kw_only=True)
class QLearningOptions:
    """Options of MetaQNN's search (spec §7.2)."""

    schedule_models: int = sum(models for _, models in SCHEDULE)
    """Unique models over which epsilon falls from 1 to 0.1, as in the paper's schedule of 2,700 of them; a shorter
    search needs fewer. Epsilon is the share of decisions that are random."""
    ends_with_schedule: bool = False
    """Whether the search ends after so many unique models, as the paper's; if not, the last epsilon holds."""
    q_learning_rate: float = 0.01
    """Weight of a new value in each Q value (alpha)."""
    discount: float = 1.0
    """Factor for the value of the next state (gamma)."""
    trace: float = 0.0
    """Share of the reward itself, instead of the next state's best Q value, in what a decision learns (lambda of
    Q(lambda); the paper: 0). With few states for many architectures it tells which decisions were good on average."""
    initial_q: float = 0.5
    """Q value of a decision that was never made."""
    replays: int = 100
    """Earlier children, drawn at random, that it learns from again whenever one ends (the paper's server: 100)."""
    repeats: Literal["reuse", "train", "refuse"] = "reuse"
    """What is done with an architecture that was trained before: its outcome is reused (the paper), it is trained
    again, or another one is proposed."""
    state_tokens: int | None = 1
    """Number of last tokens that, with the position, make up the state, where the space has no states of its own;
    unset: all tokens, so that nothing is learnt of one architecture from another that begins otherwise."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "replays", 0, MAX_REPLAYS)
        for name, minimum in (("schedule_models", 1), ("state_tokens", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {value}")
        if not 0 < self.q_learning_rate <= 1:
            raise ValueError(f"`q_learning_rate` must be above 0 and at most 1, got {self.q_learning_rate}")
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be from 0 to 1, got {getattr(self, name)}")
        if not math.isfinite(self.initial_q):
            raise ValueError(f"`initial_q` must be a finite number, got {self.initial_q}")

    def epsilon(self, models: int) -> float:
        """Return the share of random decisions of the next model, after so many unique ones.

        The schedule is stretched to `schedule_models`; after it the last epsilon holds.
        """
        total = sum(count for _, count in SCHEDULE)
        ends = accumulate(count for _, count in SCHEDULE)
        for (epsilon, _), end in zip(SCHEDULE, ends, strict=True):
            if models * total < end * self.schedule_models:
                return epsilon
        return SCHEDULE[-1][0]

    def caution(self, children: float) -> str | None:
        """Return a warning for a search with so few children, as the end of a sentence; `None` if there are enough."""
        if self.schedule_models <= 1.5 * children:
            return None
        random_models = round(self.schedule_models * SCHEDULE[0][1] / sum(count for _, count in SCHEDULE))
        return (
            f"the first {min(random_models, self.schedule_models):,} unique models of a search are random;"
            f" with schedule-models={max(1, round(children))} epsilon would fall to 0.1"
        )
