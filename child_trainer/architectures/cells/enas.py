"""Networks of ENAS's micro cells, as its published code builds them: final ones, and those of its search (spec §6.2).

Standard library only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import Cell, Genotype
from child_trainer.architectures.cells.growing import GrowingGraph, State


def network(
    genotype: Genotype, *, cells: int, filters: int, drop_path: bool = False, auxiliary: bool = False
) -> Architecture:
    """Return the final network of these cells, for CIFAR.

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
    reductions = _reductions(cells)
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


def search_network(
    gates: Mapping[str, Sequence[float]] | None,
    *,
    blocks: int,
    operations: Sequence[str],
    cells: int,
    filters: int,
) -> Architecture:
    """Return a network of the search, whose weights all cells can share; or the supernet of all such networks.

    Block b of the normal cells has the gates `normal.{b}a` and `normal.{b}b`, of which one is chosen: each operation
    on the newer input, on the older one, on the first block, and so on. The gate `normal.output` chooses, in the same
    order, the states that no block reads: each has a 1x1 convolution of its own, whose sum is the cell's output. The
    gates of the reduction cells begin with `reduction`.

    A reduction cell halves its newer input before all else. Unlike in the published code, its older input is the output
    of the cell before that one, as in the final network.

    Args:
        gates: what is chosen; `None`: the supernet.
        blocks: blocks of a cell.
        operations: the operations to choose from.
        cells: the number of normal cells, L; two reduction cells come in addition.
        filters: filters of the first cells, F; each reduction cell doubles them.
    """
    graph = GrowingGraph(gates=gates)
    stem = graph.conv("stem", State("image", 0, 0), 3, 3 * filters, order="conv-bn")
    older = newer = stem
    for place in range(cells + 2):
        cell = "reduction" if place in _reductions(cells) else "normal"
        filters *= 1 + (cell == "reduction")
        name = f"{cell}{place + 1}"
        read = newer
        if cell == "reduction":
            read = graph.factorised_reduction(f"{name}.half", newer, filters, relu=False)
        states = _fitted(graph, name, read, older, filters)
        for block in range(1, blocks + 1):
            sides = [
                graph.choose(f"{name}.{block}{side}", f"{cell}.{block}{side}", candidates)
                for side, candidates in _sides(graph, f"{name}.{block}", states, operations)
            ]
            states.append(graph.add(f"{name}.{block}", "add", sides))
        ends = [partial(_end, graph, f"{name}.output.{number}", state) for number, state in enumerate(states)]
        joined = graph.choose(f"{name}.output", f"{cell}.output", ends)
        older, newer = newer, graph.norm(f"{name}.norm", joined)
    features = graph.add("features", "relu", newer)
    return Architecture("feedforward", tuple(graph.nodes), (features.name,)).pruned()


def _reductions(cells: int) -> tuple[int, int]:
    """Return the places of the reduction cells among all cells, from 0."""
    return cells // 3, 2 * (cells // 3) + 1


def _sides(
    graph: GrowingGraph, name: str, states: Sequence[State], operations: Sequence[str]
) -> list[tuple[str, list[Callable[[], State]]]]:
    """Return both sides of a block, each with its candidates: every operation on every state."""
    return [
        (
            side,
            [
                partial(_apply, graph, f"{name}{side}.{number}.{operation}", operation, state, 1)
                for number, state in enumerate(states)
                for operation in operations
            ],
        )
        for side in "ab"
    ]


def _end(graph: GrowingGraph, name: str, state: State) -> State:
    active = graph.add(f"{name}.relu", "relu", state)
    return graph.conv(name, active, 1, state.channels, order="conv-unbiased")


def _fitted(graph: GrowingGraph, name: str, newer: State, older: State, filters: int) -> list[State]:
    """Bring both inputs of a cell to the size of the newer one and to its filters, where they have others."""
    for halving in range(newer.level - older.level):  # Two between a search's reduction cells that are neighbours.
        older = graph.factorised_reduction(f"{name}.older{halving or ''}", older, filters, relu=True)
    if older.channels != filters:
        older = graph.conv(f"{name}.older", older, 1, filters)
    if newer.channels != filters:
        newer = graph.conv(f"{name}.fit", newer, 1, filters)
    return [newer, older]


def _states(graph: GrowingGraph, name: str, newer: State, older: State, filters: int) -> list[State]:
    """Bring both inputs of a final network's cell to the size of the newer one and to its filters."""
    newer, older = _fitted(graph, name, newer, older, filters)
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
