"""What a task is to the trainer, and what a task reports while a child is trained. Standard library only."""

import time
from collections.abc import Callable
from typing import Protocol

from child_trainer.architecture import Architecture
from child_trainer.outcome import Budget

OnEpoch = Callable[[int, float], bool | None]
"""Told the epoch (from 1) and its validation metric; answers True to stop the training there."""


class TaskError(ValueError):
    """A task cannot be had as asked; the message says what is wrong and what would be right."""


class Diverged(ArithmeticError):
    """The loss or the network's outputs are no longer finite."""


class OverTime(Exception):
    """The child has used up its `Budget.max_seconds`."""


class Progress:
    """What training has given so far: a task reports into it, and `train` makes an outcome of it."""

    def __init__(self, max_seconds: float | None = None, on_epoch: OnEpoch | None = None) -> None:
        self.curve: list[float] = []
        self.parameters: int | None = None
        self.flops: int | None = None
        self._max_seconds = max_seconds
        self._on_epoch = on_epoch
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the training began."""
        return time.perf_counter() - self._started

    def finished_epoch(self, metric: float) -> bool:
        """Record an epoch's validation metric; True means that training is to stop here.

        Raises:
            OverTime: the child's seconds are used up.
        """
        self.curve.append(metric)
        stop = self._on_epoch is not None and bool(self._on_epoch(len(self.curve), metric))
        if not stop and self._max_seconds is not None and self.seconds > self._max_seconds:
            raise OverTime(
                f"epoch {len(self.curve)} ended after {self.seconds:.3g} s; `max_seconds` is {self._max_seconds:g}"
            )
        return stop


class Task(Protocol):
    """Something that an architecture can be judged on."""

    @property
    def name(self) -> str:
        """As in `catalogue.TASKS`."""
        ...

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Train the architecture within the budget and report each epoch to `progress`.

        Raises:
            InvalidArchitecture: this task cannot build it.
            Diverged: the numbers are no longer finite.
            OverTime: `progress` said so.
        """
        ...
