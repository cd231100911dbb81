"""The protocol of a task, and the progress that a task reports while it trains a child. Standard library only."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from child_trainer.architectures.architecture import Architecture
from child_trainer.inheritance.trained_weights import Start
from child_trainer.outcome import Budget, Failure, Measure, Stopped, TrainingSoFar
from child_trainer.training.checkpoint import Checkpoint, CheckpointError, CheckpointSlot, Identity

if TYPE_CHECKING:
    from torch import Tensor

_LOG = logging.getLogger(__name__)

OnEpoch = Callable[[int, float], bool | None]
"""Called with the epoch (from 1) and its validation metric; returns True to stop the training there."""

StopEarly = Callable[[TrainingSoFar], Stopped | None]
"""Called after each epoch but the last; returns why the training is stopped there, or `None` to go on."""

IsPreempted = Callable[[], bool]
"""Returns True once the training is preempted. It is called before every step, so it must be quick."""


class TaskError(ValueError):
    """A task cannot be loaded as requested; the message says what is wrong and what would be right."""


class Diverged(ArithmeticError):
    """The loss, the network's outputs or the metric are no longer finite."""


class OverTime(Exception):
    """The child has exceeded its `Budget.max_seconds`."""


class Preempted(Exception):
    """The training was preempted between two of its steps; the message says where."""


class Resumable(Protocol):
    """The state that a task changes while it trains, apart from that in `Progress`."""

    def fingerprint(self) -> str:
        """Return a digest of what the results depend on beyond the identity, such as the split of the data."""
        ...

    def tensors(self) -> Mapping[str, "Tensor"]:
        """Return the state between two steps, by name; a later step may change these tensors in place."""
        ...

    def restore(self, tensors: Mapping[str, "Tensor"]) -> None:
        """Restore what `tensors` returned, to the bit.

        Raises:
            CheckpointError: the tensors do not fit; nothing has been changed.
        """
        ...


class FailedBefore(Exception):
    """The network failed where a table was made, and so it fails here."""

    def __init__(self, failure: Failure | None) -> None:
        super().__init__(failure and failure.message)
        self.failure = failure


