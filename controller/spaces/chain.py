"""The layer chains of MetaQNN (Baker et al. 2017, arXiv 1611.02167; spec §7): a Markov decision process of layers.

A network is one layer after another. Which layers may follow depends on the state: the last layer, the number of
layers so far, the height and width of the feature map, and the number of fully connected layers in a row.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from child_trainer.architectures.architecture import Architecture, Kind, Node, node
from child_trainer.field_types import check_types
from controller.decisions import Choice, Condition, Decisions, InvalidTokens, Tokens, check_tokens
from controller.limits import check_number

PUBLISHED = "C(512,5,1) C(256,3,1) C(256,5,1) C(256,3,1) P(5,3) C(512,3,1) C(512,5,1) P(2,2) SM"
"""The best network that the paper found on CIFAR-10, in the notation of `ChainSpace.tokens_of` (spec §7.3)."""

MAX_LAYERS = 200
"""Upper bound for `max_layers`; the time to sample a chain grows with its square."""

BINS = (8, 4, 1)
"""The bins of a feature map's height and width: 8 and more, 4 to 7, 1 to 3; each is named by its least."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, or the end of a chain.

    Attributes:
        type: a convolution, a pool, a fully connected layer; or an end: a softmax layer that reads the features as they
            are, or their global average (`average`).
        units: filters of a convolution, units of a fully connected layer.
        size: height and width of a convolution's or a pool's window.
        stride: of a convolution or a pool.
    """

    type: Literal["softmax", "average", "conv", "pool", "fully_connected"]
    units: int = 0
    size: int = 0
    stride: int = 1

    @property
    def text(self) -> str:
        """The layer in the paper's notation, such as `C(64,3,1)`."""
        match self.type:
            case "conv":
                return f"C({self.units},{self.size},{self.stride})"
            case "pool":
                return f"P({self.size},{self.stride})"
            case "fully_connected":
                return f"FC({self.units})"
            case "softmax":
                return "SM"
            case "average":
                return "GAP"


ENDS = (Layer("softmax"), Layer("average"))
"""The first options of each choice, so that the token 0 of a choice behind the end is an end too."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """What the next layer depends on.

    Attributes:
        layer: the last layer; `None` at the start.
        depth: layers so far.
        size: height and width of the feature map.
        fully_connected: fully connected layers in a row.
    """

    layer: Layer | None
    depth: int
    size: int
    fully_connected: int = 0

    @property
    def bin(self) -> int:
        """The bin of the feature map's height and width, one of `BINS`."""
        return next(least for least in BINS if self.size >= least)

    @property
    def text(self) -> str:
        """The state as the Q table knows it (spec §7.1): instead of the feature map's size it has the bin.

        So a layer may lead from one such state to several.
        """
        layer = self.layer.text if self.layer else "start"
        return f"{self.depth} {layer} {self.bin} {self.fully_connected}"


