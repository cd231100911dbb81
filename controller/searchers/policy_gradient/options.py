"""Options of the policy-gradient searchers. Standard library only."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReinforceOptions:
    """Options of the paper's controller, and of what the paper does not specify (spec §1.5)."""

    controller_units: int = 35
    """Hidden units of each LSTM layer."""
    controller_layers: int = 2
    """LSTM layers."""
    controller_init: float = 0.08
    """Bound of the initial weights; they are uniform in [-bound, bound]."""
    controller_learning_rate: float = 0.0006
    """Adam's step size."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards; the paper gives none, NASNet has this."""
    entropy_bonus: float = 0.0
    """Reward for each nat of entropy; it delays convergence (the paper: none)."""
    importance_clip: float | None = None
    """Clip of importance weights; unset: all weights are 1 (the paper). A child's weight is the ratio of its present
    probability to that at its sampling. This corrects the bias of children that were sampled from older weights."""

    def __post_init__(self) -> None:
        for name in ("controller_units", "controller_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("controller_init", "controller_learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"`{name}` must be a positive number, got {getattr(self, name)}")
        if not (math.isfinite(self.entropy_bonus) and self.entropy_bonus >= 0):
            raise ValueError(f"`entropy_bonus` must be 0 or more, got {self.entropy_bonus}")
        if self.importance_clip is not None and not (math.isfinite(self.importance_clip) and self.importance_clip > 0):
            raise ValueError(f"`importance_clip` must be a positive number, got {self.importance_clip}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"`baseline_decay` must be at least 0 and below 1, got {self.baseline_decay}")
