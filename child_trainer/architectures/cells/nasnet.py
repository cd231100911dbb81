"""Networks of NASNet's cells, of AmoebaNet's and of PNASNet's, built as their published code does (spec §3.1, §3.4).

Standard library only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import Block, Cell, Genotype
from child_trainer.architectures.cells.growing import GrowingGraph, State

Macro = Literal["cifar", "imagenet-mobile", "imagenet-large"]

IMAGENET_STEM = {"imagenet-mobile": 32, "imagenet-large": 96}
"""Filters of the first convolution for ImageNet."""

STAGES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A cell's place in a network.

    Attributes:
        name: the beginning of its nodes' names.
        cell: the cell.
        filters: its filters, of each block.
        reduces: whether it halves the image.
        skips: whether its older input is the one that the reduction cell before it read, which skips that cell.
    """

    name: str
    cell: Cell
    filters: int
    reduces: bool
    skips: bool = False


def network(
    genotype: Genotype,
    *,
    cells_per_stage: int,
    filters: int,
    macro: Macro = "cifar",
    reduce_in_place: bool = False,
    drop_path: bool = False,
    auxiliary: bool = False,
) -> Architecture:
    """Return the network of these cells.

    Args:
        genotype: the two cells.
        cells_per_stage: normal cells in each of the three stages, N.
        filters: filters of the first stage's cells, F; twice as many in each later stage.
        macro: the stem: a 3x3 convolution for CIFAR; for ImageNet one with stride 2 and two reduction cells.
        reduce_in_place: whether the first of a later stage's N cells is the reduction, instead of one more cell. So
            it is in PNASNet, whose published sizes confirm it.
        drop_path: whether a training may drop paths (ScheduledDropPath; spec §3.3): every operation but identities.
        auxiliary: whether a second output is an auxiliary head's, before the last reduction cell.
    """
    graph = GrowingGraph(drop_path=drop_path)
    image = State("image", 0, 0)
    if macro == "cifar":
        newer = graph.conv("stem", image, 3, 3 * filters, order="conv-bn")
    else:
        newer = graph.conv("stem", image, 3, IMAGENET_STEM[macro], stride=2, order="conv-bn")
    older: State | None = None
    skipped: State | None = None
    places = list(_places(genotype, cells_per_stage, filters, macro, reduce_in_place=reduce_in_place))
    last_reduction = max(number for number, place in enumerate(places) if place.reduces)
    outputs = []
    for number, place in enumerate(places):
        if auxiliary and number == last_reduction:
            outputs.append(graph.auxiliary_head(newer).name)
        read = skipped if place.skips else older
        if place.reduces:
            skipped = older
        older, newer = newer, _cell(graph, place, newer, read, depth=(number + 1) / len(places))
    features = graph.add("features", "relu", newer)
    return Architecture("feedforward", tuple(graph.nodes), (features.name, *outputs))


def _places(
    genotype: Genotype, cells_per_stage: int, filters: int, macro: Macro, *, reduce_in_place: bool
) -> Iterator[Place]:
    """Yield the cells from the image to the classifier."""
    number = 0
    if macro != "cifar":
        for divisor in (4, 2):
            number += 1
            yield Place(f"reduction{number}", genotype.reduction, filters // divisor, reduces=True)
    for stage in range(STAGES):
        width = filters * 2**stage
        normal = cells_per_stage
        if stage:
            number += 1
            normal -= reduce_in_place
            yield Place(f"reduction{number}", genotype.reduction, width, reduces=True)
        for first in (True, *[False] * (normal - 1))[:normal]:
            number += 1
            # The published large network for ImageNet does so, the others do not.
            skips = macro == "imagenet-large" and first and stage > 0 and not reduce_in_place
            yield Place(f"normal{number}", genotype.normal, width, reduces=False, skips=skips)


def _cell(graph: GrowingGraph, place: Place, newer: State, older: State | None, *, depth: float) -> State:
    name, filters = place.name, place.filters
    states = [
        graph.conv(f"{name}.newer", newer, 1, filters),
        newer if older is None else _fit(graph, f"{name}.older", older, newer.level, filters),
    ]
    for number, block in enumerate(place.cell.blocks, start=1):
        states.append(_block(graph, f"{name}.{number}", block, states, place, depth))
    level, outputs = states[-1].level, []
    for number in place.cell.concat:
        state = states[number]
        if state.level < level:
            state = graph.factorised_reduction(f"{name}.fit{number}", state, filters, relu=False)
        elif state.channels != filters:
            state = graph.conv(f"{name}.fit{number}", state, 1, filters, order="conv-bn")
        outputs.append(state)
    return graph.concat(f"{name}.output", outputs)


def _fit(graph: GrowingGraph, name: str, older: State, level: int, filters: int) -> State:
    """Bring the older input to the newer one's size and to the cell's filters."""
    if older.level < level:
        return graph.factorised_reduction(name, older, filters, relu=True)
    return older if older.channels == filters else graph.conv(name, older, 1, filters)


def _block(graph: GrowingGraph, name: str, block: Block, states: list[State], place: Place, depth: float) -> State:
    sides = []
    for side, number, operation in zip("ab", block.inputs, block.operations, strict=True):
        # Only what reads a cell's input has a stride.
        stride = 2 if place.reduces and number < 2 else 1
        value = _apply(graph, f"{name}{side}", operation, states[number], place.filters, stride)
        sides.append(value if operation == "identity" else graph.droppable(f"{name}{side}.drop", value, depth))
    if block.combine == "add":
        return graph.add(name, "add", sides)
    # Shapes are made equal by a 1x1 convolution, so that every state has the cell's filters.
    return graph.conv(name, graph.concat(f"{name}.concat", sides), 1, place.filters)


def _apply(graph: GrowingGraph, name: str, operation: str, source: State, filters: int, stride: int) -> State:
    """Add one operation of a cell, whose value has the cell's filters.

    An identity adds a node only where it must halve the image or change the number of filters.
    """
    if operation == "identity":
        same = stride == 1 and source.channels == filters
        return source if same else graph.conv(name, source, 1, filters, stride=stride)
    kind, _, size = operation.rpartition("_")
    side = int(size[-1])
    if kind in ("avg", "max"):
        pooled = graph.pool(name, source, kind, side, stride=stride)
        return pooled if pooled.channels == filters else graph.conv(f"{name}.fit", pooled, 1, filters, order="conv-bn")
    if kind in ("sep", "dil_sep"):
        times, dilation = (2, 1) if kind == "sep" else (1, 2)
        return graph.separable(name, source, side, filters, stride=stride, times=times, dilation=dilation)
    if kind.startswith("bottleneck"):
        return _bottleneck(graph, name, kind, source, filters, stride)
    if kind in ("conv_1x3", "conv_1x7"):
        return graph.crossed_conv(name, source, int(kind[-1]), filters, stride=stride)
    return graph.conv(name, source, side, filters, stride=stride, dilation=2 if kind == "dil_conv" else 1)


def _bottleneck(graph: GrowingGraph, name: str, kind: str, source: State, filters: int, stride: int) -> State:
    narrow = max(1, filters // 4)
    value = graph.conv(f"{name}.narrow", source, 1, narrow)
    if kind == "bottleneck_1x7":
        value = graph.crossed_conv(name, value, 7, narrow, stride=stride)
    else:
        value = graph.conv(f"{name}.conv", value, 3, narrow, stride=stride)
    return graph.conv(f"{name}.wide", value, 1, filters)