@dataclass(frozen=True, kw_only=True)
class ChainSpace:
    """Chains of convolutions, pools and fully connected layers, up to a softmax layer."""

    image_size: int = 32
    """Height and width of the task's images, on which it depends which windows fit (CIFAR-10: 32, digits: 8)."""
    filter_sizes: tuple[int, ...] = (1, 3, 5)
    """Heights and widths that a filter may have; the stride is 1."""
    num_filters: tuple[int, ...] = (64, 128, 256, 512)
    """Numbers of filters that a convolution may have."""
    pool_sizes: tuple[int, ...] = (5, 3, 2)
    """Sizes of the pooling layers to choose from."""
    pool_strides: tuple[int, ...] = (3, 2, 2)
    """Strides of the same pooling layers, as many as sizes."""
    units: tuple[int, ...] = (512, 256, 128)
    """Units that a fully connected layer may have."""
    max_fully_connected: int = 2
    """Maximum number of fully connected layers in a row; none may have more units than the one before."""
    max_layers: int = 12
    """Maximum number of layers (the paper's table: 12, its configuration for CIFAR-10: 18)."""
    max_dropout: float = 0.5
    """Dropout rate behind the last layer; it grows linearly. Each second and each fully connected layer has a dropout.
    0: no dropout."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("filter_sizes", "num_filters", "pool_sizes", "pool_strides", "units"):
            numbers = getattr(self, name)
            if not numbers or min(numbers) < 1 or (name != "pool_strides" and len(set(numbers)) < len(numbers)):
                kind = "" if name == "pool_strides" else "different "
                raise ValueError(f"`{name}` must be one or more {kind}numbers, each at least 1, got {numbers}")
        if len(self.pool_sizes) != len(self.pool_strides):
            raise ValueError(
                f"`pool_strides` must have as many numbers as `pool_sizes`, {len(self.pool_sizes)},"
                f" got {self.pool_strides}"
            )
        check_number(self, "max_layers", 1, MAX_LAYERS)
        for name, minimum in (("image_size", 1), ("max_fully_connected", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {getattr(self, name)}")
        if not 0 <= self.max_dropout < 1:
            raise ValueError(f"`max_dropout` must be at least 0 and below 1, got {self.max_dropout}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers to choose from, in the order of the tokens; the first two are ends."""
        return _layers(self)

    @property
    def start(self) -> ChainState:
        """The state before the first layer."""
        return ChainState(None, 0, self.image_size)

    def allowed(self, state: ChainState) -> tuple[int, ...]:
        """Return the tokens of the layers that may follow in this state, in ascending order (spec §7.1)."""
        return tuple(token for token, layer in enumerate(_layers(self)) if self._may_follow(state, layer))

    def follow(self, state: ChainState, token: int) -> ChainState:
        """Return the state after another layer, which is not an end."""
        layer = _layers(self)[token]
        size = state.size
        if layer.type == "pool":
            size = math.ceil((size - layer.size + 1) / layer.stride)
        in_a_row = state.fully_connected + 1 if layer.type == "fully_connected" else 0
        return ChainState(layer, state.depth + 1, size, in_a_row)

    def _may_follow(self, state: ChainState, layer: Layer) -> bool:
        if layer.type == "softmax":
            return True
        last = state.layer
        if last is not None and last.type == "fully_connected":
            narrows = layer.type == "fully_connected" and layer.units <= last.units
            return narrows and state.fully_connected < self.max_fully_connected and state.depth < self.max_layers
        if layer.type == "average":
            return True
        if state.depth == self.max_layers or layer.size > state.size:
            return False
        if layer.type == "pool":
            return last is not None and last.type == "conv"
        return layer.type == "conv" or (state.bin < BINS[0] and self.max_fully_connected > 0)

    def decisions(self, completed: int) -> Decisions:
        """Return the choices of one layer after another; they are the same throughout a search."""
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions, which take a token for each possible layer and one for the end."""
        if num_tokens != self.max_layers + 1:
            raise InvalidTokens(f"a chain of this space takes {self.max_layers + 1} tokens, got {num_tokens}")
        return _choices(self)

    def state(self, tokens: Sequence[int]) -> str:
        """Return the state of the Q table after these tokens, none of which is an end."""
        return _state(self, tuple(tokens)).text

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the chain that the tokens encode.

        It has no batch normalisation. The i-th of n dropouts has the rate i/n of the last's, `max_dropout` (spec §7.3).
        """
        *layers, end = self._chain(tokens)
        dropouts = [i for i, layer in enumerate(layers, 1) if i % 2 == 0 or layer.type == "fully_connected"]
        rates = {i: self.max_dropout * (k + 1) / len(dropouts) for k, i in enumerate(dropouts) if self.max_dropout}
        nodes: list[Node] = []
        for i, layer in enumerate(layers, 1):
            flat = i > 1 and layers[i - 2].type == "fully_connected"
            nodes += _nodes(f"layer{i}", layer, nodes[-1].name if nodes else "image", flat)
            if i in rates:
                nodes.append(node(f"dropout{i}", "dropout", nodes[-1].name, rate=rates[i]))
        source = nodes[-1].name if nodes else "image"
        if end.type == "average":
            nodes.append(node("features", "global_avg_pool", source))
        elif not layers or layers[-1].type != "fully_connected":
            nodes.append(node("features", "flatten", source))
        return Architecture("feedforward", tuple(nodes), (nodes[-1].name,))

    def tokens_of(self, genotype: str) -> Tokens:
        """Return the tokens of a chain in the paper's notation, which `genotypes` writes.

        It names the layers C(filters,size,stride), P(size,stride) and FC(units), and last the end, SM (softmax, also if
        none is named) or GAP (global average, then softmax).

        Raises:
            InvalidTokens: a layer is unknown, or may not stand where it does.
        """
        words = genotype.split()
        known = [layer.text for layer in _layers(self)]
        if unknown := next((word for word in words if word not in known), None):
            raise InvalidTokens(f"the layers of this space are {' '.join(known)}, got {unknown!r}")
        tokens = [known.index(word) for word in words]
        tokens += [0] * (self.max_layers + 1 - len(tokens))
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return tuple(tokens)

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the chain in the notation that `tokens_of` reads."""
        return {"MetaQNN": " ".join(layer.text for layer in self._chain(tokens))}

    def with_layer(self, tokens: Sequence[int], rng: random.Random) -> Tokens | None:
        """Return the chain with one more layer at a random place; `None` if no layer may stand anywhere."""
        chain = self._placed(tokens)
        places = [(place, layer) for place in range(len(chain)) for layer in range(len(ENDS), len(_layers(self)))]
        rng.shuffle(places)
        return self._first_sample([*chain[:place], layer, *chain[place:]] for place, layer in places)

    def without_layer(self, tokens: Sequence[int], rng: random.Random) -> Tokens | None:
        """Return the chain without one of its layers; `None` if it needs each of them."""
        chain = self._placed(tokens)
        places = list(range(len(chain) - 1))
        rng.shuffle(places)
        return self._first_sample([*chain[:place], *chain[place + 1 :]] for place in places)

    def _placed(self, tokens: Sequence[int]) -> Tokens:
        """Return the tokens of the layers and of the end."""
        return tuple(tokens[: len(self._chain(tokens))])

    def _first_sample(self, chains: Iterable[Sequence[int]]) -> Tokens | None:
        """Return the first of the chains that is a sample, or `None`."""
        for chain in chains:
            tokens = (*chain, *[0] * (self.max_layers + 1 - len(chain)))
            with suppress(InvalidTokens):
                check_tokens(self.decisions_of(len(tokens)), tokens)
                return tokens
        return None

    def _chain(self, tokens: Sequence[int]) -> list[Layer]:
        """Return the layers that the tokens encode, the end last."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        layers = [_layers(self)[token] for token in tokens]
        return layers[: 1 + next(i for i, layer in enumerate(layers) if layer in ENDS)]


