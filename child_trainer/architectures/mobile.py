"""Networks of mobile inverted bottlenecks, as ProxylessNAS searches them (Cai et al. 2019, arXiv 1812.00332; spec §14).

A bottleneck is a 1x1 convolution that expands the channels, a depthwise one, and a 1x1 convolution that projects them.
Where it keeps the shape, its input is added to its value, and a skip may stand instead of it. Standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.growing import GrowingGraph, State


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One option of a block: its depthwise convolution's kernel, and the factor by which the channels are expanded."""

    kernel: int
    expansion: int

    @property
    def text(self) -> str:
        """The bottleneck in short, such as `k5e3`."""
        return f"k{self.kernel}e{self.expansion}"


@dataclass(frozen=True, slots=True)
class Block:
    """A block's place in a network.

    Attributes:
        filters: of its value.
        stride: of its depthwise convolution.
        keeps_shape: whether its value has the shape of its input.
    """

    filters: int
    stride: int
    keeps_shape: bool


@dataclass(frozen=True, slots=True)
class Ends:
    """What is around the blocks.

    Attributes:
        stem: filters of the 3x3 convolution before them.
        stem_stride: its stride.
        first: filters of the bottleneck behind it, which is fixed.
        last: filters of the 1x1 convolution behind the blocks.
    """

    stem: int
    stem_stride: int
    first: int
    last: int


def blocks_of(first: int, widths: Sequence[int], counts: Sequence[int], strides: Sequence[int]) -> list[Block]:
    """Return the blocks of stages with these filters, numbers of blocks, and strides of their first blocks.

    `first` is the number of channels that the first block reads.
    """
    blocks: list[Block] = []
    channels = first
    for width, count, stage_stride in zip(widths, counts, strides, strict=True):
        for place in range(count):
            stride = 1 if place else stage_stride
            blocks.append(Block(width, stride, stride == 1 and channels == width))
            channels = width
    return blocks


def network(
    gates: Mapping[str, Sequence[float]] | None,
    *,
    blocks: Sequence[Block],
    bottlenecks: Sequence[Bottleneck],
    ends: Ends,
) -> Architecture:
    """Return a network with one bottleneck, or a skip, in each block; or the supernet of all such networks.

    Args:
        gates: what is chosen at the gate `block{number}` of each block, of the bottlenecks in order and, last, a skip
            if the block keeps the shape; `None`: the supernet.
        blocks: the places.
        bottlenecks: the options of each.
        ends: what is around them.
    """
    graph = GrowingGraph(gates=gates)
    image = State("image", 0, 0)
    value = _active(graph, "stem", graph.conv("stem", image, 3, ends.stem, stride=ends.stem_stride, order="conv-bn"))
    value = _add(graph, "first", value, Bottleneck(3, 1), Block(ends.first, 1, ends.stem == ends.first))
    for number, block in enumerate(blocks, start=1):
        name = f"block{number}"
        candidates = [partial(_add, graph, f"{name}.{b.text}", value, b, block) for b in bottlenecks]
        skip = [partial(_itself, value)] * block.keeps_shape
        value = graph.choose(f"{name}.value", name, [*candidates, *skip])
    last = _active(graph, "last", graph.conv("last", value, 1, ends.last, order="conv-bn"))
    return Architecture("feedforward", tuple(graph.nodes), (last.name,))


def motif(chosen: Sequence[tuple[Block, Bottleneck | None]]) -> Architecture:
    """Return the chosen bottlenecks as a chain for people, without the skips."""
    graph = GrowingGraph()
    value = graph.add("stem", "part", State("image", 0, 0), label="stem")
    for number, (block, bottleneck) in enumerate(chosen, start=1):
        if bottleneck is None:
            continue
        stride = f", stride {block.stride}" if block.stride > 1 else ""
        kernel, label = bottleneck.kernel, f"expansion {bottleneck.expansion}, {block.filters} filters{stride}"
        value = graph.add(f"block{number}", "part", value, label=f"{kernel}x{kernel}, {label}")
    return Architecture("feedforward", tuple(graph.nodes), (value.name,))


def _itself(value: State) -> State:
    return value


def _active(graph: GrowingGraph, name: str, value: State) -> State:
    return graph.add(f"{name}.active", "relu6", value)


def _add(graph: GrowingGraph, name: str, source: State, bottleneck: Bottleneck, block: Block) -> State:
    """Add a bottleneck; one that expands nothing has no first convolution."""
    value, size = source, bottleneck.kernel
    if bottleneck.expansion > 1:
        wide = graph.conv(f"{name}.expand", value, 1, source.channels * bottleneck.expansion, order="conv-bn")
        value = _active(graph, f"{name}.expand", wide)
    deep = graph.add(
        f"{name}.depthwise",
        "depthwise_conv",
        value,
        height=size,
        width=size,
        order="conv-bn",
        stride_height=block.stride,
        stride_width=block.stride,
    )
    value = graph.conv(f"{name}.project", _active(graph, f"{name}.depthwise", deep), 1, block.filters, order="conv-bn")
    return graph.add(f"{name}.sum", "add", (value, source)) if block.keeps_shape else value
