"""Options of the searchers whose children share weights. Standard library only."""

import math
from dataclasses import dataclass
from typing import Literal, Self

from controller.searchers.policy_gradient.options import PolicyOptions


@dataclass(frozen=True, kw_only=True)
class SharedWeightsOptions:
    """Options of the weights that children share, and of the children that train them."""

    steps_per_child: int = 20
    """Steps that one child makes; a worker that dies repeats none of them."""
    weights_learning_rate: float = 0.05
    """Learning rate of the shared weights."""
    weights_momentum: float = 0.9
    """Momentum of the shared weights."""
    weights_l2: float = 5e-5
    """Penalty on the shared weights that a step reads, times the sum of their squares."""
    refit_batches: int = 8
    """Batches of training images from which batch normalisation is refit before a path is scored; with 0 each batch
    of validation images has statistics of its own."""

    def __post_init__(self) -> None:
        for name, minimum in (("steps_per_child", 1), ("refit_batches", 0)):
            check_least(self, name, minimum)
        if not 0 <= self.weights_momentum < 1:
            raise ValueError(f"`weights_momentum` must be at least 0 and below 1, got {self.weights_momentum}")
        if not (math.isfinite(self.weights_learning_rate) and self.weights_learning_rate > 0):
            raise ValueError(f"`weights_learning_rate` must be a positive number, got {self.weights_learning_rate}")
        if not (math.isfinite(self.weights_l2) and self.weights_l2 >= 0):
            raise ValueError(f"`weights_l2` must be 0 or more, got {self.weights_l2}")

    def children_of(self, steps: int) -> int:
        """Return how many children so many steps take."""
        return -(-steps // self.steps_per_child)

    def count_of(self, steps: int, number: int) -> int:
        """Return how many of so many steps the child of this number makes, from 0; the last one makes what is left."""
        return min(self.steps_per_child, steps - number * self.steps_per_child)


def check_least(options: object, name: str, minimum: int) -> None:
    """Raise `ValueError` if an option is below its minimum."""
    if getattr(options, name) < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {getattr(options, name)}")


def check_children(children: int, training: int, steps: str, options: SharedWeightsOptions) -> None:
    """Raise `ValueError` if all children of a search would train the supernet and none could score its paths."""
    if children <= training:
        raise ValueError(
            f"`max_children` must be above {training:,}, the children that train the supernet (`{steps}`"
            f" {getattr(options, steps):,} by `steps_per_child` {options.steps_per_child}), so that the others can"
            f" score its paths, got {children:,}"
        )


@dataclass(frozen=True, kw_only=True)
class OneShotOptions(SharedWeightsOptions):
    """Options of the one-shot search (spec §11)."""

    supernet_steps: int = 2000
    """Steps in which the supernet is trained, before paths are scored."""
    path_dropout: float = 0.1
    """Probability at the end of the training that an operation loses all of its inputs (r); it rises from 0."""
    ghost_groups: int = 4
    """Groups of a batch, each with batch statistics and dropped paths of its own (the paper: 32 of 32 images)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("supernet_steps", "ghost_groups"):
            check_least(self, name, 1)
        if not 0 <= self.path_dropout < 1:
            raise ValueError(f"`path_dropout` must be at least 0 and below 1, got {self.path_dropout}")

    @property
    def training_children(self) -> int:
        """How many children train the supernet."""
        return self.children_of(self.supernet_steps)

    def for_children(self, children: int) -> Self:
        """Return the options, which must leave some of a search's children to score paths.

        Raises:
            ValueError: all children would train the supernet.
        """
        check_children(children, self.training_children, "supernet_steps", self)
        return self


@dataclass(frozen=True, kw_only=True)
class EnasOptions(SharedWeightsOptions, PolicyOptions):
    """Options of ENAS on convolutional spaces (spec §6.1)."""

    controller_units: int = 64
    """Hidden units of the LSTM."""
    controller_layers: int = 1
    """LSTM layers; ENAS's controller has one."""
    controller_init: float = 0.1
    """Bound of the initial weights; they are uniform in [-bound, bound]."""
    controller_learning_rate: float = 0.001
    """Adam's step size, without momentum (beta1 is 0)."""
    baseline_decay: float = 0.99
    """Decay of the moving average of rewards, which begins at 0."""
    entropy_bonus: float = 0.0001
    """Reward for each nat of entropy."""
    logit_bound: float = 1.5
    """Bound of the policy's logits, which are squashed by tanh."""
    skip_target: float = 0.4
    """Prior probability of a skip connection."""
    skip_weight: float = 0.8
    """Weight of the skips' divergence from the prior in the loss."""
    enas_compat: bool = False
    """Measure that divergence as the authors' code does, with another probability than skips are sampled with."""
    epoch_steps: int = 350
    """Steps in which the supernet is trained along sampled paths before the controller is; then both begin again."""
    epoch_scores: int = 1000
    """Paths that are scored in between, for the controller to learn from (the paper: 50 steps of 20 each)."""
    score_batches: int = 1
    """Batches of validation images that a path is scored on; 0: all validation images."""
    weights_clip_norm: float = 5.0
    """Bound of the norm of a step's gradient; 0: none."""
    refit_batches: int = 0
    """Batches of training images from which batch normalisation is refit before a path is scored; with 0 each batch
    of validation images has statistics of its own (the paper)."""

    def __post_init__(self) -> None:
        SharedWeightsOptions.__post_init__(self)
        PolicyOptions.__post_init__(self)
        for name, minimum in (("epoch_steps", 1), ("epoch_scores", 1), ("score_batches", 0)):
            check_least(self, name, minimum)
        if self.controller_layers != 1:
            raise ValueError(f"`controller_layers` must be 1, got {self.controller_layers}")
        if not 0 < self.skip_target < 1:
            raise ValueError(f"`skip_target` must be above 0 and below 1, got {self.skip_target}")
        for name in ("skip_weight", "weights_clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}")
        if not (math.isfinite(self.logit_bound) and self.logit_bound > 0):
            raise ValueError(f"`logit_bound` must be a positive number, got {self.logit_bound}")

    @property
    def training_children(self) -> int:
        """How many children train the supernet in each epoch."""
        return self.children_of(self.epoch_steps)

    def for_children(self, children: int) -> Self:
        """Return the options, which must leave some of a search's children to score paths.

        Raises:
            ValueError: all children would train the supernet.
        """
        check_children(children, self.training_children, "epoch_steps", self)
        return self


@dataclass(frozen=True, kw_only=True)
class DartsOptions(SharedWeightsOptions):
    """Options of DARTS (spec §12.3)."""

    order: Literal[1, 2] = 1
    """Order of the strengths' gradient; 1 takes the weights as they are, 2 looks ahead by their next step."""
    strengths_learning_rate: float = 0.0003
    """Adam's step size for the strengths."""
    strengths_init: float = 0.001
    """Standard deviation of the first strengths."""
    epoch_steps: int = 350
    """Steps between two derived networks, which are scored; each step moves the strengths and then the weights."""
    weights_learning_rate: float = 0.025
    """Learning rate of the shared weights."""
    weights_l2: float = 1.5e-4
    """Penalty on the shared weights that a step reads, times the sum of their squares (the paper: a decay of twice
    that)."""
    weights_clip_norm: float = 5.0
    """Bound of the norm of a step's gradient; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2):
            raise ValueError(f"`order` must be 1 or 2, got {self.order}")
        check_least(self, "epoch_steps", 1)
        for name in ("strengths_learning_rate", "strengths_init"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"`{name}` must be a positive number, got {getattr(self, name)}")
        if not (math.isfinite(self.weights_clip_norm) and self.weights_clip_norm >= 0):
            raise ValueError(f"`weights_clip_norm` must be 0 or more, got {self.weights_clip_norm}")

    @property
    def training_children(self) -> int:
        """How many children train between two derived networks."""
        return self.children_of(self.epoch_steps)

    def for_children(self, children: int) -> Self:
        """Return the options, with which a search must derive at least one network.

        Raises:
            ValueError: all children would train the supernet.
        """
        check_children(children, self.training_children, "epoch_steps", self)
        return self
