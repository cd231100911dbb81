"""Word-level language modelling: how a recurrent cell is trained on text (Zoph & Le 2017, section 4.2; spec §2.3)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.inheritance.trained_weights import Start
from child_trainer.language_options import CLIP_NORM, LanguageOptions
from child_trainer.networks import cost
from child_trainer.networks.fused_cell import State
from child_trainer.networks.language_model import LanguageModel, build_language_model
from child_trainer.networks.language_weights import kept
from child_trainer.networks.language_weights import load as load_weights
from child_trainer.outcome import Budget, Measure
from child_trainer.seeding import derive
from child_trainer.tasks.text import lines_of, make_vocabulary, numbered
from child_trainer.training.epochs import (
    global_generator,
    isolated_randomness,
    make_optimizer,
    run_epochs,
    set_rate,
    take_step,
    with_hyperparameters,
    with_own_options,
)
from child_trainer.training.state import SgdState
from child_trainer.training.stretches import EVALUATION_STREAMS, streams, stretch
from child_trainer.training.task import Diverged, Progress, TaskError


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageTask:
    """Text whose next word is to be predicted; the test text is not in it.

    Attributes:
        name: as in `catalogue.TASKS`.
        options: the model around the cell.
        vocabulary: the words by their numbers.
        training, validation: `[N]` int64, numbers of words.
    """

    name: str
    options: LanguageOptions
    vocabulary: tuple[str, ...]
    training: Tensor
    validation: Tensor

    @property
    def inherits(self) -> bool:
        """Whether its trainings can begin with given weights, and give the weights back (`training.task.Task`)."""
        return True

    @property
    def measure(self) -> Measure:
        """The perplexity per word."""
        return Measure.PERPLEXITY

    def to(self, device: str | torch.device) -> Self:
        """Return this task with its text on a device."""
        return replace(self, training=self.training.to(device), validation=self.validation.to(device))

    def perplexity(self, model: LanguageModel, text: Tensor) -> float:
        """Return the model's perplexity per word on a text `[N]`: this task's validation text or its test text.

        The text is cut into `EVALUATION_STREAMS` streams that are read side by side, and what is left over at the end
        (fewer words than streams) is left out.

        Raises:
            Diverged: it is NaN or infinite.
        """
        words = streams(text, EVALUATION_STREAMS)
        was_training = model.training
        model.eval()
        state, total = model.initial_state(words.shape[1]), torch.zeros((), dtype=torch.float64, device=text.device)
        with torch.inference_mode():
            for start in range(0, len(words) - 1, self.options.unroll):
                inputs, targets = stretch(words, start, self.options.unroll)
                logits, state = model(inputs, state)
                total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        model.train(was_training)
        perplexity = (total / words[1:].numel()).exp().item()
        if not perplexity < float("inf"):
            raise Diverged(f"the perplexity is {perplexity}")
        return perplexity

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Build a model of the cell and train it; see `Task.fit`.

        Plain truncated back-propagation: `Budget.batch_size` streams are read side by side in stretches of
        `LanguageOptions.unroll` words, and the state is carried from one stretch to the next. The loss of a stretch is
        the mean over its words. It can be interrupted before any stretch and continued, to the bit. The cell's own
        hyperparameters go before the budget's settings and the task's options.

        Raises:
            WrongWeights: those to begin with (`Progress.start`) are of another model or for other words.
        """
        settings, options = with_hyperparameters(budget, architecture), with_own_options(self.options, architecture)
        generator = torch.Generator().manual_seed(derive(seed, "weights"))
        model = build_language_model(architecture, len(self.vocabulary), options, generator=generator)
        if progress.start is not None:
            self._begin_with(progress.start, model)
        progress.parameters, progress.flops = cost.parameters(model), _flops(model)
        model.to(device)
        part = self.training[: max(2, round(len(self.training) * budget.train_fraction))].to(device)
        words, validation = streams(part, budget.batch_size), self.validation.to(device)
        with isolated_randomness(derive(seed, "dropout"), device):
            state = SgdState(
                model,
                make_optimizer(model, settings),
                part,
                others={"global": global_generator(part.device)},
                carried=_named(model.initial_state(words.shape[1])),
                settings=repr(options),
            )

            def train_epoch(epoch: int) -> Tensor:
                initial = options.learning_rate(settings.learning_rate, epoch)
                unroll, now = options.unroll, replace(settings, learning_rate=initial)
                return _train_epoch(state, model, words, unroll, now, progress)

            run_epochs(state, budget.epochs, progress, train_epoch, lambda: self.perplexity(model, validation))
        if progress.keeps_weights:
            progress.trained = kept(model, self.vocabulary)

    def _begin_with(self, start: Start, model: LanguageModel) -> None:
        """Give a model the weights of another training of it."""
        if start.changes:
            raise InvalidArchitecture("a language model cannot begin with the weights of another network's changes")
        load_weights(model, self.vocabulary, start.parent.tensors)