@lru_cache(maxsize=64)
def _layers(space: ChainSpace) -> tuple[Layer, ...]:
    pools = zip(space.pool_sizes, space.pool_strides, strict=True)
    return (
        *ENDS,
        *(Layer("conv", filters, size) for filters in space.num_filters for size in space.filter_sizes),
        *(Layer("pool", 0, size, stride) for size, stride in pools),
        *(Layer("fully_connected", units) for units in space.units),
    )


@dataclass(frozen=True)
class _Allowed:
    """The rule of every choice: the layers that may follow the ones before it."""

    space: ChainSpace

    def __call__(self, tokens: Tokens) -> tuple[int, ...]:
        return self.space.allowed(_state(self.space, tokens))


@lru_cache(maxsize=4096)
def _state(space: ChainSpace, tokens: Tokens) -> ChainState:
    """Return the state after these layers."""
    return space.follow(_state(space, tokens[:-1]), tokens[-1]) if tokens else space.start


@lru_cache(maxsize=64)
def _choices(space: ChainSpace) -> tuple[Choice, ...]:
    """Return the choice of each layer; it applies unless the one before it is an end, or does not apply itself."""
    options, rule = tuple(layer.text for layer in _layers(space)), _Allowed(space)
    going_on = tuple(range(len(ENDS), len(options)))
    return tuple(
        Choice("layer", options, place, Condition(place - 2, going_on) if place > 1 else None, rule)
        for place in range(1, space.max_layers + 2)
    )


def _nodes(name: str, layer: Layer, source: str, flat: bool) -> list[Node]:
    """Return the nodes of a layer that reads `source`, a vector if `flat`; the last one is its output."""
    if layer.type == "conv":
        return [node(name, "conv", source, height=layer.size, width=layer.size, filters=layer.units, order="conv-relu")]
    if layer.type == "pool":
        window = {
            "height": layer.size,
            "width": layer.size,
            "stride_height": layer.stride,
            "stride_width": layer.stride,
        }
        return [node(name, "max_pool", source, padding="valid", **window)]
    features = [] if flat else [node(f"{name}.flat", "flatten", source)]
    linear = node(f"{name}.linear", "linear", features[-1].name if features else source, units=layer.units)
    return [*features, linear, node(name, "relu", linear.name)]
