"""Options of the searchers that train a supernet along paths of their choice. Standard library only."""

import math
from dataclasses import dataclass
from typing import Self

from child_trainer.supernets.hyper_options import HyperOptions
from controller.searchers.weight_sharing.options import (
    SharedWeightsOptions,
    TrainThenScoreOptions,
    is_least,
    is_positive,
    require,
)
from controller.searchers.weight_sharing.schedule import Slot


@dataclass(frozen=True, kw_only=True)
class EnasOptions(SharedWeightsOptions):
    """Options of ENAS (spec §6.1); its searches for cells have other ones (spec §6.2, §6.3)."""

    search_epochs: int = 10
    """Epochs of the search: in each the shared weights are trained first, and then the policy."""
    steps_per_epoch: int = 100
    """Steps of an epoch on the shared weights, each along a path that the policy samples for it (ENAS: one pass over
    the training images)."""
    policy_children: int = 100
    """Children of an epoch that the policy learns from: each is a path that is scored (ENAS: 50 gradients of 20)."""
    score_batches: int = 1
    """Batches of validation images that such a path is scored on, each with statistics of its own, or of sequences of
    the validation text; 0: all of them."""
    controller_units: int = 64
    """Hidden units of the policy's LSTM."""
    controller_init: float = 0.1
    """Bound of the policy's initial weights; they are uniform in [-bound, bound] (ENAS's recurrent cells: 0.01)."""
    controller_learning_rate: float = 0.001
    """Adam's step size for the policy."""
    baseline_decay: float = 0.99
    """Decay of the moving average of rewards."""
    entropy_bonus: float = 0.0001
    """Reward for each nat of a path's sampled entropy."""
    temperature: float | None = None
    """What the policy's logits are divided by (ENAS's recurrent cells: 5); unset: nothing."""
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
    weights_last_learning_rate: float = 0.0005
    """Learning rate of the shared weights to which `weights_learning_rate` falls along a cosine, epoch by epoch."""
    restart_epochs: int = 10
    """Epochs of the first cycle."""
    restart_factor: int = 2
    """By how much longer each later cycle of epochs is, at whose beginning the learning rate is the first one again."""
    weights_l2: float = 2.5e-4
    """Penalty on the shared weights that a step reads, times the sum of their squares."""
    weights_clip_norm: float = 5.0
    """Norm of all gradients of a step together, to which longer ones are scaled down; 0: never."""
    refit_batches: int = 8
    """Batches of training data from which batch normalisation is refit before one of the last paths is scored; with 0
    each batch of validation data has statistics of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("search_epochs", "steps_per_epoch", "policy_children", "controller_units")
        for name in (*counts, "restart_epochs", "restart_factor"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("controller_init", "controller_learning_rate", "operation_tanh_reduce"):
            require(self, name, is_positive(getattr(self, name)), "a positive number")
        for name in ("temperature", "tanh_constant"):
            value = getattr(self, name)
            require(self, name, value is None or is_positive(value), "a positive number, or unset")
        require(self, "baseline_decay", 0 <= self.baseline_decay < 1, "at least 0 and below 1")
        require(self, "skip_rate", 0 < self.skip_rate < 1, "above 0 and below 1")
        for name in (
            "weights_last_learning_rate",
            "entropy_bonus",
            "skip_weight",
            "weights_clip_norm",
            "score_batches",
        ):
            require(self, name, is_least(getattr(self, name), 0), "0 or more")
        for name in ("favoured_init", "favoured_bonus"):
            require(self, name, math.isfinite(getattr(self, name)), "a finite number")

    @property
    def training_children(self) -> int:
        """How many children of an epoch train the shared weights."""
        return self.children_of(self.steps_per_epoch)

    @property
    def epoch_children(self) -> int:
        """How many children an epoch has."""
        return self.training_children + self.policy_children

    @property
    def searching_children(self) -> int:
        """How many children all epochs have."""
        return self.search_epochs * self.epoch_children

    def slot(self, begun: int) -> Slot:
        """See `Schedule.slot`: steps and scores in turns, then the last scores."""
        epoch, place = divmod(begun, self.epoch_children)
        if begun >= self.searching_children:
            return Slot(2 * self.search_epochs, 0)
        if place < self.training_children:
            return Slot(2 * epoch, self.count_of(self.steps_per_epoch, place))
        return Slot(2 * epoch + 1, 0)

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


@dataclass(frozen=True, kw_only=True)
class SmashOptions(TrainThenScoreOptions):
    """Options of SMASH (spec §10)."""

    hyper_growth: int = 10
    """Channels that each layer of the hypernetwork adds."""
    hyper_depths: tuple[int, ...] = (8, 10, 4)
    """Layers of each of the hypernetwork's blocks."""
    random_paths: int = 500
    """Random paths that are scored; all later ones are changed from the best so far."""
    perturbation: float = 0.05
    """Probability that such a path has a decision of the best one drawn anew."""
    weights_learning_rate: float = 0.001
    """Adam's step size at first, for the hypernetwork's weights and all others; it falls to 0 along a cosine."""
    weights_momentum: float = 0.5
    """Adam's decay of the mean gradient (beta1)."""
    weights_l2: float = 5e-5
    """Penalty on the shared weights that a step reads but the hypernetwork's, times the sum of their squares."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "hyper_growth", self.hyper_growth >= 1, "at least 1")
        depths = self.hyper_depths
        require(self, "hyper_depths", bool(depths) and min(depths) >= 1, "one or more numbers, each at least 1")
        require(self, "random_paths", self.random_paths >= 1, "at least 1")
        require(self, "perturbation", 0 < self.perturbation <= 1, "above 0 and at most 1")

    @property
    def hypernetwork(self) -> HyperOptions:
        """The size of the hypernetwork."""
        return HyperOptions(growth=self.hyper_growth, depths=self.hyper_depths)