def vocabulary_of(name: str, data: Path | None, options: LanguageOptions) -> tuple[str, ...]:
    """Return the vocabulary of a task's training text, once it is sure that a model of it can be built.

    Raises:
        TaskError: the text is missing or not text, or a model's tables of words alone have more parameters than the
            whole model may have.
    """
    vocabulary = make_vocabulary(lines_of(name, data)("train"), options.max_vocabulary)
    least = len(vocabulary) * (2 if options.tied_embeddings else 3)
    if options.hidden_size is None and least > options.target_parameters:
        raise TaskError(
            f"a model of the {len(vocabulary):,} words of the task {name!r} has {least:,} parameters for them alone,"
            f" but `target_parameters` is {options.target_parameters:,}; raise it, or lower `max_vocabulary`"
        )
    return vocabulary


def check(name: str, data: Path | None, options: LanguageOptions, *, download: bool) -> None:
    """Read the texts, a few seconds: only then is it seen what may be wrong with them; nothing can be downloaded.

    Raises:
        TaskError: as `load` does.
    """
    load(name, data, options, seed=0, device="cpu")


def load(name: str, data: Path | None, options: LanguageOptions, *, seed: int, device: str) -> LanguageTask:
    """Return the task; the test text is not read, and the texts are split already, whatever the seed.

    Raises:
        TaskError: as `vocabulary_of` does, or a text is too short.
    """
    vocabulary, lines = vocabulary_of(name, data, options), lines_of(name, data)
    training, validation = (numbered(lines(part), vocabulary) for part in ("train", "valid"))
    for text, what in ((training, "to train on"), (validation, "to validate")):
        _check_length(name, text, what)
    task = LanguageTask(name=name, options=options, vocabulary=vocabulary, training=training, validation=validation)
    return task.to(device)


def load_test_text(task: LanguageTask, data: Path | None) -> Tensor:
    """Return the test text of a task, `[N]` words of its vocabulary, which no search ever sees.

    Raises:
        TaskError: it is missing, no text, or too short.
    """
    text = numbered(lines_of(task.name, data)("test"), task.vocabulary)
    _check_length(task.name, text, "to test")
    return text


def _check_length(name: str, text: Tensor, what: str) -> None:
    """Raise `TaskError` unless each of the streams in which a text is evaluated has two words."""
    if len(text) < 2 * EVALUATION_STREAMS:
        raise TaskError(
            f"the text {what} of the task {name!r} has {len(text)} words; at least {2 * EVALUATION_STREAMS} are needed"
        )


def _train_epoch(
    state: SgdState, model: LanguageModel, words: Tensor, unroll: int, budget: Budget, progress: Progress
) -> Tensor:
    """Return the sum of the stretches' losses: NaN or infinite if one of them was. Read once, so a GPU never waits."""
    regime, epoch = budget.regime, len(progress.curve)
    clip_norm = CLIP_NORM if regime.clip_norm is None else regime.clip_norm
    steps = -(-(len(words) - 1) // unroll)
    for step in range(progress.step, steps):
        progress.before_step(step)
        set_rate(state.optimizer, regime.rate(budget.learning_rate, epoch + step / steps, budget.epochs))
        inputs, targets = stretch(words, step * unroll, unroll)
        logits, after = model(inputs, _state(state.carried))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=regime.label_smoothing)
        take_step(state, loss, clip_norm)
        state.carried = _named(after)
    total = state.loss
    state.next_epoch()
    return total


def _named(state: list[State]) -> dict[str, Tensor]:
    """Return a model's state as named tensors, detached from the graph."""
    return {f"{name}{i}": t.detach() for i, layer in enumerate(state) for name, t in zip("hc", layer, strict=True)}


def _state(named: dict[str, Tensor]) -> list[State]:
    return [(named[f"h{i}"], named[f"c{i}"]) for i in range(len(named) // 2)]


def _flops(model: LanguageModel) -> int:
    """Return the FLOPs of one word."""
    zeros = torch.zeros((1, model.hidden_size), device="meta")
    words = torch.zeros((1, 1), dtype=torch.int64, device="meta")
    return cost.flops(model, words, [(zeros, zeros) for _ in model.layers])
