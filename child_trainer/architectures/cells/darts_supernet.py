"""DARTS's supernet: every operation on every edge of its cells, mixed; and its children (arXiv 1806.09055; spec §12.1).

Its numbers of states are DARTS's: 0 is the older input of a cell, 1 the newer one, 2 the first intermediate node. Gates
are shared by all normal cells and by all reduction cells. Standard library only.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.darts import apply, fitted_states
from child_trainer.architectures.cells.growing import GrowingGraph, State

NONE = "none"
"""The operation that gives nothing."""

OPERATIONS = (NONE, "max_3x3", "avg_3x3", "identity", "sep_3x3", "sep_5x5", "dil_sep_3x3", "dil_sep_5x5")
"""The operations of an edge, in DARTS's order; all but the first are a `cells.cell.Cell`'s."""

CELLS = ("normal", "reduction")

NODES = 4
"""Intermediate nodes of a cell."""

Edge = tuple[int, int]
"""From a state to an intermediate node, each by its number."""


def edges(nodes: int = NODES) -> tuple[Edge, ...]:
    """Return the edges of a cell, in the order of the rows of DARTS's alphas."""
    return tuple((source, target) for target in range(2, 2 + nodes) for source in range(target))


def gate(cell: str, edge: Edge) -> str:
    """Return the name of the gate of an edge of the normal or the reduction cells, such as `normal.0-2`."""
    return f"{cell}.{edge[0]}-{edge[1]}"


def supernet(*, cells: int, filters: int, nodes: int = NODES, operations: tuple[str, ...] = OPERATIONS) -> Architecture:
    """Return the supernet that DARTS searches in; see `search_network`."""
    return search_network(None, cells=cells, filters=filters, nodes=nodes, operations=operations)


def search_network(
    gates: Mapping[str, Sequence[float]] | None,
    *,
    cells: int,
    filters: int,
    nodes: int = NODES,
    operations: tuple[str, ...] = OPERATIONS,
) -> Architecture:
    """Return a child of the supernet that DARTS searches in, or the supernet itself.

    Batch normalisation has weights in the stem only, and follows each pool, unlike in a final network.

    Args:
        gates: one operation, or nothing, at each edge, and an operation at one or more edges of each node; `None`: the
            supernet.
        cells: the number of all cells, L; the reduction cells stand at a third and at two thirds of the depth.
        filters: filters of the first cells, C; each reduction cell doubles them.
        nodes: intermediate nodes of each cell.
        operations: the options of each edge, in order.
    """
    graph = GrowingGraph(affine=False, gates=gates)
    wide = 3 * filters
    stem = graph.add("stem", "conv", State("image", 0, 0), wide, height=3, width=3, filters=wide, order="conv-bn")
    older = newer = stem
    for place in range(cells):
        reduces = place in (cells // 3, 2 * cells // 3)
        filters *= 1 + reduces
        cell = CELLS[reduces]
        name = f"{cell}{place + 1}"
        newest, oldest = fitted_states(graph, name, newer, older, filters)
        states = [oldest, newest]
        for target in range(2, 2 + nodes):
            mixed = [
                _edge(
                    graph,
                    f"{name}.{source}-{target}",
                    gate(cell, (source, target)),
                    states[source],
                    operations,
                    2 if reduces and source < 2 else 1,
                )
                for source in range(target)
                if gates is None or any(gates[gate(cell, (source, target))])
            ]
            states.append(graph.add(f"{name}.{target}", "add", mixed))
        older, newer = newer, graph.concat(f"{name}.output", states[2:])
    features = graph.add("features", "identity", newer)
    return Architecture("feedforward", tuple(graph.nodes), (features.name,)).pruned()


def _edge(graph: GrowingGraph, name: str, gate: str, source: State, operations: tuple[str, ...], stride: int) -> State:
    options = [partial(_option, graph, f"{name}.{operation}", operation, source, stride) for operation in operations]
    return graph.choose(name, gate, options)


def _option(graph: GrowingGraph, name: str, operation: str, source: State, stride: int) -> State:
    if operation == NONE:
        fitted = graph.pool(f"{name}.fit", source, "max", 1, stride=stride) if stride > 1 else source
        return graph.add(name, "zero", fitted)
    value = apply(graph, name, operation, source, stride)
    # The search normalises what a pool gives; the final network does not.
    return graph.norm(f"{name}.norm", value) if operation.startswith(("avg", "max")) else value
