"""What a space has whose networks grow by changes that keep their function (Cai et al. 2018, arXiv 1707.04873).

A network is a chain of layers. A layer becomes wider, or a new one is inserted; each keeps its number through all
changes, and with it its nodes' names and weights. Standard library only.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from child_trainer.architectures.architecture import Kind
from child_trainer.inheritance.changes import WIDER_NOISE, Change
from controller.decisions import InvalidTokens, Tokens
from controller.space import SearchSpace
from controller.spaces.free_form import FreeForm

TOKENS_PER_LAYER = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a chain.

    Attributes:
        number: identifies the layer through all changes.
        type: what it is; each space has its own types.
        width: its filters or units; 0 if it has none.
        size: height and width of its window, where the space has several; else 0.
    """

    number: int
    type: str
    width: int = 0
    size: int = 0


Chain = tuple[Layer, ...]

Changes = tuple[Change, ...]


@runtime_checkable
class WidensAndDeepens(SearchSpace, Protocol):
    """A space whose networks grow from a start, layer by layer.

    Rules, held by `tests/contracts/growing_space.py`:
    1. A network after a change is what `child_trainer.inheritance.changes.changed` makes of the one before.
    2. A finished network stays as it is when it is finished again, and has tokens that decode.
    """

    @property
    def layer_texts(self) -> tuple[str, ...]:
        """The text of each layer that a network can have: the vocabulary of a policy that reads chains."""
        ...

    @property
    def max_block_layers(self) -> int:
        """Maximum number of layers of a block."""
        ...

    @property
    def window_sizes(self) -> tuple[int, ...]:
        """Heights and widths that the window of a new layer may have, one at least."""
        ...

    def chain(self, tokens: Sequence[int]) -> Chain:
        """Return the layers that the tokens encode; no tokens at all are the start.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        ...

    def tokens_of(self, chain: Sequence[Layer]) -> Tokens:
        """Return the tokens of a chain."""
        ...

    def text(self, layer: Layer) -> str:
        """Return a layer as the published code writes it, such as `conv-64-3`."""
        ...

    def blocks(self, chain: Sequence[Layer]) -> list[range]:
        """Return the places of each block's layers. All networks have as many blocks."""
        ...

    def wider_width(self, layer: Layer) -> int | None:
        """Return the next width of a layer, or `None` if it has none or is as wide as it can be."""
        ...

    def deeper_places(self, chain: Sequence[Layer], block: range) -> range:
        """Return the places of a block's layers behind which there may be a new one; none if it is full."""
        ...

    def has_window(self, layer: Layer) -> bool:
        """Return whether a new layer behind this one has a window to choose."""
        ...

    def widened(self, chain: Chain, place: int, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the chain with the layer at a place wider, and the changes that make its network."""
        ...

    def deepened(self, chain: Chain, place: int, size: int, noise: float = ...) -> tuple[Chain, Changes]:
        """Return the chain with a new layer behind a place, and the changes that make its network.

        Args:
            chain: the layers.
            place: of the layer before the new one.
            size: height and width of the new layer's window, if it has one to choose.
            noise: of the new layer's weights, as a share of their standard deviation; each space has its own default.
        """
        ...

    def finished(self, chain: Chain, noise: float = WIDER_NOISE) -> tuple[Chain, Changes]:
        """Return the chain after what follows from all of its changes together, and that as changes; often none."""
        ...


class _HasStart(WidensAndDeepens, Protocol):
    """What `LayerChains.first` asks of a space."""

    first_changes: ClassVar[int]


class LayerChains(FreeForm):
    """A base for spaces of `WidensAndDeepens`: what follows from a start, the types of layers and a check."""

    types: ClassVar[tuple[str, ...]]
    """The types of layers, in the order of their tokens."""
    first_changes: ClassVar[int]
    """Number of changes between the start and a first sample."""

    @property
    def kind(self) -> Kind:
        """The kind of its architectures."""
        return "feedforward"

    def first(self: _HasStart, completed: int, rng: random.Random) -> Tokens:
        """Return the start after a few random changes."""
        return grown(self, (), self.first_changes, rng)

    def mutate(self: WidensAndDeepens, tokens: Sequence[int], rng: random.Random) -> Tokens:
        """Return the network with one layer wider or one layer more, each with probability 1/2 if both are possible."""
        return grown(self, tokens, 1, rng)

    def chain(self, tokens: Sequence[int]) -> Chain:
        """Return the layers that the tokens encode; no tokens at all are the start.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        if not tokens:
            return self.start_chain()
        chain = decoded(tokens, self.types)
        self.check(chain)
        return chain

    def tokens_of(self, chain: Sequence[Layer]) -> Tokens:
        """Return the tokens of a chain: each layer's number, type, width and size."""
        return tuple(
            token for layer in chain for token in (layer.number, self.types.index(layer.type), layer.width, layer.size)
        )

    def start_chain(self) -> Chain:
        """Return the layers of the network that all others grow from."""
        raise NotImplementedError

    def check(self, layers: Sequence[Layer]) -> None:
        """Raise `InvalidTokens` unless these are the layers of a network of this space."""
        raise NotImplementedError


def grown(space: WidensAndDeepens, tokens: Sequence[int], times: int, rng: random.Random) -> Tokens:
    """Return a network that has become wider or deeper so many times, each with probability 1/2 if both are possible.

    A step makes one layer wider, or inserts one.
    """
    for _ in range(times):
        chain = space.chain(tokens)
        wider = [place for place in range(len(chain)) if space.wider_width(chain[place])]
        places = [place for block in space.blocks(chain) for place in space.deeper_places(chain, block)]
        if wider and (not places or rng.random() < 0.5):
            chain, _ = space.widened(chain, rng.choice(wider))
        elif places:
            chain, _ = space.deepened(chain, rng.choice(places), rng.choice(space.window_sizes))
        tokens = space.tokens_of(space.finished(chain)[0])
    return tuple(tokens)


def blocks_between(chain: Sequence[Layer], separator: str, first: int = 0) -> list[range]:
    """Return the places between the layers of one type, block by block, from a place on."""
    between = [place for place, layer in enumerate(chain) if layer.type == separator]
    return [range(a + 1, b) for a, b in zip([first - 1, *between], [*between, len(chain)], strict=True)]


def decoded(tokens: Sequence[int], types: Sequence[str]) -> Chain:
    """Return the chain whose tokens are each layer's number, type, width and size.

    Raises:
        InvalidTokens: they are no layers, or two have one number.
    """
    if len(tokens) % TOKENS_PER_LAYER:
        raise InvalidTokens(f"a layer has {TOKENS_PER_LAYER} tokens, got {len(tokens)} in all: {list(tokens)[:8]}")
    layers: list[Layer] = []
    for begin in range(0, len(tokens), TOKENS_PER_LAYER):
        number, kind, width, size = tokens[begin : begin + TOKENS_PER_LAYER]
        if not (number >= 1 and 0 <= kind < len(types)):
            raise InvalidTokens(
                f"no layer is {[number, kind, width, size]}: a number from 1, and a type below {len(types)}"
            )
        layers.append(Layer(number, types[kind], width, size))
    if len({layer.number for layer in layers}) < len(layers):
        raise InvalidTokens("each layer must have a number of its own")
    return tuple(layers)


def next_number(chain: Sequence[Layer]) -> int:
    """Return the number of a new layer."""
    return max(layer.number for layer in chain) + 1


def check_ascending(space: object, *names: str) -> None:
    """Raise `ValueError` unless these options are one or more numbers from 1 in ascending order."""
    for name in names:
        numbers = getattr(space, name)
        if not numbers or min(numbers) < 1 or list(numbers) != sorted(set(numbers)):
            raise ValueError(f"`{name}` must be one or more different numbers in ascending order, got {numbers}")
