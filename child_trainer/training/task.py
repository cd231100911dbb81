"""What a task is to the trainer, and what a task reports while a child is trained. Standard library only."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Budget, Measure
from child_trainer.training.checkpoint import Checkpoint, CheckpointError, CheckpointSlot, Identity

if TYPE_CHECKING:
    from torch import Tensor

_LOG = logging.getLogger(__name__)

OnEpoch = Callable[[int, float], bool | None]
"""Told the epoch (from 1) and its validation metric; answers True to stop the training there."""

IsPreempted = Callable[[], bool]
"""Answers True once the training must leave: it is asked before every step, so it must be quick."""


class TaskError(ValueError):
    """A task cannot be had as asked; the message says what is wrong and what would be right."""


class Diverged(ArithmeticError):
    """The loss or the network's outputs are no longer finite."""


class OverTime(Exception):
    """The child has used up its `Budget.max_seconds`."""


class Preempted(Exception):
    """The training was told to leave, between two of its steps; the message says where."""


class Resumable(Protocol):
    """What a task changes while it trains, beyond what `Progress` holds."""

    def fingerprint(self) -> str:
        """Of what the training's course depends on and its identity does not tell, such as the split of the data."""
        ...

    def tensors(self) -> Mapping[str, "Tensor"]:
        """The state between two steps, by name; a later step may change these very tensors."""
        ...

    def restore(self, tensors: Mapping[str, "Tensor"]) -> None:
        """Go back to what `tensors` gave, to the bit.

        Raises:
            CheckpointError: they do not fit; nothing has been changed then.
        """
        ...


class Progress:
    """What training has given so far: a task reports into it, and `train` makes an outcome of it.

    A task whose training can be interrupted and continued does three things more: it calls `resume` once it is ready
    to train, starts from epoch `len(curve) + 1` and its step `step`, and calls `before_step`.

    Args:
        max_seconds: as in `Budget`.
        on_epoch: may stop the training.
        epochs: as in `Budget`; after the last one nothing is saved.
        preempted: whether to leave.
        slot: where checkpoints go.
        identity: whose checkpoints they are.
    """

    def __init__(
        self,
        max_seconds: float | None = None,
        on_epoch: OnEpoch | None = None,
        *,
        epochs: int | None = None,
        preempted: IsPreempted | None = None,
        slot: CheckpointSlot | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.curve: list[float] = []
        self.step = 0
        """Steps done of the epoch after the curve's last."""
        self.parameters: int | None = None
        self.flops: int | None = None
        self.told_seconds: float | None = None
        """What the training took, where a table tells it and the clock does not."""
        self._max_seconds = max_seconds
        self._on_epoch = on_epoch
        self._epochs = epochs
        self._preempted = preempted
        self._slot = slot
        self._identity: Identity = identity or {}
        self._resumable = False
        self._state: Resumable | None = None
        self._earlier_seconds = 0.0
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time of the training, the parts before its interruptions included; or what a table tells of it."""
        if self.told_seconds is not None:
            return self.told_seconds
        return self._earlier_seconds + time.perf_counter() - self._started

    def resume(self, state: Resumable | None = None) -> None:
        """From here on the training can be saved; if a fitting checkpoint is there, take up its place and state.

        Anything else that is there is ignored with a warning, and the training starts anew.

        Args:
            state: what the task changes while it trains, if that is more than the curve.
        """
        if self._slot is None:
            return
        self._resumable, self._state = True, state
        if state is not None:
            self._identity = {**self._identity, "data": state.fingerprint()}
        try:
            data = self._slot.load()
            if data is not None:
                self._restore(Checkpoint.from_bytes(data, self._identity))
        except (CheckpointError, OSError) as error:
            _LOG.warning("%s; the training starts anew", error)

    def before_step(self, step: int) -> None:
        """Say that `step` steps of this epoch are done, and that nothing of the next one is.

        Raises:
            Preempted: the training must leave here; its state is saved if it can be.
        """
        self.step = step
        if self._preempted is not None and self._preempted():
            self._leave()

    def finished_epoch(self, metric: float) -> bool:
        """Record an epoch's validation metric and save the state; True means that training is to stop here.

        Raises:
            OverTime: the child's seconds are used up.
            Preempted: as in `before_step`.
        """
        self.curve.append(metric)
        self.step = 0
        if self._on_epoch is not None and self._on_epoch(len(self.curve), metric):
            return True
        if self._max_seconds is not None and self.seconds > self._max_seconds:
            raise OverTime(
                f"epoch {len(self.curve)} ended after {self.seconds:.3g} s; `max_seconds` is {self._max_seconds:g}"
            )
        if len(self.curve) != self._epochs:
            if self._preempted is not None and self._preempted():
                self._leave()
            self._save()
        return False

    def _restore(self, checkpoint: Checkpoint) -> None:
        if self._state is not None:
            self._state.restore(checkpoint.tensors)
        self.curve[:] = checkpoint.curve
        self.step = checkpoint.step
        self.parameters, self.flops = checkpoint.parameters, checkpoint.flops
        self._earlier_seconds = checkpoint.seconds

    def _leave(self) -> None:
        where = f"before step {self.step + 1} of epoch {len(self.curve) + 1}"
        raise Preempted(f"preempted {where}; its state is {'saved' if self._save() else 'not saved'}")

    def _save(self) -> bool:
        """Whether the state as it is now is in the slot."""
        if self._slot is None or not self._resumable:
            return False
        checkpoint = Checkpoint(
            identity=self._identity,
            tensors=self._state.tensors() if self._state else {},
            curve=tuple(self.curve),
            step=self.step,
            seconds=self.seconds,
            parameters=self.parameters,
            flops=self.flops,
        )
        try:
            self._slot.save(checkpoint.to_bytes())
        except OSError as error:
            # A training without its checkpoint is worth more than no training.
            _LOG.warning("no checkpoint could be saved after epoch %d: %s", len(self.curve), error)
            return False
        return True


class Task(Protocol):
    """Something that an architecture can be judged on."""

    @property
    def name(self) -> str:
        """As in `catalogue.TASKS`."""
        ...

    @property
    def measure(self) -> Measure:
        """What the metric is that `fit` reports."""
        ...

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Train the architecture within the budget and report each epoch to `progress`.

        Raises:
            InvalidArchitecture: this task cannot build it.
            Diverged: the numbers are no longer finite.
            OverTime, Preempted: `progress` said so.
        """
        ...
