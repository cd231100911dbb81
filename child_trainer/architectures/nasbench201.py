"""NAS-Bench-201: its cells as network graphs, and the reverse (Dong & Yang 2020, arXiv 2001.00326; docs/tables.md).

A cell has four nodes: its input, and three that each sum one operation on each earlier node. The network is a stem,
three stages of equal cells with 16, 32 and 64 channels, and a residual block that halves the image before the second
and the third stage. Standard library only.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, permutations

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.family import Family
from child_trainer.architectures.operation_types import Value

CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The operations that an edge of the cell may have, by the benchmark's names and in its order."""

SIZES = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""The kernel's height and width of each operation that has weights."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The cell's edges (from, to), in the order in which the benchmark writes them."""

PICTURE_LABELS = {"nor_conv_1x1": "conv 1x1", "nor_conv_3x3": "conv 3x3", "avg_pool_3x3": "avg pool 3x3"}
"""What is written on an edge of a drawn cell."""

CELLS_PER_STAGE = 5
STEM_CHANNELS = 16
"""The size of the networks that the benchmark trained."""

STAGES = 3

CLASSES = 10
"""Classes of CIFAR-10, for which `num_parameters` counts."""

NUM_CELLS = len(CELL_OPERATIONS) ** len(EDGES)

GATES = tuple(f"{source}-{target}" for source, target in EDGES)
"""The gate of each edge in the supernet."""

Cell = tuple[str, ...]
"""One of `CELL_OPERATIONS` for each of `EDGES`."""

MakeEdge = Callable[[str, str, str, int], list[Node]]
"""Makes the nodes of an edge of a cell: its name, its gate, what it reads, and its channels. The last has its value."""


def cell_name(cell: Sequence[str]) -> str:
    """Return the benchmark's name of a cell: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
    named = [f"{operation}~{source}" for operation, (source, _) in zip(cell, EDGES, strict=True)]
    return "+".join(f"|{'|'.join(part)}|" for part in (named[:1], named[1:3], named[3:]))


def cell_from_name(name: str) -> Cell:
    """Return the cell with this name.

    Raises:
        ValueError: this is not the name of a cell.
    """
    cell = tuple(part.split("~")[0] for part in name.replace("+", "").split("|") if part)
    if len(cell) != len(EDGES) or not set(cell) <= set(CELL_OPERATIONS) or cell_name(cell) != name:
        raise ValueError(
            f"a cell is written as |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with op of {', '.join(CELL_OPERATIONS)},"
            f" got {name!r}"
        )
    return cell


@lru_cache(maxsize=NUM_CELLS)
def network(cell: Cell, *, cells_per_stage: int = CELLS_PER_STAGE, stem_channels: int = STEM_CHANNELS) -> Architecture:
    """Return the network of a cell.

    Every edge of the cell is in the graph, even one without effect (`none` is the operation `zero`), so that different
    cells give different networks, with as many parameters as the benchmark counts.

    Args:
        cell: the operations of its edges.
        cells_per_stage: cells in each of the three stages.
        stem_channels: channels of the first stage; the second has twice as many, the third four times.
    """
    options = [CELL_OPERATIONS.index(operation) for operation, _ in zip(cell, EDGES, strict=True)]
    made = _networks(cells_per_stage, stem_channels).member(*options)
    if (cells_per_stage, stem_channels) == (CELLS_PER_STAGE, STEM_CHANNELS):
        _CELLS[made.id] = cell
    return made


_CELLS: dict[str, Cell] = {}
"""The cells of the benchmark whose networks were made, by their ids."""


@lru_cache(maxsize=16)
def _networks(cells_per_stage: int, stem_channels: int) -> Family:
    """Return the networks of all cells, made of the nodes of those that have one operation on every edge."""

    def every_edge(operation: str) -> MakeEdge:
        return lambda name, gate, source, channels: [_edge(name, operation, source, channels)]

    same = [_network(every_edge(operation), cells_per_stage, stem_channels) for operation in CELL_OPERATIONS]
    gates = {n.name: n.name.rpartition(".")[2] for n in same[0].nodes}
    return Family(same, {name: GATES.index(gate) for name, gate in gates.items() if gate in GATES})


