"""Plain chains that grow: the space of EAS (Cai et al. 2018, arXiv 1707.04873, section 4; spec §9.1).

A network is one layer after another: convolutions with batch normalisation and ReLU, pools, and fully connected layers
with ReLU at the end. It grows from a start by two kinds of changes that keep its function: a layer becomes wider, or a
new one is inserted behind it. A layer keeps its number through all changes, and with it its node's name and weights.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.field_types import check_types
from child_trainer.inheritance.changes import DEEPER_NOISE, WIDER_NOISE, Deepen, Widen
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

_LAYER = re.compile(r"conv-(\d+)-(\d+)|fc-(\d+)|(pool)")


@dataclass(frozen=True, kw_only=True)
class PlainSpace(LayerChains):
    """Chains of convolutions, pools and fully connected layers, which grow wider and deeper from a start.

    A sample has no fixed sequence of decisions. Its tokens are each layer's number, type, width and window size; no
    tokens at all are the start.
    """

    sample_name = "a chain that grows"
    types = ("conv", "pool", "fc")
    """The types of layers. The width is filters of a convolution, units of an fc, 0 of a pool; the size is that of a
    convolution's window."""
    first_changes = 9
    """Changes before a first sample: the published code's random search makes 4 wider and 5 deeper ones."""

    start: tuple[str, ...] = (
        *("conv-16-3", "pool", "conv-32-3", "pool"),
        *("conv-64-3", "pool", "conv-128-3", "pool", "fc-256"),
    )
    """The layers of the network that all others grow from, each of them conv-FILTERS-SIZE, pool or fc-UNITS."""
    filters: tuple[int, ...] = (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 576, 640)
    """Numbers of filters of a convolution, in ascending order; a wider one has the next."""
    units: tuple[int, ...] = (64, 128, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280)
    """Numbers of units of a fully connected layer, likewise."""
    window_sizes: tuple[int, ...] = (1, 3, 5)
    """Heights and widths that the window of a new convolution may have."""
    max_layers: int = 50
    """Maximum number of layers, pools included."""
    max_block_layers: int = 10
    """Maximum number of layers between two pools."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ascending(self, "filters", "units", "window_sizes")
        check_number(self, "max_layers", 1, MAX_LAYERS)
        check_number(self, "max_block_layers", 1, MAX_LAYERS)
        try:
            self.check(self.start_chain())
        except InvalidTokens as error:
            raise ValueError(f"`start` is no network of this space: {error}") from error

    @property
    def layer_texts(self) -> tuple[str, ...]:
        """The text of each layer that a chain can have."""
        layers = [Layer(1, "conv", width, size) for width in self.filters for size in self.window_sizes]
        layers += [Layer(1, "fc", width) for width in self.units]
        return tuple(self.text(layer) for layer in [*layers, Layer(1, "pool")])

    def start_chain(self) -> Chain:
        """Return the layers of the network that all others grow from."""
        return _layers_of(self.start)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of a chain, whose nodes have the layers' numbers in their names."""
        nodes: list[Node] = []
        source, flat = "image", False
        for layer in self.chain(tokens):
            if layer.type == "conv":
                window = {"height": layer.size, "width": layer.size}
                nodes.append(node(_node(layer), "conv", source, filters=layer.width, **window))
            elif layer.type == "pool":
                size = dict.fromkeys(("height", "width", "stride_height", "stride_width"), 2)
                nodes.append(node(_node(layer), "max_pool", source, **size))
            else:
                if not flat:
                    nodes.append(node("flat", "flatten", source))
                    source, flat = "flat", True
                nodes.append(node(_node(layer), "linear", source, units=layer.width))
                nodes.append(node(_output(layer), "relu", _node(layer)))
            source = _output(layer)
        return Architecture("feedforward", tuple(nodes), (source,))

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the chain in the notation of the published code."""
        return {"EAS": " ".join(self.text(layer) for layer in self.chain(tokens))}

    def text(self, layer: Layer) -> str:
        """Return a layer in the notation of the published code, such as `conv-64-3`."""
        return {"conv": f"conv-{layer.width}-{layer.size}", "pool": "pool", "fc": f"fc-{layer.width}"}[layer.type]

    def blocks(self, chain: Sequence[Layer]) -> list[range]:
        """Return the places of the layers between two pools, block by block."""
        return blocks_between(chain, "pool")

    def wider_width(self, layer: Layer) -> int | None:
        """Return the next width of a layer, or `None` if it has none or is as wide as it can be."""
        widths = {"conv": self.filters, "fc": self.units, "pool": ()}[layer.type]
        return next((width for width in widths if width > layer.width), None)

    def has_window(self, layer: Layer) -> bool:
        """Return whether a new layer behind this one has a window: behind a convolution."""
        return layer.type == "conv"

    def deeper_places(self, chain: Sequence[Layer], block: range) -> range:
        """Return the places of a block's layers behind which there may be a new one; none if it is full."""
        full = len(chain) >= self.max_layers or len(block) >= self.max_block_layers
        return range(0) if full else block

    def widened(self, chain: Chain, place: int, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the chain with the layer at a place wider, and that as a change."""
        layer = chain[place]
        width = self.wider_width(layer)
        assert width is not None
        wider = (*chain[:place], replace(layer, width=width), *chain[place + 1 :])
        return wider, (Widen(node=_node(layer), width=width, noise=noise),)

    def deepened(self, chain: Chain, place: int, size: int, noise: float = DEEPER_NOISE) -> tuple[Chain, Changes]:
        """Return the chain with a new layer of the same type and width behind a place, and that as a change.

        Args:
            chain: the layers.
            place: of a convolution or a fully connected layer.
            size: height and width of the window, if it is a convolution.
            noise: as in `Deepen`.
        """
        before = chain[place]
        new = replace(before, number=next_number(chain), size=size if before.size else 0)
        change = Deepen(
            after=_output(before),
            name=_node(new),
            op="conv" if new.type == "conv" else "linear",
            width=new.width,
            size=new.size or 1,
            noise=noise,
        )
        return (*chain[: place + 1], new, *chain[place + 1 :]), (change,)

    def finished(self, chain: Chain, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the chain as it is: nothing follows from its changes together."""
        return chain, ()

    def check(self, layers: Sequence[Layer]) -> None:
        """Raise `InvalidTokens` unless these are the layers of a chain of this space."""
        if not layers or len(layers) > self.max_layers:
            raise InvalidTokens(f"a chain has 1 to {self.max_layers} layers, got {len(layers)}")
        connected = False
        for layer in layers:
            known = {
                "conv": layer.width in self.filters and layer.size in self.window_sizes,
                "pool": (layer.width, layer.size) == (0, 0),
                "fc": layer.width in self.units and layer.size == 0,
            }[layer.type]
            if not known:
                raise InvalidTokens(
                    f"the space has no layer {self.text(layer)}: see `filters`, `units` and `window_sizes`"
                )
            if connected and layer.type != "fc":
                raise InvalidTokens(f"{self.text(layer)} cannot follow a fully connected layer")
            connected = layer.type == "fc"
        if (longest := max(map(len, self.blocks(layers)))) > self.max_block_layers:
            raise InvalidTokens(f"a block has up to {self.max_block_layers} layers, got {longest}")


def _node(layer: Layer) -> str:
    """Return the name of a layer's node; a fully connected layer has another one for its ReLU."""
    return f"{layer.type}{layer.number}"


def _output(layer: Layer) -> str:
    """Return the name of the node whose value a layer gives."""
    return f"{_node(layer)}.relu" if layer.type == "fc" else _node(layer)


@lru_cache
def _layers_of(words: tuple[str, ...]) -> Chain:
    """Return the layers of a chain in the notation of the published code.

    Raises:
        ValueError: a word is no layer.
    """
    layers: list[Layer] = []
    for number, word in enumerate(words, start=1):
        match = _LAYER.fullmatch(word)
        if match is None:
            raise ValueError(f"`start` must be of conv-FILTERS-SIZE, pool and fc-UNITS, got {word!r}")
        filters, size, units, _ = match.groups()
        if filters:
            layers.append(Layer(number, "conv", int(filters), int(size)))
        else:
            layers.append(Layer(number, "fc", int(units)) if units else Layer(number, "pool"))
    return tuple(layers)


DIGITS = PlainSpace(
    start=("conv-8-3", "pool", "conv-16-3", "pool", "fc-32"),
    filters=(8, 12, 16, 24, 32),
    units=(32, 48, 64),
    max_layers=20,
    max_block_layers=6,
)
"""A small space for images of 8 x 8 pixels."""
