"""Networks of One-Shot's cells (Bender et al. 2018, "Understanding and simplifying one-shot architecture search").

A cell is a list of choice blocks. Each adds one or two earlier values, applies one or two operations to the sum, and
adds their values (spec §11). Sizes, and how cells read each other, are ours. Standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.growing import GrowingGraph, State

OPERATIONS = ("identity", "conv_1x1", "sep_3x3", "sep_5x5", "sep_7x7", "max_3x3", "avg_3x3")
"""Operations that a block may apply; each convolution is a pair of them."""

STAGES = 3
"""Stages of the network; each later one halves the image and doubles the filters."""

ORDER = "bn-relu-conv"


@dataclass(frozen=True, slots=True)
class ChoiceBlock:
    """What a block chose.

    Attributes:
        inputs: numbers of the values that it adds: 0 is the output of the cell before, 1 that of the one before that,
            and 2 the first block's value.
        operations: of `OPERATIONS`.
    """

    inputs: tuple[int, ...]
    operations: tuple[str, ...]


def network(
    gates: Mapping[str, Sequence[float]] | None,
    *,
    blocks: int,
    operations: Sequence[str],
    cells_per_stage: int,
    filters: int,
) -> Architecture:
    """Return a network of one cell, or the supernet of all such networks.

    Block b of every cell has the gates `block{b}.inputs` and `block{b}.operations`, of which one or more are chosen. A
    cell's output is the concatenation of its blocks; the next one brings it to its own filters and size, by a
    factorised reduction where a stage begins.

    Args:
        gates: what is chosen; `None`: the supernet.
        blocks: choice blocks of a cell.
        operations: the operations to choose from.
        cells_per_stage: cells in each of the three stages.
        filters: filters of the first stage's blocks.
    """
    graph = GrowingGraph(gates=gates)
    older = newer = graph.conv("stem", State("image", 0, 0), 3, filters, order="conv-bn")
    for place in range(STAGES * cells_per_stage):
        stage, name = place // cells_per_stage, f"cell{place + 1}"
        width = filters * 2**stage
        states = [
            _fitted(graph, f"{name}.{which}", state, stage, width)
            for which, state in (("newer", newer), ("older", older))
        ]
        for block in range(1, blocks + 1):
            part = f"{name}.{block}"
            read = graph.choose(f"{part}.inputs", f"block{block}.inputs", [partial(_itself, s) for s in states])
            candidates = [partial(_apply, graph, f"{part}.{op}", op, read) for op in operations]
            states.append(graph.choose(part, f"block{block}.operations", candidates))
        older, newer = newer, graph.concat(f"{name}.output", states[2:])
    features = graph.add("features", "relu", graph.norm("norm", newer))
    return Architecture("feedforward", tuple(graph.nodes), (features.name,)).pruned()


def motif(blocks: Sequence[ChoiceBlock]) -> Architecture:
    """Return the cell as a graph for people, in which each operation is one node."""
    graph = GrowingGraph()
    states = [State("newer", 0, 0), State("older", 0, 0)]
    for number, block in enumerate(blocks, start=1):
        read = [states[state] for state in block.inputs]
        source = read[0] if len(read) == 1 else graph.add(f"inputs {number}", "add", read)
        values = [
            source
            if operation == "identity"
            else graph.add(f"{number}.{operation}", "part", source, label=operation.replace("_", " "))
            for operation in block.operations
        ]
        states.append(graph.add(f"block {number}", "add", values))
    output = graph.concat("output", states[2:])
    return Architecture("cell", tuple(graph.nodes), (output.name,))


def _itself(value: State) -> State:
    return value


def _fitted(graph: GrowingGraph, name: str, state: State, level: int, filters: int) -> State:
    """Bring a cell's input to its filters, and halve it as often as it takes."""
    for halving in range(level - state.level):
        state = graph.factorised_reduction(f"{name}{halving or ''}", state, filters, relu=True)
    return state if state.channels == filters else graph.conv(name, state, 1, filters, order=ORDER)


def _apply(graph: GrowingGraph, name: str, operation: str, source: State) -> State:
    """Add one operation, which keeps the shape."""
    if operation == "identity":
        return source
    kind, _, size = operation.partition("_")
    side, filters, value = int(size[0]), source.channels, source
    if kind in ("max", "avg"):
        return graph.pool(name, source, kind, side)
    for time in (1, 2):
        if kind == "sep":
            value = graph.add(f"{name}.{time}.depthwise", "depthwise_conv", value, height=side, width=side, order=ORDER)
            value = graph.conv(f"{name}.{time}.pointwise", value, 1, filters, order="conv")
        else:
            value = graph.conv(f"{name}.{time}", value, side, filters, order=ORDER)
    return value
