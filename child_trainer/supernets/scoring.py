"""How well a path of a supernet does with the shared weights as they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.network import SupernetNetwork


@dataclass(frozen=True, slots=True)
class Score:
    """What a path reached.

    Attributes:
        accuracy: the share of images in the right class.
        loss: the mean cross-entropy.
    """

    accuracy: float
    loss: float


@torch.no_grad()
def score(
    network: SupernetNetwork,
    weights: Mapping[str, Tensor],
    gates: Gates,
    batches: Iterable[tuple[Tensor, Tensor]],
    refit_on: Iterable[Tensor] | None = None,
) -> Score:
    """Score a path on batches of images and labels, without dropout.

    Args:
        network: is in the same mode, training or evaluation, afterwards as before.
        weights: has each of `network.names(gates)`.
        gates: of the path.
        batches: images `[B, C, H, W]` float32 and classes `[B]` int64; at least one.
        refit_on: batches of training images, to which the statistics of normalisation are refit first; otherwise each
            batch is normalised by its own.

    Raises:
        ValueError: there are no batches.
    """
    was_training = network.training
    network.eval()
    try:
        statistics = None if refit_on is None else network.refit(weights, gates, refit_on)
        count, correct, loss = 0, 0, 0.0
        for images, labels in batches:
            logits = network(weights, images, gates, statistics)
            count += labels.numel()
            correct += int((logits.argmax(1) == labels).sum())
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
    finally:
        network.train(was_training)
    if not count:
        raise ValueError("a path is scored on at least one batch, got none")
    return Score(correct / count, loss / count)
