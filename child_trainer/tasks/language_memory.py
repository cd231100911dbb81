"""The memory of a GPU that the training of a language model allocates, predicted without a GPU."""

import torch
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.language_model import LanguageModel, language_model_on_meta
from child_trainer.outcome import Budget
from child_trainer.tasks.image_memory import BYTES, MOMENTS, WORKSPACE_BYTES
from child_trainer.tasks.language import LanguageTask
from child_trainer.training.epochs import with_hyperparameters, with_own_options
from child_trainer.training.live_bytes import LiveBytes
from child_trainer.training.stretches import EVALUATION_STREAMS

WORD_BYTES = 8
"""Of a word's number."""


def training_bytes(cell: Architecture, task: LanguageTask, budget: Budget) -> int:
    """Return the most bytes that a training allocates at once, without those of the CUDA context.

    They are the weights, their gradients, the optimizer's values, the texts, and what a step or an evaluation needs
    besides, whichever is more. The model is on the `meta` device, so that nothing is computed.

    Args:
        cell: recurrent.
        task: its vocabulary, its model and its texts.
        budget: of the training.

    Raises:
        InvalidArchitecture: no such model can be built.
    """
    settings, options = with_hyperparameters(budget, cell), with_own_options(task.options, cell)
    model = language_model_on_meta(cell, len(task.vocabulary), options)
    weights = sum(p.numel() for p in model.parameters()) * BYTES
    regime = settings.regime
    kept = weights * (1 + MOMENTS[regime.optimizer] + (settings.momentum > 0 and regime.optimizer != "adam"))
    # The texts, and their copies side by side.
    training = round(len(task.training) * budget.train_fraction)
    texts = WORD_BYTES * (len(task.training) + training + 2 * len(task.validation))
    return (
        kept
        + texts
        + WORKSPACE_BYTES
        + max(
            step_bytes(model, settings.batch_size, options.unroll),
            weights + evaluation_bytes(model, options.unroll),
        )
    )


def step_bytes(model: LanguageModel, streams: int, unroll: int) -> int:
    """Return the most bytes that a step of a model on the `meta` device allocates at once, its gradients included.

    Args:
        model: the model.
        streams: texts that are read side by side.
        unroll: words of a stretch.
    """
    model.train()
    peak = _peak(model, streams, unroll, trains=True)
    model.zero_grad()
    return peak


def evaluation_bytes(model: LanguageModel, unroll: int) -> int:
    """Return the most bytes that an evaluation of a model on the `meta` device allocates at once."""
    model.eval()
    return _peak(model, EVALUATION_STREAMS, unroll, trains=False)


def _peak(model: LanguageModel, streams: int, unroll: int, *, trains: bool) -> int:
    words = torch.empty((unroll + 1, streams), dtype=torch.int64, device="meta")
    state = model.initial_state(streams)
    given = [words, *model.parameters(), *(tensor for layer in state for tensor in layer)]
    with torch.set_grad_enabled(trains), LiveBytes(given) as live:
        logits, _ = model(words[:-1], state)
        loss = F.cross_entropy(logits.flatten(0, 1), words[1:].flatten())
        if trains:
            loss.backward()
    return live.peak
