"""The recurrent-cell space of Zoph & Le 2017 (arXiv 1611.01578, section 3.4; spec section 2.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture, Kind, Node, node
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, check_tokens
from controller.limits import check_number

COMBINATIONS: Mapping[str, str] = MappingProxyType({"elem_mult": "multiply", "add": "add", "max": "maximum"})
"""The operation of each way to combine two values; the paper's space has the first two."""

MAX_BASE = 100
"""Upper bound for `base`; a cell of more leaves takes minutes to build."""

ACTIVATIONS = ("identity", "tanh", "sigmoid", "relu", "sin")
"""Activations. Each is an operation of its name; `identity` needs none. The paper's space has all but `sin`."""


@dataclass(frozen=True, kw_only=True)
class RecurrentSpace:
    """Cells that combine the input and the last state in a binary tree, and inject the memory at one of its nodes."""

    base: int = 8
    """Leaves of the cell's tree, each of which reads the input and the last state; a cell has 2 x base - 1 nodes."""
    combinations: tuple[str, ...] = ("elem_mult", "add")
    """Ways in which a node may combine the two values that it reads: elem_mult, add, max."""
    activations: tuple[str, ...] = ("identity", "tanh", "sigmoid", "relu")
    """Activations that a node may have: identity, tanh, sigmoid, relu, sin."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "base", 2, MAX_BASE)
        for name, known in (("combinations", tuple(COMBINATIONS)), ("activations", ACTIVATIONS)):
            values = getattr(self, name)
            if not values or not set(values) <= set(known) or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must be one or more different ones of {', '.join(known)}, got {values}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, one step of a recurrent cell."""
        return "recurrent"

    @property
    def num_nodes(self) -> int:
        """The number of the tree's nodes: leaves first, then level by level; the last is the root."""
        return 2 * self.base - 1

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the decisions for one cell.

        They are a combination and an activation for each node, and then where the memory goes.
        """
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, of which there is a single sequence."""
        choices = _choices(self)
        if num_tokens != len(choices):
            raise InvalidTokens(f"a cell of base {self.base} takes {len(choices)} tokens, got {num_tokens}")
        return choices

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the cell that the tokens encode; its outputs are the next h and the next c.

        The next h is the root's value, after the injection if that is where c comes in; the next c is a node's value
        before its activation (spec §2.1).
        """
        choices = self.decisions_of(len(tokens))
        check_tokens(choices, tokens)
        *chosen, cell_index, inject_index = (c.options[token] for c, token in zip(choices, tokens, strict=True))
        nodes: list[Node] = []
        values: list[str] = []
        for i in range(self.num_nodes):
            sources = _leaf(nodes, i) if i < self.base else _children(values, i - self.base)
            nodes.append(node(f"pre{i}", COMBINATIONS[str(chosen[2 * i])], sources))
            values.append(_activate(nodes, f"act{i}", str(chosen[2 * i + 1]), f"pre{i}"))
            if i == inject_index:
                nodes.append(node("joined", COMBINATIONS[str(chosen[-2])], (values[i], "c")))
                values[i] = _activate(nodes, "injected", str(chosen[-1]), "joined")
        return Architecture("recurrent", tuple(nodes), (values[-1], f"pre{cell_index}"))


@lru_cache(maxsize=256)
def _choices(space: RecurrentSpace) -> tuple[Choice, ...]:
    """Return the space's choices. Their places are the tree's nodes, numbered from 1; 0 is the cell as a whole."""
    indices = tuple(range(space.num_nodes))
    per_node = [
        choice
        for i in indices
        for choice in (
            Choice("combination", space.combinations, i + 1),
            Choice("activation", space.activations, i + 1),
        )
    ]
    return (
        *per_node,
        Choice("inject_combination", space.combinations),
        Choice("inject_activation", space.activations),
        Choice("cell_index", indices),
        Choice("inject_index", indices),
    )


def _leaf(nodes: list[Node], leaf: int) -> tuple[str, str]:
    """Add the linear maps of the input and of the last state that a leaf reads, and return their names."""
    input_map = node(f"w{leaf}", "linear", "x", bias=False)
    state_map = node(f"u{leaf}", "linear", "h", bias=False)
    nodes += [input_map, state_map]
    return input_map.name, state_map.name


def _children(values: Sequence[str], inner: int) -> tuple[str, str]:
    """Return the two values that inner node number `inner`, counted from the first after the leaves, reads."""
    return values[2 * inner], values[2 * inner + 1]


def _activate(nodes: list[Node], name: str, activation: str, source: str) -> str:
    """Return the source itself for `identity`, or else a new node with its activation."""
    if activation == "identity":
        return source
    nodes.append(node(name, activation, source))
    return name
