"""Trains one architecture with several seeds as one network, where that is faster. Standard library only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.architectures.gates import check_child
from child_trainer.inheritance.trained_weights import WeightsSlot
from child_trainer.outcome import FUSED, Budget, Outcome
from child_trainer.threads import computing_with
from child_trainer.training.checkpoint import CheckpointSlot, Identity, identity
from child_trainer.training.gpu_memory import peak_memory, reset_peak_memory
from child_trainer.training.task import IsPreempted, Progress, Task, TaskError
from child_trainer.training.train import failure_of, save_weights


@runtime_checkable
class TrainsTogether(Protocol):
    """A task that can train one architecture with several seeds as one network (`tasks.image.ImageTask`)."""

    def why_alone(self, architecture: Architecture, budget: Budget, device: str = "cpu") -> str | None:
        """Return why trainings of this architecture must not be computed as one; `None` if they may."""
        ...

    def fit_together(
        self,
        architecture: Architecture,
        budget: Budget,
        progress: Progress,
        each: Sequence[Progress],
        *,
        seeds: Sequence[int],
        device: str = "cpu",
    ) -> list[Exception | None]:
        """Train the architecture with each seed; return the error of each training that has one of its own."""
        ...


def why_alone(architecture: Architecture, task: Task, budget: Budget, device: str = "cpu") -> str | None:
    """Return why trainings of this architecture are not computed as one; `None` if `train_together` takes them."""
    if not isinstance(task, TrainsTogether):
        return f"the task {task.name} trains its networks one by one"
    try:
        check_child(architecture)
        return task.why_alone(architecture, budget, device)
    except InvalidArchitecture as error:
        return str(error)


def train_together(  # noqa: PLR0913  (all but the first three are options)
    architecture: Architecture,
    task: Task,
    budget: Budget,
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    threads: int = 1,
    checkpoints: CheckpointSlot | None = None,
    preempted: IsPreempted | None = None,
    keep: Sequence[WeightsSlot | None] = (),
) -> list[Outcome]:
    """Train one architecture with several seeds at once; return the outcome of each.

    Each outcome is that of `train` with its seed, but for the last bits of float32: sums are taken in another order.
    The same arguments give the same outcomes to the bit. Each takes an equal share of the time and of the GPU's memory.
    An error that concerns all, such as a lack of memory, is the failure of each.

    Args:
        architecture, task, budget, device, threads: as of `train`.
        seeds: at least one, all different.
        checkpoints: where the state of all together is saved after each epoch but the last.
        preempted: called after each epoch but the last; once it returns True, all are preempted.
        keep: where the weights of each are saved.

    Raises:
        TaskError: `why_alone` gives a reason.
    """
    if reason := why_alone(architecture, task, budget, device):
        raise TaskError(f"these trainings cannot be computed as one: {reason}")
    assert isinstance(task, TrainsTogether)
    slots = keep or [None] * len(seeds)
    each = [Progress(keeps_weights=slot is not None) for slot in slots]
    progress = Progress(
        None if budget.max_seconds is None else budget.max_seconds * len(seeds),
        epochs=budget.epochs,
        preempted=preempted,
        slot=checkpoints,
        identity=_identity(architecture, task.name, budget, seeds, device, threads) if checkpoints else None,
    )
    try:
        reset_peak_memory(device)
        with computing_with(threads):
            errors = task.fit_together(architecture, budget, progress, each, seeds=seeds, device=device)
    except Exception as error:
        errors: list[Exception | None] = [error] * len(seeds)
    memory = peak_memory(device)
    outcomes: list[Outcome] = []
    for seed, one, error, slot in zip(seeds, each, errors, slots, strict=True):
        outcome = Outcome(
            curve=tuple(one.curve),
            seconds=progress.seconds / len(seeds),
            parameters=one.parameters,
            flops=one.flops,
            seed=seed,
            failure=error and failure_of(error),
            gpu_bytes=memory and memory // len(seeds),
            measure=task.measure,
            measurements={FUSED: float(len(seeds))},
        )
        outcomes.append(_with_weights(outcome, architecture, one, slot))
    return outcomes


def _with_weights(
    outcome: Outcome, architecture: Architecture, progress: Progress, slot: WeightsSlot | None
) -> Outcome:
    """Return the outcome with the weights kept, unless it is a failure."""
    if slot is None or outcome.failure is not None:
        return outcome
    try:
        return replace(outcome, weights=save_weights(architecture, progress, slot))
    except Exception as error:
        return replace(outcome, failure=failure_of(error))


def _identity(
    architecture: Architecture, task: str, budget: Budget, seeds: Sequence[int], device: str, threads: int
) -> Identity:
    """Return what the results of all depend on."""
    same = identity(architecture, task, budget, seed=seeds[0], device=device, threads=threads)
    return {**same, "seeds": ",".join(map(str, seeds))}