class Progress:
    """The progress of one training: a task reports to it, and `train` makes an outcome of it.

    A task whose training can be interrupted and resumed also calls `resume` once it is ready to train, starts from
    epoch `len(curve) + 1` and its step `step`, and calls `before_step`.

    Args:
        max_seconds: as in `Budget`.
        on_epoch: called after each epoch; may stop the training.
        epochs: as in `Budget`; after the last epoch nothing is saved.
        preempted: called before each step; whether the training is preempted.
        slot: where checkpoints are saved.
        identity: of the training whose checkpoints they are.
        start: the weights to begin with instead of random ones.
        keeps_weights: whether the task must set `trained` at the end.
        stop_early: called after each epoch but the last; may stop the training.
    """

    def __init__(  # noqa: PLR0913  (all are options)
        self,
        max_seconds: float | None = None,
        on_epoch: OnEpoch | None = None,
        *,
        epochs: int | None = None,
        preempted: IsPreempted | None = None,
        slot: CheckpointSlot | None = None,
        identity: Identity | None = None,
        start: Start | None = None,
        keeps_weights: bool = False,
        stop_early: StopEarly | None = None,
    ) -> None:
        self.start, self.keeps_weights = start, keeps_weights
        self.trained: Mapping[str, Tensor] | None = None
        """The weights after the training, by name (`networks.weights`)."""
        self.curve: list[float] = []
        self.step = 0
        """Finished steps of the epoch in progress."""
        self.parameters: int | None = None
        self.flops: int | None = None
        self.solved = False
        """Whether the child solves its task outright."""
        self.measurements: dict[str, float] = {}
        """Further numbers of the training by name, as in `Outcome`."""
        self.reported_seconds: float | None = None
        """The training time according to a table, if the task is one; else `None`."""
        self.stopped: Stopped | None = None
        """Why the training was stopped early, if it was."""
        self._stop_early = stop_early
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
        """Wall time of the training, including the parts before interruptions; or its time according to a table."""
        if self.reported_seconds is not None:
            return self.reported_seconds
        return self._earlier_seconds + time.perf_counter() - self._started

    def resume(self, state: Resumable | None = None) -> None:
        """Resume from the checkpoint if there is one, and save checkpoints from now on.

        A checkpoint that cannot be read, is damaged or is of another training is ignored with a warning, and the
        training starts from the beginning.

        Args:
            state: the state that the task changes while it trains, if there is more than the curve.
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
            _LOG.warning("%s; the training starts from the beginning", error)

    def before_step(self, step: int) -> None:
        """Report that `step` steps of this epoch are finished, and that the next one has not started.

        Raises:
            Preempted: the training is preempted; its state is saved if possible.
        """
        self.step = step
        if self._preempted is not None and self._preempted():
            self._preempt()

    def finished_epoch(self, metric: float) -> bool:
        """Record an epoch's validation metric and save the state; return True if training must stop here.

        Raises:
            Diverged: the metric is not finite.
            OverTime: the child has exceeded `max_seconds`.
            Preempted: the training is preempted; its state is saved if possible.
        """
        if not math.isfinite(metric):  # of a task that does not look itself
            raise Diverged(f"the metric is {metric} after epoch {len(self.curve) + 1}")
        self.curve.append(metric)
        self.step = 0
        if self._on_epoch is not None and self._on_epoch(len(self.curve), metric):
            return True
        if self._stop_early is not None and len(self.curve) != self._epochs:
            so_far = TrainingSoFar(curve=tuple(self.curve), parameters=self.parameters, flops=self.flops)
            asked = time.perf_counter()
            self.stopped = self._stop_early(so_far)
            self._started += time.perf_counter() - asked  # a wait for others is none of the child's own time
            if self.stopped is not None:
                return True
        self._check_time(len(self.curve))
        if len(self.curve) != self._epochs:
            if self._preempted is not None and self._preempted():
                self._preempt()
            self._save()
        return False

    def begins_again(self) -> None:
        """Record that the training begins again from its first epoch, and save its state.

        Raises:
            OverTime: the child has exceeded `max_seconds`.
        """
        self.step = 0
        self._check_time(1)
        self._save()

    def _check_time(self, epoch: int) -> None:
        """Raise `OverTime` if the child has exceeded its time at the end of an epoch."""
        if self._max_seconds is not None and self.seconds > self._max_seconds:
            raise OverTime(f"epoch {epoch} ended after {self.seconds:.3g} s; `max_seconds` is {self._max_seconds:g}")

    def _restore(self, checkpoint: Checkpoint) -> None:
        if self._state is not None:
            self._state.restore(checkpoint.tensors)
        self.curve[:] = checkpoint.curve
        self.step = checkpoint.step
        self.parameters, self.flops = checkpoint.parameters, checkpoint.flops
        self._earlier_seconds = checkpoint.seconds

    def _preempt(self) -> None:
        where = f"before step {self.step + 1} of epoch {len(self.curve) + 1}"
        raise Preempted(f"preempted {where}; its state is {'saved' if self._save() else 'not saved'}")

    def _save(self) -> bool:
        """Save the state in the slot; return whether it is saved."""
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
            # A training without a checkpoint is better than no training.
            _LOG.warning("no checkpoint could be saved after epoch %d: %s", len(self.curve), error)
            return False
        return True


class Task(Protocol):
    """Data, loss and metric by which architectures are trained and judged.

    A task whose trainings obey `Progress.start` and `Progress.keeps_weights` has an attribute `inherits`, True.
    """

    @property
    def name(self) -> str:
        """The task's name, as in `catalogue.TASKS`."""
        ...

    @property
    def measure(self) -> Measure:
        """The kind of metric that `fit` reports."""
        ...

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Train the architecture within the budget and report each epoch to `progress`.

        Raises:
            InvalidArchitecture: this task cannot build it.
            Diverged: the numbers are no longer finite.
            OverTime, Preempted: raised by `progress`.
        """
        ...
