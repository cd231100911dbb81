"""Training one child: a pure function of (architecture, task, budget, seed). Standard library only.

What training means is the task's business (`Task.fit`); what every failure means is settled here, once.
"""

import traceback

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.outcome import Budget, Cause, Failure, Outcome
from child_trainer.training.checkpoint import CheckpointSlot, identity
from child_trainer.training.task import Diverged, IsPreempted, OnEpoch, OverTime, Preempted, Progress, Task

OUT_OF_MEMORY_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
"""How CUDA, PyTorch's CPU allocator, Linux and cuBLAS word it: all of them come as a `RuntimeError`."""


def train(  # noqa: PLR0913  (all but the first three are options)
    architecture: Architecture,
    task: Task,
    budget: Budget,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    checkpoints: CheckpointSlot | None = None,
    preempted: IsPreempted | None = None,
) -> Outcome:
    """Train one child and say what came of it. A child's own fault never raises: it is the outcome's failure.

    The same arguments give the same curve on the same hardware, to the bit: also if the training was interrupted, or
    its process killed, and it goes on from its checkpoint. `KeyboardInterrupt` and `SystemExit` pass.

    Args:
        architecture: what to build.
        task: data, loss and metric.
        budget: what the child may use.
        seed: of the weights, the order, the augmentation and dropout.
        device: where to train, as PyTorch names it (`cpu`, `cuda`, `cuda:1`).
        on_epoch: told the epoch (from 1) and its validation metric; answers True to stop with what there is.
            An epoch that was finished before an interruption is not told again, unless its checkpoint was lost.
        checkpoints: where this child's state is saved after each epoch but the last, and read from at the start. What
            is damaged or another training's is ignored; what cannot be saved is done without.
        preempted: asked before each step; once it answers True, the state is saved and the outcome is the failure
            `preempted`, with the curve so far.
    """
    progress = Progress(
        budget.max_seconds,
        on_epoch,
        epochs=budget.epochs,
        preempted=preempted,
        slot=checkpoints,
        identity=identity(architecture, task.name, budget, seed=seed, device=device)
        if checkpoints is not None
        else None,
    )
    failure = None
    try:
        _forget_peak(device)
        task.fit(architecture, budget, progress, seed=seed, device=device)
    except Exception as error:
        failure = _failure(error)
    return Outcome(
        curve=tuple(progress.curve),
        seconds=progress.seconds,
        parameters=progress.parameters,
        flops=progress.flops,
        seed=seed,
        failure=failure,
        gpu_bytes=_peak(device),
        measure=task.measure,
    )


def _forget_peak(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.init()  # there are no statistics before
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> int | None:
    """The most bytes of the GPU that were in use since `_forget_peak`."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) if torch.cuda.is_initialized() else None


_CAUSES: tuple[tuple[type[Exception], Cause], ...] = (
    (InvalidArchitecture, Cause.INVALID),
    (Diverged, Cause.DIVERGED),
    (OverTime, Cause.TIMEOUT),
    (Preempted, Cause.PREEMPTED),
)


def _failure(error: Exception) -> Failure:
    for kind, cause in _CAUSES:
        if isinstance(error, kind):
            return Failure(cause=cause, message=str(error))
    match error:
        case MemoryError():
            return Failure(cause=Cause.OUT_OF_MEMORY, message=str(error) or "not enough memory")
        case RuntimeError() if any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS):
            return Failure(cause=Cause.OUT_OF_MEMORY, message=str(error))
        case _:
            return Failure(cause=Cause.CRASHED, message="".join(traceback.format_exception(error)))
