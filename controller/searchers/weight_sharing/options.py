"""Options of the searchers whose children share weights. Standard library only."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from child_trainer.field_types import check_types
from controller.searchers.weight_sharing.schedule import Slot


def require(options: Any, name: str, holds: bool, what: str) -> None:
    """Raise `ValueError` about an option unless the condition on it holds."""
    if not holds:
        raise ValueError(f"`{name}` must be {what}, got {getattr(options, name)!r}")


def is_positive(value: float) -> bool:
    """Return whether a number is finite and above 0."""
    return math.isfinite(value) and value > 0


def is_least(value: float, minimum: float) -> bool:
    """Return whether a number is finite and not below the minimum."""
    return math.isfinite(value) and value >= minimum


class StepOptions:
    """What all options of weights that children train by steps have; each class has its own defaults and help."""

    steps_per_child: int
    weights_learning_rate: float
    weights_momentum: float
    refit_batches: int

    def check_weights(self) -> None:
        """Check these options.

        Raises:
            ValueError: a value is impossible, or of another type.
        """
        check_types(self)
        require(self, "steps_per_child", self.steps_per_child >= 1, "at least 1")
        require(self, "weights_learning_rate", is_positive(self.weights_learning_rate), "a positive number")
        require(self, "weights_momentum", 0 <= self.weights_momentum < 1, "at least 0 and below 1")
        require(self, "refit_batches", self.refit_batches >= 0, "0 or more")

    def children_of(self, steps: int) -> int:
        """Return how many children so many steps take."""
        return -(-steps // self.steps_per_child)

    def count_of(self, steps: int, number: int) -> int:
        """Return how many of so many steps the child of this number makes, from 0; the last one makes what is left."""
        return min(self.steps_per_child, steps - number * self.steps_per_child)


@dataclass(frozen=True, kw_only=True)
class SharedWeightsOptions(StepOptions):
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
    """Batches of training data from which batch normalisation is refit before a path is scored; with 0 each batch
    of validation data has statistics of its own."""

    def __post_init__(self) -> None:
        self.check_weights()
        require(self, "weights_l2", is_least(self.weights_l2, 0), "0 or more")


def check_children(children: int, training: int, steps: str, options: SharedWeightsOptions) -> None:
    """Raise `ValueError` if all children of a search would train the supernet and none could score its paths."""
    if children <= training:
        raise ValueError(
            f"`max_children` must be above {training:,}, the children that train the supernet (`{steps}`"
            f" {getattr(options, steps):,} by `steps_per_child` {options.steps_per_child}), so that the others can"
            f" score its paths, got {children:,}"
        )


@dataclass(frozen=True, kw_only=True)
class TrainThenScoreOptions(SharedWeightsOptions):
    """Options of the searchers that train a supernet once, and then score paths of it."""

    supernet_steps: int = 2000
    """Steps in which the supernet is trained, before paths are scored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "supernet_steps", self.supernet_steps >= 1, "at least 1")

    @property
    def training_children(self) -> int:
        """How many children train the supernet."""
        return self.children_of(self.supernet_steps)

    def slot(self, begun: int) -> Slot:
        """See `Schedule.slot`: all steps, then the scores."""
        steps = self.count_of(self.supernet_steps, begun) if begun < self.training_children else 0
        return Slot(phase=int(not steps), steps=steps)

    def for_children(self, children: int) -> Self:
        """Return the options, which must leave some of a search's children to score paths.

        Raises:
            ValueError: all children would train the supernet.
        """
        check_children(children, self.training_children, "supernet_steps", self)
        return self


@dataclass(frozen=True, kw_only=True)
class OneShotOptions(TrainThenScoreOptions):
    """Options of the one-shot search (spec §11)."""

    path_dropout: float = 0.1
    """Probability at the end of the training that an operation loses all of its inputs (r); it rises from 0."""
    ghost_groups: int = 4
    """Groups of a batch, each with batch statistics and dropped paths of its own (the paper: 32 of 32 images)."""
    trains: Literal["dropout", "one-path"] = "dropout"
    """What a step trains: the supernet without its dropped paths; or one random path (Guo et al. 2020, arXiv
    1904.00420), which takes a fraction of the time."""
    weights_last_learning_rate: float | None = None
    """Where `weights_learning_rate` falls to along a cosine, child by child; unset: it stays as it is."""
    weights_clip_norm: float = 0.0
    """Norm of all gradients of a step together, to which longer ones are scaled down; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "ghost_groups", self.ghost_groups >= 1, "at least 1")
        require(self, "path_dropout", 0 <= self.path_dropout < 1, "at least 0 and below 1")
        last = self.weights_last_learning_rate
        require(self, "weights_last_learning_rate", last is None or is_least(last, 0), "0 or more")
        require(self, "weights_clip_norm", is_least(self.weights_clip_norm, 0), "0 or more")
        require(self, "trains", self.trains in ("dropout", "one-path"), "dropout or one-path")
