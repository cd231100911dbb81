"""Networks of ENAS's micro cells, built as the final networks of its published code are (spec §6.2).

Standard library only.
"""

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import Cell, Genotype
from child_trainer.architectures.cells.growing import GrowingGraph, State


def network(
    genotype: Genotype, *, cells: int, filters: int, drop_path: bool = False, auxiliary: bool = False
) -> Architecture:
    """Return the network of these cells, for CIFAR.

    Args:
        genotype: the two cells.
        cells: the number of normal cells, L; two reduction cells come in addition.
        filters: filters of the first cells, F; each reduction cell doubles them.
        drop_path: whether a training may drop paths (ScheduledDropPath; spec §3.3): every operation but identities.
        auxiliary: whether a second output is an auxiliary head's, one cell behind the second reduction cell.
    """
    graph = GrowingGraph(drop_path=drop_path)
    stem = graph.conv("stem", State("image", 0, 0), 3, 3 * filters, order="conv-bn")
    older = newer = stem
    reductions = (cells // 3, 2 * (cells // 3) + 1)
    outputs = []
    for place in range(cells + 2):
        reduces = place in reductions
        filters *= 1 + reduces
        name = f"{'reduction' if reduces else 'normal'}{place + 1}"
        cell = genotype.reduction if reduces else genotype.normal
        depth = (place + 1) / (cells + 2)
        states = _states(graph, name, newer, older, filters)
        older, newer = newer, _cell(graph, name, cell, states, depth, reduces=reduces)
        if auxiliary and place == reductions[-1] + 1:
            outputs.append(graph.auxiliary_head(newer).name)
    features = graph.add("features", "relu", newer)
    return Architecture("feedforward", tuple(graph.nodes), (features.name, *outputs))


def _states(graph: GrowingGraph, name: str, newer: State, older: State, filters: int) -> list[State]:
    """Bring both inputs of a cell to the size of the newer one and to its filters."""
    if older.level < newer.level:
        older = graph.factorised_reduction(f"{name}.older", older, filters, relu=True)
    elif older.channels != filters:
        older = graph.conv(f"{name}.older", older, 1, filters)
    if newer.channels != filters:
        newer = graph.conv(f"{name}.fit", newer, 1, filters)
    return [graph.conv(f"{name}.newer", newer, 1, filters), older]


def _cell(graph: GrowingGraph, name: str, cell: Cell, states: list[State], depth: float, *, reduces: bool) -> State:
    for number, block in enumerate(cell.blocks, start=1):
        sides = []
        for side, state, operation in zip("ab", block.inputs, block.operations, strict=True):
            part = f"{name}.{number}{side}"
            value = _apply(graph, part, operation, states[state], 2 if reduces and state < 2 else 1)
            sides.append(value if operation == "identity" else graph.droppable(f"{part}.drop", value, depth))
        states.append(graph.add(f"{name}.{number}", "add", sides))
    level = max(states[number].level for number in cell.concat)
    outputs = []
    for number in cell.concat:
        state = states[number]
        if state.level < level:
            state = graph.factorised_reduction(f"{name}.fit{number}", state, state.channels, relu=False)
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
