"""Options of the searchers whose children share weights. Standard library only."""

import math
from dataclasses import dataclass
from typing import Self

from child_trainer.field_types import check_types


@dataclass(frozen=True, kw_only=True)
class OneShotOptions:
    """Options of the one-shot search (spec §11)."""

    supernet_steps: int = 2000
    """Steps in which the supernet is trained, before paths are scored."""
    steps_per_child: int = 20
    """Steps that one child makes; a worker that dies repeats none of them."""
    path_dropout: float = 0.1
    """Probability at the end of the training that an operation loses all of its inputs (r); it rises from 0."""
    weights_learning_rate: float = 0.05
    """Learning rate of the shared weights."""
    weights_momentum: float = 0.9
    """Momentum of the shared weights."""
    weights_l2: float = 5e-5
    """Penalty on the shared weights that a step reads, times the sum of their squares."""
    ghost_groups: int = 4
    """Groups of a batch, each with batch statistics and dropped paths of its own (the paper: 32 of 32 images)."""
    refit_batches: int = 8
    """Batches of training images from which batch normalisation is refit before a path is scored; with 0 each batch
    of validation images has statistics of its own."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, minimum in (("supernet_steps", 1), ("steps_per_child", 1), ("ghost_groups", 1), ("refit_batches", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {getattr(self, name)}")
        for name in ("path_dropout", "weights_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {getattr(self, name)}")
        if not (math.isfinite(self.weights_learning_rate) and self.weights_learning_rate > 0):
            raise ValueError(f"`weights_learning_rate` must be a positive number, got {self.weights_learning_rate}")
        if not (math.isfinite(self.weights_l2) and self.weights_l2 >= 0):
            raise ValueError(f"`weights_l2` must be 0 or more, got {self.weights_l2}")

    @property
    def training_children(self) -> int:
        """How many children train the supernet."""
        return -(-self.supernet_steps // self.steps_per_child)

    def for_children(self, children: int) -> Self:
        """Return the options, which must leave some of a search's children to score paths.

        Raises:
            ValueError: all children would train the supernet.
        """
        if children <= self.training_children:
            raise ValueError(
                f"`max_children` must be above {self.training_children:,}, the children that train the supernet"
                f" (`supernet_steps` {self.supernet_steps:,} by `steps_per_child` {self.steps_per_child}), so that the"
                f" others can score its paths, got {children:,}"
            )
        return self
