"""Functions for all tasks that train by stochastic gradient descent."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from child_trainer import hyperparameters
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.regime import Precision
from child_trainer.training.in_place_sgd import InPlaceSgd
from child_trainer.training.state import SgdState
from child_trainer.training.task import Diverged, Progress, Resumable


def with_hyperparameters(budget: Budget, architecture: Architecture) -> Budget:
    """Return the budget with the architecture's own hyperparameters.

    Raises:
        InvalidArchitecture: it has one that no training has, or with an impossible value.
    """
    try:
        return hyperparameters.with_hyperparameters(budget, dict(architecture.hyperparameters))
    except ValueError as error:
        raise InvalidArchitecture(f"the network's own hyperparameters cannot be used: {error}") from error


def with_own_options(options: LanguageOptions, architecture: Architecture) -> LanguageOptions:
    """Return the options of a language model with its cell's own hyperparameters.

    Raises:
        InvalidArchitecture: one has an impossible value.
    """
    try:
        return hyperparameters.own_language_options(options, dict(architecture.hyperparameters))
    except ValueError as error:
        raise InvalidArchitecture(f"the network's own hyperparameters cannot be used: {error}") from error


def make_optimizer(network: nn.Module, budget: Budget) -> torch.optim.Optimizer:
    """Return the regime's optimizer with the budget's settings; SGD's momentum is Nesterov's (spec §1.6)."""
    regime, parameters = budget.regime, network.parameters()
    rate, decay, momentum = budget.learning_rate, budget.weight_decay, budget.momentum
    match regime.optimizer:
        case "sgd":
            return InPlaceSgd(parameters, rate, momentum, weight_decay=decay, nesterov=momentum > 0)
        case "adam":
            return torch.optim.Adam(
                parameters, rate, regime.adam_betas, eps=regime.optimizer_epsilon, weight_decay=decay
            )
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters,
                rate,
                alpha=regime.rmsprop_decay,
                eps=regime.optimizer_epsilon,
                weight_decay=decay,
                momentum=momentum,
            )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def take_step(state: SgdState, loss: Tensor, clip_norm: float | None) -> None:
    """Change the weights by the loss's gradient, and add the loss to the epoch's sum.

    Args:
        state: of the training.
        loss: of the step, a scalar.
        clip_norm: the norm to which a longer gradient is scaled down, if any.
    """
    state.optimizer.zero_grad()
    loss.backward()
    use_gradients(state, loss, clip_norm)


def use_gradients(state: SgdState, loss: Tensor, clip_norm: float | None) -> None:
    """Change the weights by their gradients, and add the loss to the epoch's sum; the arguments are of `take_step`."""
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(state.network.parameters(), clip_norm)
    state.optimizer.step()
    state.loss += loss.detach()


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network computes with this precision; weights and gradients remain float32.

    With bfloat16 it is PyTorch's automatic mixed precision: convolutions and linear maps round their inputs.
    """
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


def run_epochs(
    state: Resumable,
    epochs: int,
    progress: Progress,
    train_epoch: Callable[[int], Tensor],
    evaluate: Callable[[], float],
    begin_again: Callable[[float], bool] | None = None,
) -> None:
    """Train until the last epoch, or until `progress` stops the training.

    Training starts at the epoch and step that `progress` has reached.

    Args:
        state: all that training changes; it is restored from the checkpoint of an earlier part of this training.
        epochs: number of epochs in all.
        progress: takes each epoch's metric, and may stop the training.
        train_epoch: trains one epoch (counted from 1) from step `progress.step` on, and returns the sum of its losses.
        evaluate: returns the validation metric.
        begin_again: called with the first epoch's metric, or 0.0 if it diverged; returns True if the training must
            begin again, which it has prepared. No metric of the abandoned epoch is recorded.

    Raises:
        Diverged: a loss is NaN or infinite.
        OverTime, Preempted: raised by `progress`.
    """

    def metric_of(epoch: int) -> float:
        loss = train_epoch(epoch)
        if not loss.isfinite():
            raise Diverged(f"the training loss is {loss.item()} in epoch {epoch}")
        return evaluate()

    progress.resume(state)
    while len(progress.curve) < epochs:
        epoch = len(progress.curve) + 1
        try:
            metric = metric_of(epoch)
        except Diverged:
            if epoch > 1 or begin_again is None or not begin_again(0.0):
                raise
            progress.begins_again()
            continue
        if epoch == 1 and begin_again is not None and begin_again(metric):
            progress.begins_again()
        elif progress.finished_epoch(metric):
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
