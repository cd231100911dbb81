"""Networks of DARTS's cells, built as its published code does (arXiv 1806.09055; spec §12.1, §12.4).

Standard library only.
"""

from typing import Literal

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import Cell, Genotype
from child_trainer.architectures.cells.growing import GrowingGraph, State

Macro = Literal["cifar", "imagenet"]


def network(
    genotype: Genotype,
    *,
    cells: int,
    filters: int,
    macro: Macro = "cifar",
    drop_path: bool = False,
    auxiliary: bool = False,
) -> Architecture:
    """Return the network of these cells.

    Args:
        genotype: the two cells; the reduction cell stands at a third and at two thirds of the depth.
        cells: the number of all cells, L.
        filters: filters of the first cells, C; each reduction cell doubles them.
        macro: the stem: a 3x3 convolution for CIFAR, three with stride 2 for ImageNet.
        drop_path: whether a training may drop paths, every operation but identities, equally often at every depth.
        auxiliary: whether a second output is an auxiliary head's, behind the second reduction cell.
    """
    graph = GrowingGraph(drop_path=drop_path)
    image = State("image", 0, 0)
    older, newer = _stem(graph, image, filters, macro)
    reductions = (cells // 3, 2 * cells // 3)
    outputs = []
    for place in range(cells):
        reduces = place in reductions
        filters *= 1 + reduces
        name = f"{'reduction' if reduces else 'normal'}{place + 1}"
        cell = genotype.reduction if reduces else genotype.normal
        states = fitted_states(graph, name, newer, older, filters)
        older, newer = newer, _cell(graph, name, cell, states, reduces=reduces)
        if auxiliary and place == reductions[-1]:
            outputs.append(graph.auxiliary_head(newer).name)
    features = graph.add("features", "identity", newer)
    return Architecture("feedforward", tuple(graph.nodes), (features.name, *outputs))


def _stem(graph: GrowingGraph, image: State, filters: int, macro: Macro) -> tuple[State, State]:
    """Return the older and the newer input of the first cell."""
    if macro == "cifar":
        stem = graph.conv("stem", image, 3, 3 * filters, order="conv-bn")
        return stem, stem
    half = graph.conv("stem.1", image, 3, filters // 2, stride=2, order="conv-bn")
    older = graph.conv("stem.2", graph.add("stem.relu", "relu", half), 3, filters, stride=2, order="conv-bn")
    return older, graph.conv("stem.3", older, 3, filters, stride=2)


def fitted_states(graph: GrowingGraph, name: str, newer: State, older: State, filters: int) -> list[State]:
    """Bring both inputs of a cell to the size of the newer one and to its filters."""
    fit = f"{name}.older"
    if older.level < newer.level:
        older = graph.factorised_reduction(fit, older, filters, relu=True)
    else:
        older = graph.conv(fit, older, 1, filters)
    return [graph.conv(f"{name}.newer", newer, 1, filters), older]


def _cell(graph: GrowingGraph, name: str, cell: Cell, states: list[State], *, reduces: bool) -> State:
    for number, block in enumerate(cell.blocks, start=1):
        sides = []
        for side, state, operation in zip("ab", block.inputs, block.operations, strict=True):
            part = f"{name}.{number}{side}"
            value = apply(graph, part, operation, states[state], 2 if reduces and state < 2 else 1)
            sides.append(value if operation == "identity" else graph.droppable(f"{part}.drop", value, 1.0))
        states.append(graph.add(f"{name}.{number}", "add", sides))
    return graph.concat(f"{name}.output", [states[state] for state in cell.concat])


def apply(graph: GrowingGraph, name: str, operation: str, source: State, stride: int) -> State:
    """Add one operation; each keeps the number of filters, to which both inputs of a cell were brought."""
    filters = source.channels
    kind, _, size = operation.rpartition("_")
    match kind:
        case "avg" | "max":
            return graph.pool(name, source, kind, int(size[0]), stride=stride)
        case "sep":
            return graph.separable(name, source, int(size[0]), filters, stride=stride)
        case "dil_sep":
            return graph.separable(name, source, int(size[0]), filters, stride=stride, times=1, dilation=2)
        case "conv_1x7":
            row = graph.add(f"{name}.relu", "relu", source)
            return _crossed(graph, name, row, stride)
    if operation == "identity":
        return source if stride == 1 else graph.factorised_reduction(name, source, filters, relu=True)
    raise ValueError(f"a network of DARTS has no operation {operation!r}")


def _crossed(graph: GrowingGraph, name: str, source: State, stride: int) -> State:
    filters = source.channels
    row = graph.add(
        f"{name}.row", "conv", source, height=1, width=7, filters=filters, order="conv-unbiased", stride_width=stride
    )
    row = State(row.name, filters, source.level)
    return graph.add(
        f"{name}.column", "conv", row, height=7, width=1, filters=filters, order="conv-bn", stride_height=stride
    )
