"""Functions for all tasks that train by stochastic gradient descent."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.outcome import Budget
from child_trainer.training.state import SgdState
from child_trainer.training.task import Diverged, Progress


def with_hyperparameters(budget: Budget, architecture: Architecture) -> Budget:
    """Return the budget with the architecture's own hyperparameters.

    Raises:
        InvalidArchitecture: it has another hyperparameter than the learning rate, or this is not a positive number.
    """
    hyperparameters = dict(architecture.hyperparameters)
    rate = hyperparameters.pop("learning_rate", budget.learning_rate)
    if hyperparameters:
        raise InvalidArchitecture(
            f"the only hyperparameter of a training is 'learning_rate', got {min(hyperparameters)!r}"
        )
    if not (math.isfinite(rate) and rate > 0):
        raise InvalidArchitecture(f"the hyperparameter 'learning_rate' must be a positive number, got {rate!r}")
    return replace(budget, learning_rate=rate)


def make_optimizer(network: nn.Module, budget: Budget) -> torch.optim.Optimizer:
    """Return SGD with the budget's settings; its momentum is Nesterov's (spec §1.6)."""
    return torch.optim.SGD(
        network.parameters(),
        lr=budget.learning_rate,
        momentum=budget.momentum,
        weight_decay=budget.weight_decay,
        nesterov=budget.momentum > 0,
    )


def run_epochs(
    state: SgdState,
    epochs: int,
    progress: Progress,
    train_epoch: Callable[[int], Tensor],
    evaluate: Callable[[], float],
) -> None:
    """Train until the last epoch, or until `progress` stops the training.

    Training starts at the epoch and step that `progress` has reached.

    Args:
        state: all that training changes; it is restored from the checkpoint of an earlier part of this training.
        epochs: number of epochs in all.
        progress: takes each epoch's metric, and may stop the training.
        train_epoch: trains one epoch (counted from 1) from step `progress.step` on, and returns the sum of its losses.
        evaluate: returns the validation metric.

    Raises:
        Diverged: a loss is NaN or infinite.
        OverTime, Preempted: raised by `progress`.
    """
    progress.resume(state)
    for epoch in range(len(progress.curve) + 1, epochs + 1):
        loss = train_epoch(epoch)
        if not loss.isfinite():
            raise Diverged(f"the training loss is {loss.item()} in epoch {epoch}")
        if progress.finished_epoch(evaluate()):
            return


def global_generator(device: torch.device) -> torch.Generator:
    """Return the device's global generator, from which dropout draws."""
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator


@contextmanager
def isolated_randomness(seed: int, device: str) -> Iterator[None]:
    """Seed the global generators, and restore them at the end; convolutions are deterministic inside.

    Args:
        seed: of the generators.
        device: whose generator is seeded, besides the CPU's.
    """
    gpus = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with (
        torch.random.fork_rng(devices=gpus),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
