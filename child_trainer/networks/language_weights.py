"""The weights of a language model by the layers and nodes of its cell, with the words that they are for.

A name is `embedding`, `prediction` (which a model with tied embeddings lacks) or `bias`, or, of the layers counted from
1, `{layer}/{node}/{parameter}`: `2/x_i/weight`. It does not depend on how the products of a cell are fused.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from child_trainer.networks.fused_cell import FusedCell, Projection
from child_trainer.networks.language_model import LanguageModel
from child_trainer.networks.weights import WrongWeights

VOCABULARY = "vocabulary"
"""The name of a tensor `[N]` uint8 beside the weights: the words in UTF-8, one on each line, in their order."""


def named(model: LanguageModel) -> dict[str, Tensor]:
    """Return the model's parameters and buffers by name: the tensors themselves or parts of them, not copies."""
    tables = {"embedding": model.embedding, "prediction": model.prediction, "bias": model.bias}
    tensors = {name: table for name, table in tables.items() if table is not None}
    for number, layer in enumerate(model.layers, start=1):
        assert isinstance(layer, FusedCell)
        tensors |= {f"{number}/{name}": tensor for name, tensor in _of_cell(layer)}
    return tensors


def kept(model: LanguageModel, vocabulary: Sequence[str]) -> dict[str, Tensor]:
    """Return copies of a model's weights by name, on the CPU, and its words."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in named(model).items()}
    return {**weights, VOCABULARY: torch.frombuffer(bytearray("\n".join(vocabulary).encode()), dtype=torch.uint8)}


def words_of(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the words that kept weights are for.

    Raises:
        WrongWeights: they are not those of a language model.
    """
    if VOCABULARY not in weights:
        raise WrongWeights("they have no vocabulary, as those of a language model do")
    return tuple(bytes(weights[VOCABULARY].cpu().tolist()).decode().split("\n"))


@torch.no_grad()
def load(model: LanguageModel, vocabulary: Sequence[str], weights: Mapping[str, Tensor]) -> None:
    """Set a model's weights to kept ones.

    Args:
        model: is changed in place.
        vocabulary: the words of its text.
        weights: what `kept` returned of a model of the same cell and sizes.

    Raises:
        WrongWeights: a name is missing or unknown, a shape or the words are others; nothing has been changed.
    """
    check_fit(model, vocabulary, weights)
    for name, place in named(model).items():
        place.copy_(weights[name])


def check_fit(model: LanguageModel, vocabulary: Sequence[str], weights: Mapping[str, Tensor]) -> None:
    """Raise `WrongWeights` unless `load` can set the model's weights to these."""
    places = named(model)
    if missing := next((name for name in places if name not in weights), None):
        raise WrongWeights(f"the model has a parameter {missing!r}, for which no weights are given")
    if unknown := min((name for name in weights if name not in places and name != VOCABULARY), default=None):
        raise WrongWeights(f"the model has no parameter {unknown!r}")
    for name, place in places.items():  # in the model's order: that of a file is any
        if weights[name].shape != place.shape:
            raise WrongWeights(f"{name!r} has the shape {tuple(place.shape)}, got {tuple(weights[name].shape)}")
    words = words_of(weights)
    if words != tuple(vocabulary):
        place = next((i for i, (ours, theirs) in enumerate(zip(vocabulary, words, strict=False)) if ours != theirs), 0)
        raise WrongWeights(
            f"they are for another text: its word {place + 1} is {words[place]!r}, and that of this one"
            f" {vocabulary[place]!r}"
        )


def _of_cell(cell: FusedCell) -> Iterator[tuple[str, Tensor]]:
    for projection in (cell.of_x, cell.of_h):
        yield from _of_maps(projection)
    for n, operation in zip(cell.nodes, cell.operations, strict=True):
        yield from _of_module(n.name, operation)


def _of_maps(projection: Projection) -> Iterator[tuple[str, Tensor]]:
    """Yield the weight of each linear map, and the bias of those that have one."""
    sizes = projection.sizes
    if not sizes:
        return
    for name, weight in zip(sizes, projection.weight.split(list(sizes.values())), strict=True):
        yield f"{name}/weight", weight
    if projection.bias is not None:
        biased = [name for name, has_bias in zip(sizes, projection.biased, strict=True) if has_bias]
        parts = projection.bias.split([sizes[name] for name in biased])
        yield from zip([f"{name}/bias" for name in biased], parts, strict=True)


def _of_module(node: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield f"{node}/{name}", tensor
