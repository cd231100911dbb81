"""Densely connected networks that grow: EAS's DenseNet space (Cai et al. 2018, arXiv 1707.04873; spec §9.1).

A network is a DenseNet-BC (Huang et al. 2017, arXiv 1608.06993): a first convolution, and blocks with a transition
between any two. Each layer of a block reads the concatenation of the block's input and of all layers before it. A layer
gets a larger growth rate, or a new one begins as a copy of the layer before it. The first convolution and the
transitions follow when a network's changes are all made.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.field_types import check_types
from child_trainer.inheritance.changes import WIDER_NOISE, Change, Repeat, Widen
from controller.decisions import InvalidTokens
from controller.limits import check_number
from controller.spaces.layer_chains import (
    Chain,
    Changes,
    Layer,
    LayerChains,
    blocks_between,
    check_ascending,
    next_number,
)

MAX_LAYERS = 200
"""Upper bound for `max_layers`."""

MAX_WIDTH = 100_000
"""Upper bound for the channels of the first convolution and of a transition."""

_WORD = re.compile(r"g(\d+)|t")


@dataclass(frozen=True, kw_only=True)
class DenseNetSpace(LayerChains):
    """DenseNets whose layers get larger growth rates, and whose blocks get more layers, from a start.

    A sample has no fixed sequence of decisions. Its tokens are each layer's number, type and width, and a 0; no tokens
    at all are the start.
    """

    sample_name = "a DenseNet that grows"
    types = ("stem", "dense", "transition")
    """The types of layers. The width is the number of output channels: of a dense layer, its growth rate."""
    first_changes = 15
    """Changes before a first sample: as many as the published code makes steps, 10 wider and 5 deeper."""

    start: tuple[str, ...] = ("g4", "t", "g4", "t", "g4")
    """The layers of the network that all others grow from: gRATE is a layer with this growth rate, t a transition."""
    growth_rates: tuple[int, ...] = tuple(range(4, 50, 2))
    """Growth rates of a layer, in ascending order; a wider one has the next."""
    max_layers: int = 50
    """Maximum number of layers and transitions."""
    max_block_layers: int = 20
    """Maximum number of layers of a block."""
    bottleneck: int = 4
    """Filters of the 1x1 convolution before each layer, for each of its growth rate."""
    stem_ratio: int = 2
    """Filters of the first convolution, for each of the mean growth rate."""
    reduction: float = 0.5
    """Filters of a transition, for each channel that it reads."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ascending(self, "growth_rates")
        check_number(self, "max_layers", 1, MAX_LAYERS)
        check_number(self, "max_block_layers", 1, MAX_LAYERS)
        check_number(self, "bottleneck", 1, 100)
        check_number(self, "stem_ratio", 1, 100)
        # The channels of the widest networks: of a bottleneck, and before a transition.
        most = MAX_WIDTH // max(self.bottleneck, self.stem_ratio + self.max_layers)
        if self.growth_rates[-1] > most:
            raise ValueError(
                f"`growth_rates` must be at most {most:,}, or some networks would have more than {MAX_WIDTH:,}"
                f" channels, got {self.growth_rates[-1]:,}"
            )
        if not 0 < self.reduction <= 1:
            raise ValueError(f"`reduction` must be above 0 and at most 1, got {self.reduction}")
        try:
            self.check(self.start_chain())
        except InvalidTokens as error:
            raise ValueError(f"`start` is no network of this space: {error}") from error

    @property
    def layer_texts(self) -> tuple[str, ...]:
        """The text of each layer that a network can have."""
        layers = [Layer(1, "dense", width) for width in self.growth_rates]
        return tuple(self.text(layer) for layer in [*layers, Layer(1, "transition"), Layer(1, "stem")])

    @property
    def window_sizes(self) -> tuple[int, ...]:
        """The one size of the layers' windows."""
        return (3,)

    def start_chain(self) -> Chain:
        """Return the layers of the network that all others grow from."""
        return self.finished(_layers_of(self.start))[0]

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network, whose nodes have the layers' numbers in their names."""
        nodes: list[Node] = []
        source = "image"
        for layer in self.chain(tokens):
            name = _node(layer)
            if layer.type == "stem":
                nodes.append(_conv(name, source, layer.width, 3, "conv-unbiased"))
                source = name
            elif layer.type == "dense":
                nodes.append(_conv(f"{name}.in", source, self.bottleneck * layer.width, 1))
                nodes.append(_conv(name, f"{name}.in", layer.width, 3))
                nodes.append(node(f"{name}.all", "concat", (source, name)))
                source = f"{name}.all"
            else:
                window = dict.fromkeys(("height", "width", "stride_height", "stride_width"), 2)
                nodes.append(_conv(name, source, layer.width, 1))
                nodes.append(node(f"{name}.pool", "avg_pool", name, **window))
                source = f"{name}.pool"
        nodes += [node("norm", "batch_norm", source), node("norm.relu", "relu", "norm")]
        return Architecture("feedforward", tuple(nodes), ("norm.relu",))

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the network in the notation of the published code, such as `g4-g6_t_g4`."""
        chain = self.chain(tokens)
        blocks = ("-".join(self.text(chain[place]) for place in block) for block in self.blocks(chain))
        return {"EAS": "_t_".join(blocks)}

    def text(self, layer: Layer) -> str:
        """Return a layer in the notation of the published code, such as `g12`."""
        return {"stem": "stem", "dense": f"g{layer.width}", "transition": "t"}[layer.type]

    def blocks(self, chain: Sequence[Layer]) -> list[range]:
        """Return the places of the layers between two transitions, block by block."""
        return blocks_between(chain, "transition", first=1)

    def wider_width(self, layer: Layer) -> int | None:
        """Return the next growth rate of a layer, or `None` if it has none or the largest."""
        rates = self.growth_rates if layer.type == "dense" else ()
        return next((rate for rate in rates if rate > layer.width), None)

    def has_window(self, layer: Layer) -> bool:
        """Return that a new layer has no window to choose."""
        return False

    def deeper_places(self, chain: Sequence[Layer], block: range) -> range:
        """Return the places of a block's layers behind which there may be a new one; none if it is full."""
        full = len(chain) - 1 >= self.max_layers or len(block) >= self.max_block_layers
        return range(0) if full else block

    def widened(self, chain: Chain, place: int, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the network with the layer at a place, and its bottleneck, wider."""
        layer = chain[place]
        rate = self.wider_width(layer)
        assert rate is not None
        bottleneck = Widen(node=f"{_node(layer)}.in", width=self.bottleneck * rate, noise=noise)
        wider, change = _with_width(chain, place, rate, noise)
        return wider, (bottleneck, change)

    def deepened(self, chain: Chain, place: int, size: int, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the network with a copy of a dense layer behind it.

        Args:
            chain: the layers.
            place: of the dense layer.
            size: is not read.
            noise: as in `Repeat`.
        """
        new = replace(chain[place], number=next_number(chain))
        change = Repeat(node=_node(chain[place]), name=_node(new), noise=noise)
        return (*chain[: place + 1], new, *chain[place + 1 :]), (change,)

    def finished(self, chain: Chain, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the network with its first convolution and its transitions as wide as its layers ask for, or wider.

        The published code widens both when all of a network's changes are made.
        """
        rates = [layer.width for layer in chain if layer.type == "dense"]
        changes: list[Change] = []
        channels = 0
        for place, layer in enumerate(chain):
            width = {
                "stem": self.stem_ratio * sum(rates) // len(rates),
                "dense": layer.width,
                "transition": max(1, int(channels * self.reduction)),
            }[layer.type]
            if width > layer.width:
                chain, change = _with_width(chain, place, width, noise)
                changes.append(change)
            channels = chain[place].width + (channels if layer.type == "dense" else 0)
        return chain, tuple(changes)

    def check(self, layers: Sequence[Layer]) -> None:
        """Raise `InvalidTokens` unless these are the layers of a network of this space."""
        if layers[0].type != "stem" or any(layer.type == "stem" for layer in layers[1:]):
            raise InvalidTokens("a network has one first convolution, of type 0, before all other layers")
        if len(layers) - 1 > self.max_layers:
            raise InvalidTokens(f"a network has up to {self.max_layers} layers and transitions, got {len(layers) - 1}")
        for layer in layers:
            if layer.size or not 0 < layer.width <= MAX_WIDTH:
                raise InvalidTokens(
                    f"no layer has the width {layer.width} and the size {layer.size}: a width from 1 to"
                    f" {MAX_WIDTH:,} and a size of 0"
                )
            if layer.type == "dense" and layer.width not in self.growth_rates:
                raise InvalidTokens(f"the space has no layer {self.text(layer)}: see `growth_rates`")
        lengths = [len(block) for block in self.blocks(layers)]
        if not 1 <= min(lengths) <= max(lengths) <= self.max_block_layers:
            raise InvalidTokens(f"a block has 1 to {self.max_block_layers} layers, got blocks of {lengths}")


def _with_width(chain: Chain, place: int, width: int, noise: float) -> tuple[Chain, Change]:
    layer = chain[place]
    wider = (*chain[:place], replace(layer, width=width), *chain[place + 1 :])
    return wider, Widen(node=_node(layer), width=width, noise=noise)


def _node(layer: Layer) -> str:
    """Return the name of a layer's convolution."""
    return f"{layer.type}{layer.number}"


def _conv(name: str, source: str, filters: int, size: int, order: str = "bn-relu-conv") -> Node:
    return node(name, "conv", source, filters=filters, height=size, width=size, order=order)


@lru_cache
def _layers_of(words: tuple[str, ...]) -> Chain:
    """Return the first convolution and the layers of these words; what is not a dense layer has no width yet.

    Raises:
        ValueError: a word is no layer, or there is none.
    """
    layers = [Layer(1, "stem")]
    for number, word in enumerate(words, start=2):
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"`start` must be of gRATE and t, got {word!r}")
        layers.append(Layer(number, "dense", int(match[1])) if match[1] else Layer(number, "transition"))
    if not any(layer.type == "dense" for layer in layers):
        raise ValueError(f"`start` must have one layer gRATE at least, got {' '.join(words)!r}")
    return tuple(layers)


DIGITS = DenseNetSpace(growth_rates=(4, 6, 8, 10, 12), start=("g4", "t", "g4"), max_layers=15, max_block_layers=6)
"""A small space for images of 8 x 8 pixels."""
