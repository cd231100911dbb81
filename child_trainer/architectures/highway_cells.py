"""Recurrent cells of highway layers, as ENAS and DARTS search them; and their supernets. Standard library only.

A layer carries a value s on to s + g (f - s), by the share g = sigmoid(W s) and the candidate f = activation(V s). The
first layer, number 0, carries the last state h by a share and a candidate of x and h, with tanh. The next state is the
mean of the other layers (Pham et al. 2018, arXiv 1802.03268, section 2.1, as in the authors' code; Liu et al. 2019,
arXiv 1806.09055, section 3.1; spec §6.3, §12.4). No map has a bias.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.architectures.cells.growing import GrowingGraph, State

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
"""The activation of each number in ENAS's code."""

NONE = "none"
"""The operation of an edge of DARTS's supernet that gives nothing."""

FIRST = "layer0"
"""The name of the first layer, which every cell has."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a cell.

    Attributes:
        source: the number of the layer whose value it carries on, from 0.
        activation: one of `ACTIVATIONS`, of its candidate.
    """

    source: int
    activation: str


def cell(layers: Sequence[Layer], output: Sequence[int] | None = None) -> Architecture:
    """Return the cell of these layers.

    Args:
        layers: from number 1.
        output: the numbers of the layers whose mean is the next state; default: all.
    """
    graph = GrowingGraph()
    values = [_first(graph)]
    for number, layer in enumerate(layers, start=1):
        values.append(_whole_layer(graph, f"layer{number}", values[layer.source], layer.activation))
    return _cell(graph, values[1:] if output is None else [values[number] for number in output])


def enas_gate(layer: int) -> str:
    """Return the name of the gate of a layer, from 1."""
    return f"layer{layer}"


def enas_search_cell(
    gates: Mapping[str, Sequence[float]] | None, *, layers: int, activations: Sequence[str]
) -> Architecture:
    """Return a cell as ENAS's search trains it, or the supernet of all.

    A layer has weights of its own for each layer that it may carry on and each activation. Its gate chooses one of
    these pairs, of which those with the first source come first.

    Args:
        gates: one pair for each layer; `None`: the supernet.
        layers: the number of layers that are searched.
        activations: the activations to choose from.
    """
    graph = GrowingGraph(gates=gates)
    values = [_first(graph)]
    for number in range(1, layers + 1):
        name = f"layer{number}"
        pairs = [
            partial(_whole_layer, graph, f"{name}.{source}-{activation}", value, activation)
            for source, value in enumerate(values)
            for activation in activations
        ]
        values.append(graph.choose(name, enas_gate(number), pairs))
    return _cell(graph, values[1:])


def darts_gate(source: int, target: int) -> str:
    """Return the name of the gate of the edge between two layers, such as `0-3`."""
    return f"{source}-{target}"


def darts_search_cell(
    gates: Mapping[str, Sequence[float]] | None, *, layers: int, operations: Sequence[str]
) -> Architecture:
    """Return a cell as DARTS's search trains it, or the supernet of all.

    A layer is the sum of its edges from all earlier layers, normalised by batch normalisation without weights. An edge
    has a share and a candidate of its own, and one of several activations; its gate chooses which.

    Args:
        gates: one operation, or nothing, at each edge, and an operation at one or more edges into each layer; `None`:
            the supernet.
        layers: the number of layers that are searched.
        operations: the options of each edge, in order: activations, and `NONE`.
    """
    graph = GrowingGraph(affine=False, gates=gates)
    values = [graph.norm(f"{FIRST}.norm", _first(graph))]
    for number in range(1, layers + 1):
        name = f"layer{number}"
        edges = [
            _edge(graph, f"{name}.{source}", darts_gate(source, number), value, operations)
            for source, value in enumerate(values)
            if gates is None or any(gates[darts_gate(source, number)])
        ]
        total = edges[0] if len(edges) == 1 else graph.add(f"{name}.sum", "add", edges)
        values.append(graph.norm(f"{name}.norm", total))
    return _cell(graph, values[1:])


def motif(layers: Sequence[Layer], output: Sequence[int] | None = None) -> Architecture:
    """Return the cell of `cell` as a graph for people, in which each layer is one node."""
    nodes: list[Node] = [node("inputs", "add", ("x", "h")), node(FIRST, "part", "inputs", label="tanh")]
    for number, layer in enumerate(layers, start=1):
        nodes.append(node(f"layer{number}", "part", f"layer{layer.source}", label=layer.activation))
    read = range(1, len(layers) + 1) if output is None else output
    nodes.append(node("next_h", "mean", [f"layer{number}" for number in read]))
    return Architecture("recurrent", tuple(nodes), ("next_h",))


def _cell(graph: GrowingGraph, values: Sequence[State]) -> Architecture:
    output = graph.add("next_h", "mean", values)
    return Architecture("recurrent", tuple(graph.nodes), (output.name,)).pruned()


def _first(graph: GrowingGraph) -> State:
    """Add the layer that reads the input and the last state, a map of both as the sum of a map of each."""
    x, h = State("x", 0, 0), State("h", 0, 0)

    def both(part: str) -> State:
        maps = [graph.add(f"{FIRST}.{part}_{source.name}", "linear", source, bias=False) for source in (x, h)]
        return graph.add(f"{FIRST}.{part}", "add", maps)

    share = graph.add(f"{FIRST}.share", "sigmoid", both("gate"))
    return _carried(graph, FIRST, h, both("candidate"), share, "tanh")


def _maps(graph: GrowingGraph, name: str, carried: State) -> tuple[State, State]:
    """Add the maps of a value; return the candidate before its activation, and the share."""
    gate = graph.add(f"{name}.gate", "linear", carried, bias=False)
    candidate = graph.add(f"{name}.candidate", "linear", carried, bias=False)
    return candidate, graph.add(f"{name}.share", "sigmoid", gate)


def _carried(graph: GrowingGraph, name: str, carried: State, candidate: State, share: State, activation: str) -> State:
    """Add the activation of a candidate, and what a value becomes by its share."""
    if activation != "identity":
        candidate = graph.add(f"{name}.{activation}", activation, candidate)
    return graph.add(name, "interpolate", (carried, candidate, share))


def _whole_layer(graph: GrowingGraph, name: str, carried: State, activation: str) -> State:
    return _carried(graph, name, carried, *_maps(graph, name, carried), activation)


def _edge(graph: GrowingGraph, name: str, gate: str, carried: State, operations: Sequence[str]) -> State:
    """Add an edge of DARTS's search, whose options share its maps."""
    maps = _maps(graph, name, carried)

    def option(operation: str) -> State:
        if operation == NONE:
            return graph.add(f"{name}.{NONE}", "zero", carried)
        return _carried(graph, f"{name}.{operation}", carried, *maps, operation)

    return graph.choose(name, gate, [partial(option, operation) for operation in operations])
