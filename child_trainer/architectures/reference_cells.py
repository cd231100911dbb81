"""Recurrent cells from the literature, by name: baselines for the cells that a search finds. Standard library only."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture, Node, node


def lstm() -> Architecture:
    """Return the long short-term memory without peepholes (Zaremba et al. 2014, arXiv 1409.2329, section 3.1)."""
    nodes: list[Node] = []
    for gate, activation in (("i", "sigmoid"), ("f", "sigmoid"), ("g", "tanh"), ("o", "sigmoid")):
        nodes += [
            node(f"x_{gate}", "linear", "x"),
            node(f"h_{gate}", "linear", "h", bias=False),
            node(f"pre_{gate}", "add", (f"x_{gate}", f"h_{gate}")),
            node(gate, activation, f"pre_{gate}"),
        ]
    nodes += [
        node("kept", "multiply", ("f", "c")),
        node("written", "multiply", ("i", "g")),
        node("next_c", "add", ("kept", "written")),
        node("shown", "tanh", "next_c"),
        node("next_h", "multiply", ("o", "shown")),
    ]
    return Architecture("recurrent", tuple(nodes), ("next_h", "next_c"))


_LEAVES = (
    ("add", "sigmoid"),
    ("add", "relu"),
    ("add", "sigmoid"),
    ("multiply", "relu"),
    ("add", "tanh"),
    ("add", "sigmoid"),
    ("add", "tanh"),
    ("add", "sigmoid"),
)
_INNER = (
    ("multiply", "tanh"),
    ("add", "tanh"),
    ("multiply", "tanh"),
    ("add", "sigmoid"),
    ("multiply", "identity"),
    ("add", "tanh"),
    ("multiply", "tanh"),
)


def nas_cell() -> Architecture:
    """Return the cell that Zoph & Le's search found (arXiv 1611.01578, figure 8; spec §2.2: base 8, no biases)."""
    nodes: list[Node] = []
    value: list[str] = []
    for i, (combine, activation) in enumerate(_LEAVES):
        nodes += [node(f"x{i}", "linear", "x", bias=False), node(f"h{i}", "linear", "h", bias=False)]
        nodes += [node(f"pre{i}", combine, (f"x{i}", f"h{i}")), node(f"a{i}", activation, f"pre{i}")]
        value.append(f"a{i}")
    for i, (combine, activation) in enumerate(_INNER, start=len(_LEAVES)):
        left = 2 * (i - len(_LEAVES))
        nodes.append(node(f"pre{i}", combine, value[left : left + 2]))
        value.append(f"pre{i}")
        if activation != "identity":
            nodes.append(node(f"a{i}", activation, f"pre{i}"))
            value[i] = f"a{i}"
        if i == len(_LEAVES):  # node 8, into which the last c is injected
            nodes += [node("with_c", "add", (value[i], "c")), node("injected", "tanh", "with_c")]
            value[i] = "injected"
    return Architecture("recurrent", tuple(nodes), (value[14], "pre12"))


REFERENCE_CELLS: Mapping[str, Callable[[], Architecture]] = MappingProxyType({"lstm": lstm, "nas-cell": nas_cell})
"""Every reference cell by its name."""
