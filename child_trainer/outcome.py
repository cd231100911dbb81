"""A child's budget, and the outcome of its training. Standard library only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from child_trainer.field_types import check_types
from child_trainer.regime import DEFAULT_REGIME, Regime

ACCURACY_BEFORE = "accuracy_before_training"
"""The measurement of a child that begins with weights of another: its validation accuracy with these."""

LATENCY = "latency_ms"
"""The measurement of a child's latency: the ms that its network takes for one image, as measured or as in a table."""

FUSED = "fused"
"""The measurement of a child that was trained as one network with others: how many they were."""

LAST_EPOCHS = 5
"""Number of last epochs of which the best gives the child's metric."""


class Measure(StrEnum):
    """What a validation metric is."""

    ACCURACY = "accuracy"
    PERPLEXITY = "perplexity"
    SCORE = "score"
    FITNESS = "fitness"

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower value is better."""
        return self is Measure.PERPLEXITY


class Cause(StrEnum):
    """Why a child has no usable metric."""

    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    PREEMPTED = "preempted"
    INVALID = "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a training failed, with the error's text."""

    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """Why a training that went well was stopped before its last epoch.

    Attributes:
        epoch: the last epoch that it was trained.
        reason: one clause.
        predicted: the metric that was predicted for its end, or `None` if none was.
    """

    epoch: int
    reason: str
    predicted: float | None = None

    @property
    def text(self) -> str:
        """When and why it was stopped, as a clause."""
        return f"stopped early at epoch {self.epoch}: {self.reason}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what any version wrote as JSON; what this version does not know is left out."""
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSoFar:
    """A training between two of its epochs.

    Attributes:
        curve, parameters, flops: as in `Outcome`; the curve has a value for each epoch so far.
    """

    curve: tuple[float, ...]
    parameters: int | None = None
    flops: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Limits and hyperparameters of one child's training."""

    epochs: int = 50
    """Passes over the training data (the paper: 50)."""
    batch_size: int = 128
    """Images or text streams per step; the paper does not say."""
    train_fraction: float = 1.0
    """Share of the training data to use; above 0, at most 1. Validation data are never reduced."""
    learning_rate: float = 0.1
    """Step size; an architecture's own overrides it (the paper: 0.1)."""
    weight_decay: float = 1e-4
    """L2 penalty (the paper: 1e-4)."""
    momentum: float = 0.9
    """Nesterov momentum (the paper: 0.9)."""
    max_seconds: float | None = None
    """Seconds after which training times out; it ends with the epoch that passes them."""
    regime: Regime = DEFAULT_REGIME
    """How a child is trained"""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"`train_fraction` must be above 0 and at most 1, got {self.train_fraction}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"`learning_rate` must be a positive number, got {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"`weight_decay` must be 0 or more, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be at least 0 and below 1, got {self.momentum}")
        if self.regime.warmup_epochs > self.epochs:
            raise ValueError(
                f"`warmup_epochs` must be at most `epochs`, {self.epochs}, got {self.regime.warmup_epochs}: the"
                " learning rate would never be reached"
            )
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"`max_seconds` must be above 0, got {self.max_seconds}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of a child's training.

    Attributes:
        curve: the validation metric after each epoch; accuracies are in [0, 1].
        seconds: wall time of the training, data loading excluded; for a table, the seconds in the table.
        parameters: trainable parameters of the built network, or `None` if it was never built.
        flops: floating-point operations of one forward pass on one example, or `None` if it was never built.
        seed: the seed that reproduces this training.
        failure: why there is no usable metric, or `None` when there is one.
        gpu_bytes: peak GPU memory that PyTorch allocated for it, or `None` without a GPU.
        measure: the kind of the metric.
        solved: whether it solves its task outright, where the task can say so.
        processor: the kind of processor that trained it, such as `x86_64 AVX512`, or `None` where that does not matter.
        measurements: further numbers by name, such as the loss of steps on shared weights, which have no curve.
        weights: the checksum of its weights after the training, if they were kept.
        stopped: why it was stopped before its last epoch; `None` if it was not. Its metric is that of the epochs that
            it was trained.
    """

    curve: tuple[float, ...]
    seconds: float
    parameters: int | None
    flops: int | None
    seed: int
    failure: Failure | None = None
    gpu_bytes: int | None = None
    measure: Measure = Measure.ACCURACY
    solved: bool = False
    processor: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict, hash=False)
    weights: str | None = None
    stopped: Stopped | None = None

    @classmethod
    def failed(cls, cause: Cause, message: str, *, seed: int) -> Self:
        """Return the outcome of a failed training, without a curve or a duration."""
        failure = Failure(cause=cause, message=message)
        return cls(curve=(), seconds=0.0, parameters=None, flops=None, seed=seed, failure=failure)

    @property
    def fused(self) -> bool:
        """Whether it was trained as one network with others."""
        return FUSED in self.measurements

    @property
    def metric(self) -> float | None:
        """The best validation metric of the last five epochs (spec §1.6), or `None` if there is none or it failed."""
        if not self.curve or self.failure is not None:
            return None
        best = min if self.measure.lower_is_better else max
        return best(self.curve[-LAST_EPOCHS:])

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; `from_json` returns an equal outcome."""
        # Not with `asdict`, whose deep copies are slow: writing outcomes dominates a search of a table.
        failure = self.failure and {"cause": self.failure.cause, "message": self.failure.message}
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data |= {"curve": list(self.curve), "failure": failure, "measurements": dict(self.measurements)}
        if self.stopped:
            data["stopped"] = {f.name: getattr(self.stopped, f.name) for f in fields(Stopped)}
        for name in ("solved", "measurements", "weights", "stopped"):
            if not data[name]:
                del data[name]  # Most children have none; earlier versions did not write it.
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the outcome that `to_json` of any version wrote; what this version does not know is left out."""
        data = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        failure = data["failure"]
        restored = Failure(cause=Cause(failure["cause"]), message=failure["message"]) if failure else None
        measure = Measure(data.get("measure", Measure.ACCURACY))
        stopped = data.get("stopped") and Stopped.from_json(data["stopped"])
        values = {"curve": tuple(data["curve"]), "failure": restored, "measure": measure, "stopped": stopped}
        return cls(**(data | values))
