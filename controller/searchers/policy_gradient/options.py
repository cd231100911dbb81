"""Options of the policy-gradient searchers. Standard library only."""

import math
from dataclasses import dataclass

from child_trainer.field_types import check_types

MAX_PASSES = 1_000
"""Upper bound for `passes`; with more a batch would take longer to learn from than its children to train."""

MAX_QUEUE = 10_000
"""Upper bound for `queue_size`; each step scores so many children."""


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Options of the recurrent policy and of its baseline."""

    controller_units: int
    """Hidden units of each LSTM layer."""
    controller_layers: int
    """LSTM layers."""
    controller_init: float
    """Bound of the initial weights; they are uniform in [-bound, bound]."""
    controller_learning_rate: float
    """Adam's step size."""
    baseline_decay: float
    """Decay of the moving average of rewards."""
    entropy_bonus: float
    """Reward for each nat of entropy; it delays convergence."""
    queue_size: int = 0
    """Best different children so far that each step makes more likely, too (priority queue training; the papers: 0)."""
    queue_weight: float = 0.1
    """Weight of their mean log-probability beside the expected reward."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("controller_units", "controller_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("controller_init", "controller_learning_rate"):
            _check_positive(name, getattr(self, name))
        if not (math.isfinite(self.entropy_bonus) and self.entropy_bonus >= 0):
            raise ValueError(f"`entropy_bonus` must be 0 or more, got {self.entropy_bonus}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"`baseline_decay` must be at least 0 and below 1, got {self.baseline_decay}")
        if not 0 <= self.queue_size <= MAX_QUEUE:
            raise ValueError(f"`queue_size` must be from 0 to {MAX_QUEUE:,}, got {self.queue_size}")
        _check_positive("queue_weight", self.queue_weight)


@dataclass(frozen=True, kw_only=True)
class ReinforceOptions(PolicyOptions):
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
        super().__post_init__()
        if self.importance_clip is not None:
            _check_positive("importance_clip", self.importance_clip)


@dataclass(frozen=True, kw_only=True)
class PpoOptions(PolicyOptions):
    """Options of NASNet's controller (spec §3.2); the paper leaves `ratio_clip` and `passes` open."""

    controller_units: int = 100
    """Hidden units of each LSTM layer."""
    controller_layers: int = 1
    """LSTM layers."""
    controller_init: float = 0.1
    """Bound of the initial weights; they are uniform in [-bound, bound]."""
    controller_learning_rate: float = 0.00035
    """Adam's step size."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards."""
    entropy_bonus: float = 0.00001
    """Reward for each nat of entropy; it delays convergence."""
    ratio_clip: float = 0.2
    """Clip of the policy ratio: a child that has become likelier or less likely by this share is learnt no further."""
    passes: int = 4
    """Gradient steps on each batch; each pulls the parameters first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ratio_clip < 1:
            raise ValueError(f"`ratio_clip` must be above 0 and below 1, got {self.ratio_clip}")
        if not 1 <= self.passes <= MAX_PASSES:
            raise ValueError(f"`passes` must be from 1 to {MAX_PASSES:,}, got {self.passes}")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a positive number, got {value}")
