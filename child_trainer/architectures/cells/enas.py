"""Networks of ENAS's micro cells, built as the final networks of its published code are (spec §6.2).

Standard library only.
"""

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import Cell, Genotype
from child_trainer.architectures.cells.growing import GrowingGraph, State


def network(genotype: Genotype, *, cells: int, filters: int) -> Architecture:
    """Return the network of these cells, for CIFAR.

    Args:
        genotype: the two cells.
        cells: the number of normal cells, L; two reduction cells come in addition.
        filters: filters of the first cells, F; each reduction cell doubles them.
    """
    graph = GrowingGraph()
    stem = graph.conv("stem", State("image", 0, 0), 3, 3 * filters, order="conv-bn")
    older = newer = stem
    reductions = (cells // 3, 2 * (cells // 3) + 1)
    for place in range(cells + 2):
        reduces = place in reductions
        filters *= 1 + reduces
        name = f"{'reduction' if reduces else 'normal'}{place + 1}"
        cell = genotype.reduction if reduces else genotype.normal
        older, newer = newer, _cell(graph, name, cell, newer, older, filters, reduces=reduces)
    features = graph.add("features", "relu", newer)
    return Architecture("feedforward", tuple(graph.nodes), (features.name,))


def _cell(
    graph: GrowingGraph, name: str, cell: Cell, newer: State, older: State, filters: int, *, reduces: bool
) -> State:
    if older.level < newer.level:
        older = graph.factorised_reduction(f"{name}.older", older, filters, relu=True)
    elif older.channels != filters:
        older = graph.conv(f"{name}.older", older, 1, filters)
    if newer.channels != filters:
        newer = graph.conv(f"{name}.fit", newer, 1, filters)
    states = [graph.conv(f"{name}.newer", newer, 1, filters), older]
    for number, block in enumerate(cell.blocks, start=1):
        sides = []
        for side, state, operation in zip("ab", block.inputs, block.operations, strict=True):
            stride = 2 if reduces and state < 2 else 1
            sides.append(_apply(graph, f"{name}.{number}{side}", operation, states[state], stride))
        states.append(graph.add(f"{name}.{number}", "add", sides))
    level = max(states[number].level for number in cell.concat)
    outputs = []
    for number in cell.concat:
        state = states[number]
        if state.level < level:
            state = graph.factorised_reduction(f"{name}.fit{number}", state, filters, relu=False)
        outputs.append(state)
    return graph.concat(f"{name}.output", outputs)


def _apply(graph: GrowingGraph, name: str, operation: str, source: State, stride: int) -> State:
    """Add one operation; each keeps the number of filters, to which both inputs of a cell were brought."""
    filters = source.channels
    if operation == "identity":
        return source if stride == 1 else graph.factorised_reduction(name, source, filters, relu=False)
    kind, _, size = operation.rpartition("_")
    if kind in ("avg", "max"):
        return graph.pool(name, source, kind, int(size[0]), stride=stride)
    if kind == "sep":
        return graph.separable(name, source, int(size[0]), filters, stride=stride)
    raise ValueError(f"a network of ENAS's micro cells has no operation {operation!r}")