def supernet(*, cells_per_stage: int = CELLS_PER_STAGE, stem_channels: int = STEM_CHANNELS) -> Architecture:
    """Return the supernet of all cells: each edge is a mix of the operations, in their order, with a gate of `GATES`.

    All cells share their gates. Restricted to one operation for each edge, it is the network of that cell.

    Args:
        cells_per_stage: as in `network`.
        stem_channels: as in `network`.
    """

    def edge(name: str, gate: str, source: str, channels: int) -> list[Node]:
        options = [_edge(f"{name}.{operation}", operation, source, channels) for operation in CELL_OPERATIONS]
        return [*options, _node(name, "mix", *(option.name for option in options), gate=gate)]

    return _network(edge, cells_per_stage, stem_channels)


def picture(cell: Cell) -> Architecture:
    """Return the cell as a graph for people, of kind `cell`, whose only input is `newer`; edges `none` are left out."""
    names, nodes = ["newer", "node 1", "node 2", "node 3"], list[Node]()
    for target in (1, 2, 3):
        incoming: list[str] = []
        for operation, (source, reader) in zip(cell, EDGES, strict=True):
            if reader != target or operation == "none":
                continue
            incoming.append(names[source])
            if operation != "skip_connect":
                incoming[-1] = f"{source}-{target}"
                nodes.append(node(incoming[-1], "part", names[source], label=PICTURE_LABELS[operation]))
        sum_of = node(names[target], "add", incoming) if incoming else node(names[target], "zero", "newer")
        nodes.append(sum_of)
    # An output is drawn without the operations on what it reads.
    return Architecture("cell", (*nodes, node("output", "identity", names[-1])), ("output",))


