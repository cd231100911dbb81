"""The options of searchers whose children begin with the weights of others. Standard library only."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from child_trainer.field_types import check_types
from child_trainer.inheritance.changes import WIDER_NOISE
from controller.spaces.tree_networks import NOISE


@dataclass(frozen=True, kw_only=True)
class TransformationOptions:
    """What these searchers have in common."""

    STAGES: ClassVar[int]
    """Stages of a search that does not say how many children each has."""
    GRADIENT_NORM: ClassVar[float | None] = None
    """Upper bound for the norm of the policy's gradient; `None`: it has none."""

    controller_learning_rate: float
    """Step size of Adam for the policy."""
    entropy_bonus: float
    """Weight of the entropy (nats) of the policy's decisions."""
    encoder_units: int
    """Units of each direction of the policy's encoder."""
    starts: int = 1
    """Times that the start network is trained, each with a seed of its own; the first stage grows from the best."""
    stage_children: tuple[int, ...] = ()
    """Children of each stage, which all grow from one network: the best of the stages before."""
    baseline_decay: float = 0.05
    """Decay of the moving average of rewards; a batch's rewards are in it before they are compared with it."""

    def __post_init__(self) -> None:
        check_types(self)
        self._check_at_least("starts", 1)
        self._check_at_least("encoder_units", 1)
        self._check_at_least("entropy_bonus", 0)
        if any(count < 1 for count in self.stage_children):
            raise ValueError(f"`stage_children` must be at least 1 child for each stage, got {self.stage_children}")
        if not (math.isfinite(self.controller_learning_rate) and self.controller_learning_rate > 0):
            raise ValueError(
                f"`controller_learning_rate` must be a positive number, got {self.controller_learning_rate}"
            )
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"`baseline_decay` must be at least 0 and below 1, got {self.baseline_decay}")

    def for_children(self, children: int) -> Self:
        """Return the options with the children of each stage, for a search of so many."""
        if self.stage_children:
            return self
        growing, stages = max(self.STAGES, children - self.starts), self.STAGES
        counts = tuple(growing * (stage + 1) // stages - growing * stage // stages for stage in range(stages))
        return replace(self, stage_children=counts)

    def stage_of(self, number: int) -> int:
        """Return the stage, from 1, of the child of this number, from 0, after the starts; the last one goes on."""
        total = 0
        for stage, count in enumerate(self.stage_children, start=1):
            total += count
            if number < total:
                return stage
        return max(1, len(self.stage_children))

    def left_in_stage(self, number: int) -> int | None:
        """Return how many children the stage of the child of this number still has; `None`: no end."""
        total = 0
        for count in self.stage_children[:-1]:
            total += count
            if number < total:
                return total - number
        return None

    def _check_at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not (math.isfinite(value) and value >= least):
            words = "at least 1" if least else "0 or more"
            raise ValueError(f"`{name}` must be {words}, got {value}")


@dataclass(frozen=True, kw_only=True)
class EasOptions(TransformationOptions):
    """EAS, with the constants of the published code."""

    STAGES: ClassVar[int] = 2

    stage_children: tuple[int, ...] = ()
    """Children of each stage, which all grow from one network: the best of the stages before. Unset: two stages of
    equal size."""
    wider_steps: int = 4
    """Times that the policy chooses, for a child, which layers become wider."""
    deeper_steps: int = 5
    """Layers that it inserts after that."""
    wider_noise: float = WIDER_NOISE
    """Noise of new units, as a share of the weights' standard deviation."""
    deeper_noise: float | None = None
    """Noise of a new layer, likewise. Unset: 0.001 where it begins as the identity, as in the space plain, and 0.01
    where it begins as a copy, as in densenet."""
    layer_embedding: int = 16
    """Numbers that the policy knows of a layer."""
    encoder_units: int = 50
    """Units of each direction of the policy's encoder."""
    controller_learning_rate: float = 0.002
    """Step size of Adam for the policy."""
    entropy_bonus: float = 1e-5
    """Weight of the mean entropy (nats) of a decision."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least("layer_embedding", 1)
        if min(self.wider_steps, self.deeper_steps) < 0 or self.wider_steps + self.deeper_steps < 1:
            raise ValueError(
                "`wider_steps` and `deeper_steps` must be 0 or more and not both 0, got"
                f" {self.wider_steps} and {self.deeper_steps}"
            )
        self._check_at_least("wider_noise", 0)
        if self.deeper_noise is not None:
            self._check_at_least("deeper_noise", 0)


@dataclass(frozen=True, kw_only=True)
class PathEasOptions(TransformationOptions):
    """Path-level EAS, with the constants of the published code."""

    STAGES: ClassVar[int] = 1
    GRADIENT_NORM: ClassVar[float | None] = 40.0

    stage_children: tuple[int, ...] = ()
    """Children of each stage, which all grow from one network: the best of the stages before. Unset: one stage, in
    which all grow from the start."""
    branch_noise: float = NOISE
    """Noise of a branch's copies, as a share of the weights' standard deviation."""
    operation_noise: float = NOISE
    """Noise of a new convolution's identity, likewise."""
    edge_embedding: int = 10
    """Numbers that the policy knows of an edge, and of a node."""
    encoder_units: int = 100
    """Units of each direction of the policy's encoder."""
    controller_learning_rate: float = 0.006
    """Step size of Adam for the policy."""
    entropy_bonus: float = 0.01
    """Weight of the entropy (nats) of the decisions of a child, summed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least("edge_embedding", 1)
        self._check_at_least("branch_noise", 0)
        self._check_at_least("operation_noise", 0)
