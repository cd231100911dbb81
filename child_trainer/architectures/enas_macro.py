"""Networks of ENAS's macro space (Pham et al. 2018, arXiv 1802.03268, section 2.3; spec §6.1). Standard library only.

Each layer applies one of six operations to the layer before it, and adds any of the earlier layers. After a third and
after two thirds of the layers, all layers so far and the stem are halved by a factorised reduction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.growing import GrowingGraph, State

OPERATIONS = ("conv_3x3", "sep_3x3", "conv_5x5", "sep_5x5", "avg_3x3", "max_3x3")
"""The operation of each number in ENAS's code; `sep` is a depthwise-separable convolution."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network.

    Attributes:
        operation: one of `OPERATIONS`; it reads the layer before, the first one the stem.
        skips: the earlier values that are joined to the operation's: 0 is the stem, and k is layer k.
    """

    operation: str
    skips: tuple[int, ...]


def search_network(
    gates: Mapping[str, Sequence[float]] | None, *, layers: int, operations: Sequence[str], filters: int
) -> Architecture:
    """Return a network as the search trains it, in which all layers have equally many filters; or the supernet of all.

    Layer k has the gates `layer{k}.operation`, of which one is chosen, and `layer{k}.skips`: the stem and the layers 1
    to k - 2 in order, of which any are chosen. Their sum with the operation's value is normalised. The first layer has
    no skips.

    Args:
        gates: what is chosen; `None`: the supernet.
        layers: the number of layers, at least 3.
        operations: the operations to choose from.
        filters: filters of the stem and of each layer.
    """
    graph = GrowingGraph(gates=gates)
    values = [graph.conv("stem", State("image", 0, 0), 3, filters, order="conv-bn")]
    for number in range(1, layers + 1):
        name = f"layer{number}"
        candidates = [
            partial(_searched_operation, graph, f"{name}.{operation}", operation, values[-1], filters)
            for operation in operations
        ]
        value = graph.choose(f"{name}.value", f"{name}.operation", candidates)
        if number > 1:
            skips = [partial(_itself, skip) for skip in values[:-1]]
            value = graph.norm(f"{name}.norm", graph.add_chosen(f"{name}.sum", value, f"{name}.skips", skips))
        values.append(value)
        if number in halvings(layers):
            values = _halved(graph, f"pool{number}", values, filters)
    features = graph.add("features", "identity", values[-1])
    return Architecture("feedforward", tuple(graph.nodes), (features.name,)).pruned()


def final_network(layers: Sequence[Layer], *, filters: int) -> Architecture:
    """Return the network that is trained after the search: skips are concatenated, and filters double at each halving.

    As the published code builds it, except that its separable convolutions are separable here, and that it has no
    pools: a pool follows the 1x1 convolution as in the search (spec §6.1).
    """
    graph = GrowingGraph()
    values = [graph.conv("stem", State("image", 0, 0), 3, filters, order="conv-bn")]
    for number, layer in enumerate(layers, start=1):
        name = f"layer{number}"
        value = _final_operation(graph, f"{name}.{layer.operation}", layer.operation, values[-1], filters)
        if number > 1:
            joined = graph.concat(f"{name}.concat", [*(values[skip] for skip in layer.skips), value])
            value = graph.conv(f"{name}.merge", joined, 1, filters)
        values.append(value)
        if number in halvings(len(layers)):
            filters *= 2
            values = _halved(graph, f"pool{number}", values, filters)
    features = graph.add("features", "identity", values[-1])
    return Architecture("feedforward", tuple(graph.nodes), (features.name,)).pruned()


def halvings(layers: int) -> tuple[int, int]:
    """Return the layers, counted from 1, behind which the image is halved."""
    return layers // 3, 2 * (layers // 3)


def motif(layers: Sequence[Layer]) -> Architecture:
    """Return the network as a graph for people, in which each layer is one node and each skip a connection."""
    graph = GrowingGraph()
    values = [graph.add("stem", "part", State("image", 0, 0), label="stem")]
    for number, layer in enumerate(layers, start=1):
        label = layer.operation.replace("_", " ") + (", then halved" if number in halvings(len(layers)) else "")
        read = graph.concat(f"inputs{number}", [*(values[skip] for skip in layer.skips), values[-1]])
        values.append(graph.add(f"layer{number}", "part", read, label=label))
    return Architecture("feedforward", tuple(graph.nodes), (values[-1].name,))


def _itself(value: State) -> State:
    return value


def _halved(graph: GrowingGraph, name: str, values: Sequence[State], filters: int) -> list[State]:
    return [
        graph.factorised_reduction(f"{name}.{number}", value, filters, relu=False)
        for number, value in enumerate(values)
    ]


def _searched_operation(graph: GrowingGraph, name: str, operation: str, source: State, filters: int) -> State:
    """Add a 1x1 convolution, then the operation."""
    narrow = graph.conv(f"{name}.narrow", source, 1, filters, order="conv-bn-relu")
    kind, _, size = operation.partition("_")
    side = int(size[0])
    match kind:
        case "conv":
            return graph.conv(f"{name}.conv", narrow, side, filters, order="conv-bn-relu")
        case "sep":
            deep = graph.add(
                f"{name}.depthwise", "depthwise_conv", narrow, height=side, width=side, order="conv-unbiased"
            )
            return graph.conv(f"{name}.pointwise", deep, 1, filters, order="conv-bn-relu")
        case _:
            return graph.pool(f"{name}.pool", narrow, kind, side)


def _final_operation(graph: GrowingGraph, name: str, operation: str, source: State, filters: int) -> State:
    narrow = graph.conv(f"{name}.narrow", source, 1, filters)
    kind, _, size = operation.partition("_")
    side = int(size[0])
    match kind:
        case "conv":
            return graph.conv(f"{name}.conv", narrow, side, filters)
        case "sep":
            return graph.separable(name, narrow, side, filters, times=1)
        case _:
            return graph.pool(f"{name}.pool", narrow, kind, side)