@cache
def num_parameters(cell: Cell) -> int:
    """Count the weights and biases of the benchmark's network for CIFAR-10, including its classifier."""
    channels = [STEM_CHANNELS * 2**stage for stage in range(STAGES)]
    edges = sum(
        CELLS_PER_STAGE * _weights(SIZES[operation], width, width)
        for operation in cell
        if operation in SIZES
        for width in channels
    )
    reductions = sum(
        _weights(3, width // 2, width) + _weights(3, width, width) + width // 2 * width for width in channels[1:]
    )
    return _weights(3, 3, STEM_CHANNELS) + edges + reductions + 2 * channels[-1] + (channels[-1] + 1) * CLASSES


def cell_of(architecture: Architecture) -> Cell:
    """Return the cell whose network in the benchmark this is; names and order of the nodes do not count.

    Raises:
        InvalidArchitecture: the benchmark has no such network.
    """
    if (cell := _CELLS.get(architecture.id)) is not None:
        return cell
    for cell in _last_cells(architecture):
        # With the arguments that the space passes, or the cache would hold this network twice.
        if network(cell, cells_per_stage=CELLS_PER_STAGE, stem_channels=STEM_CHANNELS).id == architecture.id:
            return cell
    raise InvalidArchitecture(
        f"architecture {architecture.id} is no network of NAS-Bench-201: those have {STAGES} stages of"
        f" {CELLS_PER_STAGE} equal cells, and {STEM_CHANNELS} channels in the first stage"
    )


def known_as(architecture: Architecture) -> str | None:
    """Return the name of the cell whose network in the benchmark this is; `None` for every other architecture."""
    try:
        return cell_name(cell_of(architecture))
    except InvalidArchitecture:
        return None


@lru_cache(maxsize=4096)
def _node(name: str, op: str, *inputs: str, **attributes: Value) -> Node:
    # Cached, as the networks of a search have most nodes in common.
    return node(name, op, inputs, **attributes)


def _weights(size: int, read: int, filters: int) -> int:
    """Count the parameters of a convolution with its batch normalisation."""
    return size * size * read * filters + 2 * filters


def _conv(name: str, source: str, size: int, channels: int, stride: int = 1, order: str = "relu-conv-bn") -> Node:
    strides = {"stride_height": stride, "stride_width": stride} if stride > 1 else {}
    return _node(name, "conv", source, height=size, width=size, filters=channels, order=order, **strides)


def _network(edge: MakeEdge, cells_per_stage: int, stem_channels: int) -> Architecture:
    nodes = [_node("stem", "conv", "image", height=3, width=3, filters=stem_channels, order="conv-bn")]
    for stage in range(STAGES):
        channels = stem_channels * 2**stage
        if stage:
            nodes += _reduction(f"reduce{stage}", nodes[-1].name, channels)
        for number in range(1, cells_per_stage + 1):
            nodes += _cell(f"stage{stage + 1}.cell{number}", nodes[-1].name, edge, channels)
    nodes += [_node("norm", "batch_norm", nodes[-1].name), _node("features", "relu", "norm")]
    return Architecture("feedforward", tuple(nodes), ("features",))


def _cell(name: str, source: str, edge: MakeEdge, channels: int) -> list[Node]:
    # Node 1 has one edge, so that it needs no sum.
    places = [source, f"{name}.0-1", f"{name}.2", f"{name}.3"]
    edges = [edge(f"{name}.{gate}", gate, places[i], channels) for gate, (i, _) in zip(GATES, EDGES, strict=True)]
    last = [made[-1].name for made in edges]
    second = _node(places[2], "add", *last[1:3])
    third = _node(places[3], "add", *last[3:])
    return [*chain.from_iterable(edges[:3]), second, *chain.from_iterable(edges[3:]), third]


def _edge(name: str, operation: str, source: str, channels: int) -> Node:
    match operation:
        case "none":
            return _node(name, "zero", source)
        case "skip_connect":
            return _node(name, "identity", source)
        case "nor_conv_1x1":
            return _conv(name, source, 1, channels)
        case "nor_conv_3x3":
            return _conv(name, source, 3, channels)
        case _:
            return _node(name, "avg_pool", source, height=3, width=3)


def _reduction(name: str, source: str, channels: int) -> list[Node]:
    """Return the benchmark's `ResNetBasicblock` with stride 2."""
    return [
        _conv(f"{name}.a", source, 3, channels, stride=2),
        _conv(f"{name}.b", f"{name}.a", 3, channels),
        _node(f"{name}.pool", "avg_pool", source, height=2, width=2, stride_height=2, stride_width=2),
        _conv(f"{name}.shortcut", f"{name}.pool", 1, channels, order="conv-unbiased"),
        _node(f"{name}.sum", "add", f"{name}.b", f"{name}.shortcut"),
    ]


def _last_cells(architecture: Architecture) -> Iterator[Cell]:
    """Yield the possible cells at the end, read backwards from the output; none if nothing there looks like a cell."""
    by_name = {n.name: n for n in architecture.nodes}

    def orders(name: str, op: str, count: int) -> Iterator[tuple[Node, ...]]:
        """Yield the node's sources in every order, if the node has this operation and this many sources."""
        n = by_name.get(name)
        sources = [by_name[i] for i in n.inputs if i in by_name] if n is not None and n.op == op else []
        yield from permutations(sources) if len(sources) == count else ()

    for (norm,) in orders(architecture.outputs[0], "relu", 1):
        for (last,) in orders(norm.name, "batch_norm", 1):
            for e03, e13, e23 in orders(last.name, "add", 3):
                for e02, e12 in orders(e23.inputs[0], "add", 2):
                    e01 = by_name.get(e13.inputs[0])
                    if e01 is None or e12.inputs != e13.inputs or not e01.inputs == e02.inputs == e03.inputs:
                        continue
                    yield tuple(map(_operation, (e01, e02, e12, e03, e13, e23)))


def _operation(n: Node) -> str:
    """Return the operation that an edge may have; comparing whole networks then shows whether it does."""
    if n.op == "conv":
        return "nor_conv_1x1" if n.attribute("height") == 1 else "nor_conv_3x3"
    return {"zero": "none", "identity": "skip_connect"}.get(n.op, "avg_pool_3x3")
