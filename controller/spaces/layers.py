"""Samples of convolutional networks with one layer more or less. Standard library only.

A sample is the tokens of the network as a whole, then those of each layer: as many for its choices as any other layer
has, and, with skip connections, a bit for each layer before it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from controller.decisions import Tokens

Skips = Literal["dense", "chain"]
"""What each layer reads: all layers before it (dense), or only the one before it (chain)."""


@dataclass(frozen=True, slots=True)
class LayerTokens:
    """The tokens of one layer.

    Attributes:
        choices: of the layer itself.
        inputs: a bit for each layer before it; empty without skip connections.
    """

    choices: Tokens
    inputs: Tokens


def split_layers(tokens: Sequence[int], num_choices: int, depth: int, *, skips: bool) -> list[LayerTokens]:
    """Return the layers of a sample, without the tokens of the network as a whole."""
    layers: list[LayerTokens] = []
    start = 0
    for layer in range(depth):
        end = start + num_choices
        bits = layer if skips else 0
        layers.append(LayerTokens(tuple(tokens[start:end]), tuple(tokens[end : end + bits])))
        start = end + bits
    return layers


def joined(layers: Sequence[LayerTokens]) -> Tokens:
    """Return the tokens of the layers, one after another."""
    return tuple(token for layer in layers for token in (*layer.choices, *layer.inputs))


def inserted(
    layers: Sequence[LayerTokens], place: int, choices: Tokens, rng: random.Random, *, skips: bool
) -> list[LayerTokens]:
    """Return the layers with a new one at `place`, the first of 0.

    With skip connections its inputs are any of the layers before it, and the layer after it reads it.
    """
    new = LayerTokens(choices, tuple(rng.randrange(2) for _ in range(place)) if skips else ())
    later: list[LayerTokens] = []
    for number, layer in enumerate(layers[place:]):
        bits = (*layer.inputs[:place], int(number == 0), *layer.inputs[place:]) if skips else ()
        later.append(LayerTokens(layer.choices, bits))
    return [*layers[:place], new, *later]


def removed(layers: Sequence[LayerTokens], place: int) -> list[LayerTokens]:
    """Return the layers without the one at `place`; what read it keeps its other inputs."""
    later = [LayerTokens(layer.choices, _without(layer.inputs, place)) for layer in layers[place + 1 :]]
    return [*layers[:place], *later]


def reconnected(layers: Sequence[LayerTokens], skips: Skips) -> list[LayerTokens]:
    """Return the layers of a sample with skip connections with other inputs; the first reads none."""
    return [
        LayerTokens(layer.choices, tuple(int(skips == "dense" or source == place - 1) for source in range(place)))
        for place, layer in enumerate(layers)
    ]


def _without(bits: Tokens, place: int) -> Tokens:
    return (*bits[:place], *bits[place + 1 :])
