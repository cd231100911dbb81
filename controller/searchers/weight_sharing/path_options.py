"""Options of the searchers that train a supernet along paths of their choice. Standard library only."""

import math
from dataclasses import dataclass
from typing import Any, Self

from child_trainer.field_types import check_types


@dataclass(frozen=True, kw_only=True)
class EnasOptions:
    """Options of ENAS (spec §6.1); its search for cells has other ones (spec §6.2)."""

    search_epochs: int = 10
    """Epochs of the search: in each the shared weights are trained first, and then the policy."""
    steps_per_epoch: int = 100
    """Steps of an epoch on the shared weights, each along a path that the policy samples for it (ENAS: one pass over
    the training images)."""
    steps_per_child: int = 20
    """Steps that one child makes; a worker that dies repeats none of them."""
    policy_children: int = 100
    """Children of an epoch that the policy learns from: each is a path, scored on one batch of validation images
    (ENAS: 50 gradients of 20 paths)."""
    controller_units: int = 64
    """Hidden units of the policy's LSTM."""
    controller_init: float = 0.1
    """Bound of the policy's initial weights; they are uniform in [-bound, bound]."""
    controller_learning_rate: float = 0.001
    """Adam's step size for the policy."""
    baseline_decay: float = 0.99
    """Decay of the moving average of rewards."""
    entropy_bonus: float = 0.0001
    """Reward for each nat of a path's sampled entropy."""
    temperature: float | None = None
    """What the policy's logits are divided by; unset: nothing."""
    tanh_constant: float | None = 1.5
    """Bound of the policy's logits, by the hyperbolic tangent; unset: none."""
    operation_tanh_reduce: float = 1.0
    """By how much smaller the bound of operations is (ENAS's cells: 2.5)."""
    favoured_operations: tuple[str, ...] = ()
    """Operations that the policy prefers at first (ENAS's cells: sep_3x3 and sep_5x5)."""
    favoured_init: float = 10.0
    """The first value of their bias, which is learnt."""
    favoured_bonus: float = 0.25
    """What their logits have more in the first cell, and those of all other operations less."""
    skip_weight: float = 0.8
    """Weight of the penalty on the policy's probabilities of skips: their divergence from `skip_rate`."""
    skip_rate: float = 0.4
    """Probability of a skip to which the penalty draws."""
    enas_compat: bool = False
    """Take the penalty of half a skip's logit, as ENAS's code does: it then draws to a probability of 0.308."""
    weights_learning_rate: float = 0.05
    """Learning rate of the shared weights at the beginning of each cycle of epochs, over which it falls."""
    weights_final_rate: float = 0.0005
    """Learning rate to which it falls, along a cosine."""
    restart_epochs: int = 10
    """Epochs of the first cycle."""
    restart_factor: int = 2
    """By how much longer each later cycle is."""
    weights_momentum: float = 0.9
    """Nesterov momentum of the shared weights."""
    weights_l2: float = 2.5e-4
    """Penalty on the shared weights that a step reads, times the sum of their squares."""
    weights_clip: float = 5.0
    """The norm to which the gradient of a step is scaled down; 0: never."""
    refit_batches: int = 8
    """Batches of training images from which batch normalisation is refit before one of the last paths is scored."""

    def __post_init__(self) -> None:
        check_types(self)
        counts = ("search_epochs", "steps_per_epoch", "steps_per_child", "policy_children", "controller_units")
        for name in (*counts, "restart_epochs", "restart_factor"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("controller_init", "controller_learning_rate", "weights_learning_rate", "operation_tanh_reduce"):
            _require(self, name, _is_positive(getattr(self, name)), "a positive number")
        for name in ("temperature", "tanh_constant"):
            value = getattr(self, name)
            _require(self, name, value is None or _is_positive(value), "a positive number, or unset")
        for name in ("baseline_decay", "weights_momentum"):
            _require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        _require(self, "skip_rate", 0 < self.skip_rate < 1, "above 0 and below 1")
        for name in (
            "weights_final_rate",
            "entropy_bonus",
            "skip_weight",
            "weights_l2",
            "weights_clip",
            "refit_batches",
        ):
            value = getattr(self, name)
            _require(self, name, math.isfinite(value) and value >= 0, "0 or more")
        for name in ("favoured_init", "favoured_bonus"):
            _require(self, name, math.isfinite(getattr(self, name)), "a finite number")

    @property
    def training_children(self) -> int:
        """How many children of an epoch train the shared weights."""
        return -(-self.steps_per_epoch // self.steps_per_child)

    @property
    def epoch_children(self) -> int:
        """How many children an epoch has."""
        return self.training_children + self.policy_children

    @property
    def searching_children(self) -> int:
        """How many children all epochs have."""
        return self.search_epochs * self.epoch_children

    def for_children(self, children: int) -> Self:
        """Return the options, which must leave some of a search's children to be scored at last.

        Raises:
            ValueError: all children would be in its epochs.
        """
        if children <= self.searching_children:
            raise ValueError(
                f"`max_children` must be above {self.searching_children:,}, the children of the epochs"
                f" (`search_epochs` {self.search_epochs:,} times {self.training_children:,} that train the weights and"
                f" `policy_children` {self.policy_children:,}), so that the others can be scored at last, got"
                f" {children:,}"
            )
        return self


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _require(options: Any, name: str, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {what}, got {getattr(options, name)}")
