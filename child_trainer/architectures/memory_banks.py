"""Networks of memory banks, as SMASH searches them (Brock et al. 2018, arXiv 1708.05344, section 3.1; spec §10).

A stage keeps its features in banks of equally many channels. A layer reads some banks by 1x1 convolutions, convolves
what it read, and adds the result to some banks by 1x1 convolutions. Those are the network's only 1x1 convolutions: they
are what SMASH's hypernetwork generates. SMASH's layers of a stage have one kernel in common, masked for smaller sizes
and for groups; here each option of each layer has a kernel of its own. Standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.growing import GrowingGraph, State

STAGES = 3
"""Stages of the network; each later one halves the image and doubles the channels of a bank."""

JOINS = ("none", "add", "multiply")
"""What joins a layer's two convolutions: none has one; multiply gates one by the other's sigmoid."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """An option of a layer's convolutions: height and width of the kernel, dilation, and groups of channels."""

    kernel: int
    dilation: int
    groups: int

    @property
    def text(self) -> str:
        """The option in short, such as `k5d2g4`."""
        return f"k{self.kernel}d{self.dilation}g{self.groups}"


@dataclass(frozen=True, slots=True)
class BankLayer:
    """What a layer chose.

    Attributes:
        reads: numbers of the banks that it reads, from 0.
        convolution: its convolutions.
        join: of `JOINS`.
        writes: numbers of the banks to which it adds.
    """

    reads: tuple[int, ...]
    convolution: Convolution
    join: str
    writes: tuple[int, ...]


def network(
    gates: Mapping[str, Sequence[float]] | None,
    *,
    layers_per_stage: int,
    convolutions: Sequence[Convolution],
    joins: Sequence[str],
    banks: int,
    bank_channels: int,
    units: int,
) -> Architecture:
    """Return a network of layers that read and write banks, or the supernet of all such networks.

    Layer l has the gates `layer{l}.reads` (one or more banks), `layer{l}.convolution`, `layer{l}.join` (one of each),
    and for each bank b, from 1, `layer{l}.write{b}`, of a single number: whether the layer writes it.

    Args:
        gates: what is chosen; `None`: the supernet.
        layers_per_stage: layers in each of the three stages.
        convolutions: the options of each layer.
        joins: what may join a layer's two convolutions, of `JOINS`.
        banks: banks of each stage.
        bank_channels: channels of a bank in the first stage.
        units: channels inside a layer, which each option's groups divide.
    """
    graph = GrowingGraph(gates=gates)
    value = State("image", 0, 0)
    for stage in range(STAGES):
        name, channels = f"stage{stage + 1}", banks * bank_channels * 2**stage
        order, stride = ("bn-relu-conv", 2) if stage else ("conv", 1)
        value = graph.conv(f"{name}.conv", value, 3, channels, stride=stride, order=order)
        states = [
            graph.add(f"{name}.bank{bank + 1}", "split", value, channels // banks, parts=banks, index=bank)
            for bank in range(banks)
        ]
        for number in range(1 + stage * layers_per_stage, 1 + (stage + 1) * layers_per_stage):
            states = _add_layer(graph, f"layer{number}", states, convolutions, joins, units)
        value = graph.concat(f"{name}.output", states)
    features = graph.add("features", "relu", graph.norm("norm", value))
    return Architecture("feedforward", tuple(graph.nodes), (features.name,)).pruned()


def motif(layers: Sequence[BankLayer], banks: int) -> Architecture:
    """Return the layers of one stage as a graph for people, in which each layer is one node."""
    graph = GrowingGraph()
    image = State("image", 0, 0)
    states = [graph.add(f"bank {bank + 1}", "part", image, label=f"bank {bank + 1}") for bank in range(banks)]
    for number, layer in enumerate(layers, start=1):
        read = graph.concat(f"read {number}", [states[bank] for bank in layer.reads])
        joined = {"none": "", "add": ", two added", "multiply": ", gated"}[layer.join]
        written = graph.add(f"layer {number}", "part", read, label=_words(layer.convolution) + joined)
        for bank in layer.writes:
            states[bank] = graph.add(f"bank {bank + 1} after {number}", "add", (states[bank], written))
    output = graph.concat("output", states)
    return Architecture("feedforward", tuple(graph.nodes), (output.name,))


def _words(convolution: Convolution) -> str:
    words = [f"{convolution.kernel}x{convolution.kernel}"]
    words += [f"dilation {convolution.dilation}"] * (convolution.dilation > 1)
    words += [f"{convolution.groups} groups"] * (convolution.groups > 1)
    return ", ".join(words)


def _add_layer(
    graph: GrowingGraph,
    name: str,
    banks: Sequence[State],
    convolutions: Sequence[Convolution],
    joins: Sequence[str],
    units: int,
) -> list[State]:
    """Add a layer; return the banks after it."""
    reads = [
        partial(graph.conv, f"{name}.read{number}", bank, 1, units, order="conv-unbiased")
        for number, bank in enumerate(banks, start=1)
    ]
    read = graph.norm(f"{name}.norm", graph.choose(f"{name}.reads", f"{name}.reads", reads))
    active = graph.add(f"{name}.active", "relu", read)
    first, second = (
        graph.choose(
            f"{name}.{side}",
            f"{name}.convolution",
            [partial(_convolve, graph, f"{name}.{side}.{option.text}", active, option) for option in convolutions],
        )
        for side in "ab"
    )
    candidates = [partial(_join, graph, f"{name}.{join}", join, first, second) for join in joins]
    value = graph.choose(f"{name}.value", f"{name}.join", candidates)
    return [
        graph.add_chosen(
            f"{name}.bank{number}",
            bank,
            f"{name}.write{number}",
            [partial(graph.conv, f"{name}.write{number}", value, 1, bank.channels, order="conv-unbiased")],
        )
        for number, bank in enumerate(banks, start=1)
    ]


def _convolve(graph: GrowingGraph, name: str, source: State, option: Convolution) -> State:
    groups = {"groups": option.groups} if option.groups > 1 else {}
    dilation = {"dilation": option.dilation} if option.dilation > 1 else {}
    side, filters = option.kernel, source.channels
    return graph.add(
        name, "conv", source, height=side, width=side, filters=filters, order="conv-bn", **dilation, **groups
    )


def _join(graph: GrowingGraph, name: str, join: str, first: State, second: State) -> State:
    match join:
        case "none":
            return graph.add(name, "relu", first)
        case "add":
            return graph.add(name, "relu", graph.add(f"{name}.sum", "add", (first, second)))
        case _:
            sides = (graph.add(f"{name}.tanh", "tanh", first), graph.add(f"{name}.sigmoid", "sigmoid", second))
            return graph.add(name, "multiply", sides)
