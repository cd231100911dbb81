"""How a child is trained, apart from its `Budget`: optimizer, schedule, regularisation, initialisation.

The defaults train as Zoph & Le 2017 do. Standard library only.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, get_args

from child_trainer.field_types import check_types

Optimizer = Literal["sgd", "adam", "rmsprop"]
Schedule = Literal["constant", "cosine", "steps", "exponential"]
Initial = Literal["he", "xavier", "identity"]
Precision = Literal["float32", "bfloat16"]

IMAGES_ONLY = (
    "cutout",
    "path_keep",
    "auxiliary_weight",
    "norm_epsilon",
    "norm_momentum",
    "initial",
    "restart_below",
    "restart_decay",
    "restarts",
    "precision",
)
"""Settings that a language model does not have."""

_WORDS = {"optimizer": Optimizer, "schedule": Schedule, "initial": Initial, "precision": Precision}
"""Fields whose values are words, with these."""

_LIMITS: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("rmsprop_decay", "label_smoothing", "restart_below"), lambda x: 0 <= x < 1, "at least 0 and below 1"),
    (("decay", "path_keep", "norm_momentum", "restart_decay"), lambda x: 0 < x <= 1, "above 0 and at most 1"),
    (
        ("optimizer_epsilon", "decay_every", "norm_epsilon", "clip_norm"),
        lambda x: 0 < x < math.inf,
        "a positive number",
    ),
    (("warmup_epochs", "cutout", "auxiliary_weight", "restarts"), lambda x: 0 <= x < math.inf, "0 or more"),
)
"""Fields with what their values must be, unless they are `None`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """How a child is trained.

    Raises:
        ValueError: a value is impossible; the message names the field and what would be right.
    """

    optimizer: Optimizer = "sgd"
    """Optimizer; sgd has Nesterov's momentum, rmsprop a plain one, adam none."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """Decays of Adam's means of the gradient and of its square."""
    rmsprop_decay: float = 0.9
    """Decay of RMSProp's mean of the gradient's square."""
    optimizer_epsilon: float = 1e-8
    """Constant that Adam and RMSProp add to the root that they divide by (AmoebaNet on ImageNet: 0.1 with RMSProp)."""
    schedule: Schedule = "constant"
    """Course of the learning rate; cosine falls to 0, steps multiplies it by `decay` at `decay_at`, exponential after
    every `decay_every` epochs."""
    decay_at: tuple[float, ...] = ()
    """Shares of the training at which steps decays: 0.5 0.75 is after half and after three quarters of the epochs."""
    decay_every: float = 1.0
    """Epochs between two decays of exponential; the first is after as many."""
    decay: float = 0.1
    """Factor of each decay of steps and exponential."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    clip_norm: float | None = None
    """Gradients are scaled down to this norm. Unset: 5 for language models, and no limit for images."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    cutout: int = 0
    """Side in pixels of a square that is blanked at a random place of each training image; 0: none."""
    path_keep: float = 1.0
    """Probability that a path of the last cell is kept at the end of the training (ScheduledDropPath). It concerns
    architectures with the operation drop_path (NASNet: 0.6)."""
    auxiliary_weight: float = 0.0
    """Weight of the auxiliary head's loss; it concerns architectures that have such a head (NASNet: 0.4)."""
    norm_epsilon: float = 1e-5
    """Constant that batch normalisation adds to the variance."""
    norm_momentum: float = 0.1
    """Weight of the latest batch in batch normalisation's running statistics: 1 minus their decay."""
    initial: Initial = "he"
    """Initial weights; he: of convolutions after He, of linear maps uniform; xavier: of both uniform after Glorot, with
    biases of 0; identity: as he, but convolutions that can pass their input on unchanged do so at first."""
    restart_below: float | None = None
    """Accuracy after the first epoch up to which the training begins again with other weights and a lower learning
    rate (MetaQNN: 0.15). Unset: it never does."""
    restart_decay: float = 0.4
    """Factor of the learning rate at each such restart (MetaQNN: 0.4)."""
    restarts: int = 4
    """Restarts at most; the training that follows the last one is kept (MetaQNN: 5 trainings in all)."""
    precision: Precision = "float32"
    """Numbers of convolutions; bfloat16 is faster for large networks where the processor multiplies such."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, options in _WORDS.items():
            if getattr(self, name) not in get_args(options):
                known = ", ".join(get_args(options))
                raise ValueError(f"`{name}` must be one of {known}, got {getattr(self, name)!r}")
        for names, holds, what in _LIMITS:
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise ValueError(f"`{name}` must be {what}, got {value}")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise ValueError(f"`adam_betas` must be two numbers from 0 to below 1, got {_words(self.adam_betas)}")
        self._check_schedule()

    def _check_schedule(self) -> None:
        rises = all(one < other for one, other in itertools.pairwise(self.decay_at))
        if not rises or not all(0 < share < 1 for share in self.decay_at):
            raise ValueError(
                f"`decay_at` must be rising shares of the training between 0 and 1, got {_words(self.decay_at)}"
            )
        if self.schedule == "steps" and not self.decay_at:
            raise ValueError("the schedule steps needs `decay_at`, shares of the training such as 0.5 0.75, got none")

    def rate(self, initial: float, epoch: float, epochs: int) -> float:
        """Return the learning rate of a step.

        Args:
            initial: the learning rate that the schedule begins with.
            epoch: epochs trained before the step, with the fraction of the one in progress; 0 at the first step.
            epochs: of the whole training.
        """
        rate = initial
        if self.schedule == "cosine":
            rate *= (1 + math.cos(math.pi * min(1.0, epoch / epochs))) / 2
        elif self.schedule == "steps":
            rate *= self.decay ** sum(epoch / epochs >= share for share in self.decay_at)
        elif self.schedule == "exponential":
            rate *= self.decay ** math.floor(epoch / self.decay_every)
        return rate * epoch / self.warmup_epochs if epoch < self.warmup_epochs else rate

    def changes(self) -> dict[str, object]:
        """Return the values that differ from the defaults, by field."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def flags(self) -> dict[str, str]:
        """Return the flags that turn the default regime into this one, with their values as they are typed."""
        return {name.replace("_", "-"): _words(value) for name, value in self.changes().items()}

    def plain(self) -> dict[str, str | float | None]:
        """Return all values as text, numbers or `None`, by field."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


DEFAULT_REGIME = Regime()
"""How Zoph & Le 2017 train."""


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plain(value: object) -> str | float | None:
    return value if value is None or isinstance(value, int | float) else _words(value)
