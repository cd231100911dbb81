"""Several convolutional networks on one image, of which one is selected ("A-GEM" of the article; spec §17).

The article's A-GEM has nothing in common with Averaged Gradient Episodic Memory. It defines no search space; it names
activations of hidden layers. So each sub-network is a sample of the space of Zoph & Le 2017 with a choice of each
layer's activation, and the last decisions select a sub-network, one for each time step of the controller.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from child_trainer.architectures.architecture import MAX_OUTPUTS, Architecture, Kind, Node
from child_trainer.field_types import check_types
from controller.decisions import Choice, Decision, Decisions, InvalidTokens, Subset, Tokens, check_tokens, offsets
from controller.limits import check_number
from controller.spaces.convolutional import ACTIVATIONS, MAX_DEPTH, ConvolutionalSpace

SELECTION = "selection"
"""The kind of a selection step, before its number."""

MAX_SUBNETWORKS = MAX_OUTPUTS["feedforward"]
MAX_STEPS = 100
"""Upper bounds for `subnetworks` and `selection_steps`."""


@dataclass(frozen=True, kw_only=True)
class SubnetworkSpace:
    """Sub-networks of convolution layers, and the selection of one of them.

    The network of a sample has an output for each sub-network: first that of the selected one, which most of the
    selection steps name, of equals the one with the smallest number. So the selected sub-network is what remains of a
    child where one network is wanted; the others serve training alone.
    """

    subnetworks: int = 2
    """Sub-networks of a child."""
    selection_steps: int = 3
    """Selections of a sub-network for each child; the one that most of them name is what the child is judged by."""
    layers: int = 6
    """Convolution layers of each sub-network."""
    filter_heights: tuple[int, ...] = (1, 3, 5, 7)
    """Heights that a filter may have."""
    filter_widths: tuple[int, ...] = (1, 3, 5, 7)
    """Widths that a filter may have."""
    strides: tuple[int, ...] = (1,)
    """Strides that a filter may have, chosen separately for height and width; a single one is fixed."""
    num_filters: tuple[int, ...] = (24, 36, 48, 64)
    """Numbers of filters that a layer may have."""
    activations: tuple[str, ...] = ACTIVATIONS
    """Activations that a layer may have: relu, leaky_relu, tanh, sigmoid; a single one is fixed."""
    skip_connections: bool = True
    """Whether each layer chooses its inputs among all earlier layers; if not, each reads the layer before it."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "subnetworks", 2, MAX_SUBNETWORKS)
        check_number(self, "selection_steps", 1, MAX_STEPS)
        check_number(self, "layers", 1, MAX_DEPTH)
        _ = _member(self)  # checks the others

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    def decisions(self, completed: int) -> Decisions:
        """Return the decisions of one sub-network after another, then the selection steps."""
        return _decisions(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {d.name: len(d.options) for d in _decisions(self) if isinstance(d, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions, which always take the same number of tokens."""
        decisions = _decisions(self)
        if num_tokens != offsets(decisions)[-1]:
            raise InvalidTokens(f"a sample of this space takes {offsets(decisions)[-1]} tokens, got {num_tokens}")
        return decisions

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the sub-networks as one graph, whose first output is the selected one's."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        members = [self._network(number, part) for number, part in enumerate(self._parts(tokens), start=1)]
        selected = self.selected(tokens)
        order = [selected, *(index for index in range(self.subnetworks) if index != selected)]
        nodes = tuple(n for member in members for n in member.nodes)
        return Architecture("feedforward", nodes, tuple(members[index].outputs[0] for index in order))

    def selected(self, tokens: Sequence[int]) -> int:
        """Return the sub-network, from 0, that most of the selection steps name; of equals the smallest number."""
        counts = Counter(tokens[-self.selection_steps :])
        return min(counts, key=lambda index: (-counts[index], index))

    def _parts(self, tokens: Sequence[int]) -> list[Tokens]:
        """Return the tokens of each sub-network."""
        length = offsets(_member(self).decisions(0))[-1]
        return [tuple(tokens[k * length : (k + 1) * length]) for k in range(self.subnetworks)]

    def _network(self, number: int, tokens: Tokens) -> Architecture:
        """Return one sub-network; its nodes are called `sub` and its number, a dot, and their name."""
        network = _member(self).decode(tokens)
        new = {n.name: f"sub{number}.{n.name}" for n in network.nodes}
        nodes = tuple(
            Node(new[n.name], n.op, tuple(new.get(source, source) for source in n.inputs), n.attributes)
            for n in network.nodes
        )
        return Architecture(network.kind, nodes, (new[network.outputs[0]],))


@lru_cache(maxsize=64)
def _member(space: SubnetworkSpace) -> ConvolutionalSpace:
    """Return the space of one sub-network."""
    return ConvolutionalSpace(
        filter_heights=space.filter_heights,
        filter_widths=space.filter_widths,
        strides=space.strides,
        num_filters=space.num_filters,
        activations=space.activations,
        skip_connections=space.skip_connections,
        initial_depth=space.layers,
        max_depth=space.layers,
        depth_step=0,
    )


@lru_cache(maxsize=64)
def _decisions(space: SubnetworkSpace) -> Decisions:
    decisions: list[Decision] = []
    for member in range(space.subnetworks):
        # Layers are counted through all sub-networks, so that each choice has a name of its own.
        decisions += [
            decision if isinstance(decision, Subset) else _moved(decision, member * space.layers)
            for decision in _member(space).decisions(0)
        ]
    numbers = tuple(range(1, space.subnetworks + 1))
    decisions += [Choice(f"{SELECTION}_{step}", numbers) for step in range(1, space.selection_steps + 1)]
    return tuple(decisions)


def _moved(decision: Decision, layers: int) -> Choice:
    """Return a choice that is made so many layers later."""
    assert isinstance(decision, Choice), "a convolutional space has choices and subsets only"
    return replace(decision, place=decision.place + layers)
