"""Options of the searcher `seed-agem`. Standard library only."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from controller.searchers.policy_gradient.options import PolicyOptions

Selection = Literal["soft-max", "soft-soft-max", "literal"]
Alignment = Literal["random-number", "action", "none"]
SelectionReward = Literal["probability", "log-odds"]


@dataclass(frozen=True, kw_only=True)
class SeedAgemOptions(PolicyOptions):
    """Options of the article's A-GEM: of its recurrent policy, and of how that selects a sub-network (spec §17).

    The article gives none of these numbers. Those of the policy are Zoph & Le's.
    """

    controller_units: int = 35
    """Hidden units of each LSTM layer."""
    controller_layers: int = 2
    """LSTM layers."""
    controller_init: float = 0.08
    """Bound of the initial weights; they are uniform in [-bound, bound]."""
    controller_learning_rate: float = 0.0006
    """Adam's step size."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards."""
    entropy_bonus: float = 0.0
    """Reward for each nat of entropy; it delays convergence."""
    selection: Selection = "soft-soft-max"
    """Distribution of a selection: soft-max; soft-soft-max, which takes a share of its lead from the leader first; or
    literal, the article's formula for that to the letter, which gives the leader more."""
    lead_penalty: float = 0.5
    """Share of its lead that soft-soft-max takes at the start of the search; it falls linearly to 0 at the end."""
    schedule_children: int | None = None
    """Children of the search for this schedule and for `emitted`; unset: as many as the search has."""
    alignment: Alignment = "random-number"
    """What the selection steps of a child have in common: the random number that each is drawn by, the action, or
    nothing."""
    selection_reward: SelectionReward = "probability"
    """Reward of a selection: its probability by a soft-max of the logits, or the logarithm of the odds of that."""
    odds_clip: float = 5.0
    """Bound of the logarithm of the odds, on both sides."""
    selection_reward_weight: float = 0.1
    """Weight of the mean selection reward beside the child's reward."""
    similarity_reward_weight: float = 0.1
    """Weight of the similarity reward that the child measures beside its reward."""
    emitted: int = 1
    """Last children of the search whose selections are the policy's most probable ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lead_penalty <= 1:
            raise ValueError(f"`lead_penalty` must be from 0 to 1, got {self.lead_penalty}")
        if self.schedule_children is not None and self.schedule_children < 1:
            raise ValueError(f"`schedule_children` must be at least 1, got {self.schedule_children}")
        if not (math.isfinite(self.odds_clip) and self.odds_clip > 0):
            raise ValueError(f"`odds_clip` must be a positive number, got {self.odds_clip}")
        for name in ("selection_reward_weight", "similarity_reward_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be 0 or more, got {value}")
        if self.emitted < 0:
            raise ValueError(f"`emitted` must be 0 or more, got {self.emitted}")

    def for_children(self, children: int) -> Self:
        """Return the options for a search of so many children.

        Raises:
            ValueError: all of them would be emitted, so that nothing would be learnt.
        """
        if 1 < children <= self.emitted:
            raise ValueError(f"`emitted` must be below the search's {children:,} children, got {self.emitted:,}")
        return self if self.schedule_children is not None else replace(self, schedule_children=children)

    def lead_penalty_at(self, completed: int) -> float:
        """Return the share of its lead that the leader loses (alpha_t), after so many children have ended."""
        if self.selection != "soft-soft-max":
            return 0.0
        if self.schedule_children is None:
            return self.lead_penalty
        return self.lead_penalty * max(0.0, 1 - completed / self.schedule_children)

    def is_emitted(self, number: int) -> bool:
        """Return whether the child of this number, from 0, is one of the last ones."""
        return self.schedule_children is not None and number >= self.schedule_children - self.emitted
