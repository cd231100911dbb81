"""Training one child: a pure function of (architecture, task, budget, seed). Standard library only.

The task defines how a child is trained (`Task.fit`); this module maps every failure to its cause.
"""

import traceback

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.architectures.gates import check_child
from child_trainer.inheritance.trained_weights import Start, TrainedWeights, WeightsSlot
from child_trainer.outcome import Budget, Cause, Failure, Outcome
from child_trainer.threads import computing_with
from child_trainer.training.checkpoint import CheckpointSlot, Identity, identity
from child_trainer.training.gpu_memory import peak_memory, reset_peak_memory
from child_trainer.training.task import (
    Diverged,
    FailedBefore,
    IsPreempted,
    OnEpoch,
    OverTime,
    Preempted,
    Progress,
    StopEarly,
    Task,
    TaskError,
)

OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""Texts by which CUDA, PyTorch's CPU allocator, Linux, cuBLAS and convolutions report it, all in a `RuntimeError`.

A convolution tries one engine of cuDNN after another, and says of those that lack memory only that none was found.
"""


def train(  # noqa: PLR0913  (all but the first three are options)
    architecture: Architecture,
    task: Task,
    budget: Budget,
    *,
    seed: int,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: OnEpoch | None = None,
    checkpoints: CheckpointSlot | None = None,
    preempted: IsPreempted | None = None,
    start: Start | None = None,
    keep: WeightsSlot | None = None,
    stop_early: StopEarly | None = None,
) -> Outcome:
    """Train one child and return the outcome. An error in training is not raised: it is the outcome's failure.

    The same arguments give the same curve on the same hardware, to the bit: whatever else the machine does and
    `OMP_NUM_THREADS` says, even if the training was interrupted, or its process killed, and resumes from its
    checkpoint. `KeyboardInterrupt` and `SystemExit` are raised.

    Args:
        architecture: what to build.
        task: data, loss and metric.
        budget: what the child may use.
        seed: of the weights, the order of the data, the augmentation and dropout.
        device: where to train, as PyTorch names it (`cpu`, `cuda`, `cuda:1`).
        threads: that PyTorch computes with on the CPU; another number changes the last bits of the results.
        on_epoch: called with the epoch (from 1) and its validation metric; returns True to stop with the curve so far.
            An epoch that was finished before an interruption is not reported again, unless its checkpoint was lost.
        checkpoints: where this child's state is saved after each epoch but the last, and read from at the start. A
            checkpoint that is damaged or of another training is ignored; a failure to save one is only logged.
        preempted: called before each step; once it returns True, the state is saved and the outcome is the failure
            `preempted`, with the curve so far.
        start: the weights to begin with; without one they are drawn.
        keep: where the child's weights are saved after a training that did not fail, before this function returns. If
            that fails, so does the child.
        stop_early: called after each epoch but the last, also with the epochs before an interruption; returns why the
            training stops there, which becomes the outcome's `stopped`, or `None` to go on.

    Raises:
        TaskError: the task trains no networks whose weights could be given or kept.
    """
    if (start or keep) and not getattr(task, "inherits", False):
        raise TaskError(f"the task {task.name!r} neither takes nor keeps weights: use one of images or text")

    def of_training() -> Identity:
        same = identity(architecture, task.name, budget, seed=seed, device=device, threads=threads)
        return {**same, "start": start.digest} if start else same

    progress = Progress(
        budget.max_seconds,
        on_epoch,
        epochs=budget.epochs,
        preempted=preempted,
        slot=checkpoints,
        identity=of_training() if checkpoints is not None else None,
        start=start,
        keeps_weights=keep is not None,
        stop_early=stop_early,
    )
    failure = checksum = None
    try:
        reset_peak_memory(device)
        check_child(architecture)
        with computing_with(threads):
            task.fit(architecture, budget, progress, seed=seed, device=device)
        if keep is not None:
            checksum = save_weights(architecture, progress, keep)
    except Exception as error:
        failure = failure_of(error)
    return Outcome(
        curve=tuple(progress.curve),
        seconds=progress.seconds,
        parameters=progress.parameters,
        flops=progress.flops,
        seed=seed,
        failure=failure,
        gpu_bytes=peak_memory(device),
        measure=task.measure,
        solved=progress.solved and failure is None,
        measurements=progress.measurements,
        weights=checksum,
        stopped=None if failure else progress.stopped,
    )


def save_weights(architecture: Architecture, progress: Progress, keep: WeightsSlot) -> str:
    """Keep the weights after a training; return their checksum."""
    assert progress.trained is not None
    weights = TrainedWeights(architecture, progress.trained)
    keep.save(weights.checksum, weights.to_bytes())
    return weights.checksum


_CAUSES: tuple[tuple[type[Exception], Cause], ...] = (
    (InvalidArchitecture, Cause.INVALID),
    (Diverged, Cause.DIVERGED),
    (OverTime, Cause.TIMEOUT),
    (Preempted, Cause.PREEMPTED),
)


def failure_of(error: Exception) -> Failure:
    """Return the failure of a child whose training raised this error, with its cause."""
    if isinstance(error, FailedBefore) and error.failure:
        return error.failure
    for error_type, cause in _CAUSES:
        if isinstance(error, error_type):
            return Failure(cause=cause, message=str(error))
    match error:
        case MemoryError():
            return Failure(cause=Cause.OUT_OF_MEMORY, message=str(error) or "not enough memory")
        case RuntimeError() if any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS):
            return Failure(cause=Cause.OUT_OF_MEMORY, message=str(error))
        case _:
            return Failure(cause=Cause.CRASHED, message="".join(traceback.format_exception(error)))
