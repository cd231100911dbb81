"""How well a path of a supernet of language models does with the shared weights as they are."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from child_trainer.networks.fused_cell import State
from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.language_network import LanguageSupernet
from child_trainer.supernets.scoring import Score
from child_trainer.training.stretches import EVALUATION_STREAMS, streams, stretch


@torch.no_grad()
def score_text(
    network: LanguageSupernet,
    weights: Mapping[str, Tensor],
    gates: Gates,
    text: Tensor,
    *,
    unroll: int,
    refit_on: Iterable[Tensor] | None = None,
) -> Score:
    """Score a path on a whole text, with its state carried from one stretch to the next, without dropout.

    So is a language model of its own evaluated (`LanguageTask.perplexity`).

    Args:
        network: is in the same mode, training or evaluation, afterwards as before.
        weights: has each of `network.names(gates)`.
        gates: of the path.
        text: `[N]` int64, at least two words.
        unroll: the words of a stretch.
        refit_on: as for `score`.
    """
    was_training = network.training
    network.eval()
    words = streams(text, EVALUATION_STREAMS)
    right, loss = 0, torch.zeros((), dtype=torch.float64, device=text.device)
    state: State | None = None
    try:
        statistics = None if refit_on is None else network.refit(weights, gates, refit_on)
        for start in range(0, len(words) - 1, unroll):
            inputs, targets = stretch(words, start, unroll)
            logits, state = network.read(weights, inputs.t(), gates, statistics, state)
            loss += F.cross_entropy(logits, targets.t(), reduction="sum")
            right += int((logits.argmax(1) == targets.t()).sum())
    finally:
        network.train(was_training)
    count = words[1:].numel()
    return Score(right / count, loss.item() / count)
