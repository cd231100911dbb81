"""Training one child: a pure function of (architecture, task, budget, seed). Standard library only.

What training means is the task's business (`Task.fit`); what every failure means is settled here, once.
"""

import traceback

from child_trainer.architecture import Architecture, InvalidArchitecture
from child_trainer.outcome import Budget, Cause, Failure, Outcome
from child_trainer.tasks.task import Diverged, OnEpoch, OverTime, Progress, Task

OUT_OF_MEMORY_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
"""How CUDA, PyTorch's CPU allocator, Linux and cuBLAS word it: all of them come as a `RuntimeError`."""


def train(
    architecture: Architecture,
    task: Task,
    budget: Budget,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
) -> Outcome:
    """Train one child and say what came of it. A child's own fault never raises: it is the outcome's failure.

    The same arguments give the same curve on the same hardware. `KeyboardInterrupt` and `SystemExit` pass.

    Args:
        architecture: what to build.
        task: data, loss and metric.
        budget: what the child may use.
        seed: of the weights, the order, the augmentation and dropout.
        device: where to train, as PyTorch names it (`cpu`, `cuda`, `cuda:1`).
        on_epoch: told the epoch (from 1) and its validation metric; answers True to stop with what there is.
    """
    progress = Progress(budget.max_seconds, on_epoch)
    failure = None
    try:
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
    )


def _failure(error: Exception) -> Failure:
    match error:
        case InvalidArchitecture():
            return Failure(cause=Cause.INVALID, message=str(error))
        case Diverged():
            return Failure(cause=Cause.DIVERGED, message=str(error))
        case OverTime():
            return Failure(cause=Cause.TIMEOUT, message=str(error))
        case MemoryError():
            return Failure(cause=Cause.OUT_OF_MEMORY, message=str(error) or "not enough memory")
        case RuntimeError() if any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS):
            return Failure(cause=Cause.OUT_OF_MEMORY, message=str(error))
        case _:
            return Failure(cause=Cause.CRASHED, message="".join(traceback.format_exception(error)))
