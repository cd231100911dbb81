"""The convolutional space of Zoph & Le 2017 (arXiv 1611.01578, sections 3.2 and 3.3; spec sections 1.1 to 1.5)."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind, Node, node
from child_trainer.field_types import check_types
from controller.decisions import (
    Choice,
    Condition,
    Decision,
    Decisions,
    InvalidTokens,
    Subset,
    Tokens,
    check_tokens,
    offsets,
    uniform,
)
from controller.limits import check_number
from controller.spaces.layers import LayerTokens, Skips, inserted, joined, reconnected, removed, split_layers

LAYER_TYPES = ("conv", "pool", "local_contrast_norm", "batch_norm")
"""Types of layer that a space may have (spec §1.4)."""

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid")
"""Activations that a space may have; the paper has ReLU."""

Chosen = Mapping[str, int | float | str]
"""The values chosen for one layer, by the kind of decision."""


MAX_DEPTH = 200
"""Upper bound for `max_depth`; a sample has a token for each two layers, which may be connected."""


@dataclass(frozen=True, kw_only=True)
class ConvolutionalSpace:
    """Convolution layers with sampled sizes, strides, numbers of filters and skip connections."""

    filter_heights: tuple[int, ...] = (1, 3, 5, 7)
    """Heights that a filter may have."""
    filter_widths: tuple[int, ...] = (1, 3, 5, 7)
    """Widths that a filter may have."""
    strides: tuple[int, ...] = (1,)
    """Strides that a filter may have, chosen separately for height and width; a single one is fixed."""
    num_filters: tuple[int, ...] = (24, 36, 48, 64)
    """Numbers of filters that a layer may have."""
    activations: tuple[str, ...] = ("relu",)
    """Activations to choose from for each convolution: relu, leaky_relu, tanh, sigmoid; a single one is fixed."""
    skip_connections: bool = True
    """Whether each layer chooses its inputs among all earlier layers; if not, each reads the layer before it."""
    layer_types: tuple[str, ...] = ("conv",)
    """Types of layer to choose from: conv, pool, local_contrast_norm, batch_norm; a single one is fixed."""
    pool_sizes: tuple[int, ...] = (2, 3)
    """Sizes that a pooling layer may have (used if `pool` is among the layer types)."""
    pool_strides: tuple[int, ...] = (2,)
    """Strides that a pooling layer may have; a single one is fixed."""
    child_learning_rates: tuple[float, ...] = ()
    """Learning rates to choose from, one for each network; empty: the budget's learning rate."""
    initial_depth: int = 6
    """Layers of the first networks."""
    depth_step: int = 2
    """Layers added at each step of the depth schedule."""
    depth_interval: int = 1600
    """Completed children between two steps of the depth schedule."""
    max_depth: int = 20
    """Maximum number of layers (the schedule reaches it with the last 1,600 of the paper's 12,800 children)."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("filter_heights", "filter_widths", "strides", "num_filters", "pool_sizes", "pool_strides"):
            values = getattr(self, name)
            if not values or min(values) < 1 or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must be one or more different numbers, each at least 1, got {values}")
        for name, known in (("activations", ACTIVATIONS), ("layer_types", LAYER_TYPES)):
            names = getattr(self, name)
            if not names or not set(names) <= set(known) or len(set(names)) < len(names):
                raise ValueError(f"`{name}` must be different ones of {', '.join(known)}, got {names}")
        if not all(math.isfinite(rate) and rate > 0 for rate in self.child_learning_rates):
            raise ValueError(f"`child_learning_rates` must be positive numbers, got {self.child_learning_rates}")
        for name, minimum in (("initial_depth", 1), ("depth_step", 0), ("depth_interval", 1)):
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {getattr(self, name)}")
        check_number(self, "max_depth", 1, MAX_DEPTH)
        if self.max_depth < self.initial_depth:
            raise ValueError(
                f"`max_depth` must be at least the initial depth {self.initial_depth}, got {self.max_depth}"
            )
        if not _layer_choices(self, 1, 0) and not self.skip_connections:
            raise ValueError(f"`layer_types` {self.layer_types} without skip connections leave nothing to decide")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    def depth(self, completed: int) -> int:
        """Return the number of layers of a network sampled after `completed` children have ended (spec §1.5)."""
        return min(self.max_depth, self.initial_depth + self.depth_step * (completed // self.depth_interval))

    def decisions(self, completed: int) -> Decisions:
        """Return the decisions for one network at the depth that the schedule has reached."""
        return _decisions(self, self.depth(completed))

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice of the deepest network, by the choice's name."""
        return {d.name: len(d.options) for d in _decisions(self, self.max_depth) if isinstance(d, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions for a network of the depth that takes this many tokens."""
        for depth in range(self.initial_depth, self.max_depth + 1):
            decisions = _decisions(self, depth)
            if offsets(decisions)[-1] == num_tokens:
                return decisions
        raise InvalidTokens(
            f"{num_tokens} tokens fit no depth from {self.initial_depth} to {self.max_depth} of this space"
        )

    def with_layer(self, tokens: Sequence[int], rng: random.Random) -> Tokens | None:
        """Return the sample with one more layer, drawn uniformly, at a random place; `None` at the maximum depth."""
        whole, layers = self._split(tokens)
        if len(layers) == self.max_depth:
            return None
        choices = uniform(_decisions(self, 1), rng)[len(whole) :]
        place = rng.randrange(len(layers) + 1)
        return (*whole, *joined(inserted(layers, place, choices, rng, skips=self.skip_connections)))

    def without_layer(self, tokens: Sequence[int], rng: random.Random) -> Tokens | None:
        """Return the sample without one of its layers; `None` at the initial depth."""
        whole, layers = self._split(tokens)
        if len(layers) == self.initial_depth:
            return None
        return (*whole, *joined(removed(layers, rng.randrange(len(layers)))))

    def with_skips(self, tokens: Sequence[int], skips: Skips) -> Tokens:
        """Return the sample with all skip connections or with none (the paper's ablation, section 4.1).

        With none each layer reads the layer before it.

        Raises:
            ValueError: samples of this space have no skip connections.
        """
        if not self.skip_connections:
            raise ValueError("`skip_connections` must be true: the samples of this space choose none")
        whole, layers = self._split(tokens)
        return (*whole, *joined(reconnected(layers, skips)))

    def _split(self, tokens: Sequence[int]) -> tuple[Tokens, list[LayerTokens]]:
        """Return the tokens of the network as a whole, and those of each layer."""
        whole, choices = int(bool(self.child_learning_rates)), len(_layer_choices(self, 1, 0))
        num_decisions = len(self.decisions_of(len(tokens))) - whole
        depth = num_decisions // (choices + self.skip_connections)
        return tuple(tokens[:whole]), split_layers(tokens[whole:], choices, depth, skips=self.skip_connections)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network that the tokens encode, completed by the paper's three rules (spec §1.3)."""
        decisions = self.decisions_of(len(tokens))
        check_tokens(decisions, tokens)
        chosen, selected = _read(decisions, tokens, self)
        nodes: list[Node] = []
        consumed: set[int] = set()
        for layer in range(1, len(chosen)):
            sources = selected[layer] if self.skip_connections else [layer - 1] if layer > 1 else []
            consumed.update(sources)
            # R1: a layer without inputs reads the image.
            source = _concat(nodes, f"inputs{layer}", [f"layer{j}" for j in sources] or ["image"])
            nodes += _layer(layer, source, chosen[layer])
        # R2: the classifier reads all layers that no other layer reads.
        unread = [f"layer{j}" for j in range(1, len(chosen)) if j not in consumed]
        output = _concat(nodes, "features", unread)
        rate = chosen[0].get("learning_rate")
        hyperparameters = (("learning_rate", float(rate)),) if rate is not None else ()
        return Architecture("feedforward", tuple(nodes), (output,), hyperparameters)


@lru_cache(maxsize=256)
def _decisions(space: ConvolutionalSpace, depth: int) -> Decisions:
    decisions: list[Decision] = []
    if space.child_learning_rates:
        decisions.append(Choice("learning_rate", space.child_learning_rates))
    for layer in range(1, depth + 1):
        decisions += _layer_choices(space, layer, len(decisions))
        if space.skip_connections:
            decisions.append(Subset("skip", layer - 1))
    return tuple(decisions)


def _layer_choices(space: ConvolutionalSpace, layer: int, start: int) -> list[Decision]:
    """Return one layer's choices, in the order of the paper's figure 2; `start` is the index of the first."""
    types = space.layer_types
    several = len(types) > 1

    def when(layer_type: str) -> Condition | None:
        return Condition(start, (types.index(layer_type),)) if several else None

    choices: list[Decision] = [Choice("layer_type", types, layer)] if several else []
    if "conv" in types:
        strides = ("stride_height", "stride_width") if len(space.strides) > 1 else ()
        choices += [
            Choice("filter_height", space.filter_heights, layer, when("conv")),
            Choice("filter_width", space.filter_widths, layer, when("conv")),
            *(Choice(name, space.strides, layer, when("conv")) for name in strides),
            Choice("num_filters", space.num_filters, layer, when("conv")),
        ]
        if len(space.activations) > 1:
            choices.append(Choice("activation", space.activations, layer, when("conv")))
    if "pool" in types:
        choices.append(Choice("pool_size", space.pool_sizes, layer, when("pool")))
        if len(space.pool_strides) > 1:
            choices.append(Choice("pool_stride", space.pool_strides, layer, when("pool")))
    return choices


def _read(
    decisions: Decisions, tokens: Sequence[int], space: ConvolutionalSpace
) -> tuple[list[dict[str, int | float | str]], list[list[int]]]:
    """Return the chosen values and the selected inputs of each layer (index 0: the network as a whole)."""
    fixed: dict[str, int | float | str] = {
        "layer_type": space.layer_types[0],
        "stride_height": space.strides[0],
        "stride_width": space.strides[0],
        "pool_stride": space.pool_strides[0],
        "activation": space.activations[0],
    }
    per_layer = len(_layer_choices(space, 1, 0)) + space.skip_connections
    whole = int(bool(space.child_learning_rates))
    depth = (len(decisions) - whole) // per_layer
    chosen: list[dict[str, int | float | str]] = [{}] + [dict(fixed) for _ in range(depth)]
    selected: list[list[int]] = [[] for _ in range(depth + 1)]
    for index, (decision, start) in enumerate(zip(decisions, offsets(decisions), strict=False)):
        layer = 1 + (index - whole) // per_layer if index >= whole else 0
        if isinstance(decision, Choice):
            chosen[layer][decision.kind] = decision.options[tokens[start]]
        else:
            selected[layer] = [j + 1 for j in range(decision.width) if tokens[start + j]]
    return chosen, selected


def _concat(nodes: list[Node], name: str, sources: list[str]) -> str:
    """Return the only source, or a new node that joins the sources depth-wise with zero padding (R3)."""
    if len(sources) == 1:
        return sources[0]
    nodes.append(node(name, "concat", sources, pad=True))
    return name


def _layer(number: int, source: str, chosen: Chosen) -> list[Node]:
    """Return the nodes of one layer, of which the last is called `layer` with its number."""
    name = f"layer{number}"
    if chosen["layer_type"] == "conv":
        window = {
            "height": chosen["filter_height"],
            "width": chosen["filter_width"],
            "stride_height": chosen["stride_height"],
            "stride_width": chosen["stride_width"],
            "filters": chosen["num_filters"],
        }
        if chosen["activation"] == "relu":
            return [node(name, "conv", source, **window)]
        linear = node(f"conv{number}", "conv", source, order="conv-bn", **window)
        return [linear, node(name, str(chosen["activation"]), linear.name)]
    if chosen["layer_type"] == "pool":
        size, stride = chosen["pool_size"], chosen["pool_stride"]
        window = {"height": size, "width": size, "stride_height": stride, "stride_width": stride}
        return [node(name, "max_pool", source, **window)]
    return [node(name, str(chosen["layer_type"]), source)]
