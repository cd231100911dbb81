"""A network that generates weights of a supernet from a description of the path (SMASH; spec §10).

Brock et al. 2018, arXiv 1708.05344, section 3.2. A path is a plane: a row for each gate, a column for each option, with
the gates' numbers in it and -1 where a gate has no such option. The hypernetwork turns it into as many values at each
place as the 1x1 convolutions of that option have weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, Node
from child_trainer.supernets.hyper_options import HyperOptions

UNSPECIFIED = -1.0
"""What a path's plane has where a gate has no option."""

PLANES = 4
"""Channels of the input: the path, noise, and the place as two coordinates, by which equal choices differ."""

SLOPE = 0.02
"""Of LeakyReLU below 0."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the weights of one convolution are found: the place of an option, and the first value there."""

    row: int
    column: int
    start: int


def generated_nodes(supernet: Architecture) -> list[Node]:
    """Return the ungrouped 1x1 convolutions, whose weights are generated, in order."""
    return [
        n
        for n in supernet.ordered
        if n.op == "conv" and n.attribute("height") == n.attribute("width") == n.attribute("groups") == 1
    ]


def slots_of(supernet: Architecture, sizes: Mapping[str, int]) -> tuple[dict[str, Slot], int]:
    """Return the slot of each generated convolution by its node, and the most values that a place needs.

    A convolution has the place of the option that it is part of: the first mix behind it, or the last gate if there is
    none. Convolutions of one place have its values one after another.

    Args:
        supernet: with `mix` nodes.
        sizes: how many weights each generated convolution has, by its node.
    """
    gates = list(dict.fromkeys(n.attribute("gate") for n in supernet.ordered if n.op == "mix"))
    behind: dict[str, tuple[int, int]] = {}
    for n in reversed(supernet.ordered):
        for column, source in enumerate(n.inputs):
            place = (gates.index(n.attribute("gate")), column) if n.op == "mix" else behind.get(n.name)
            if place is not None:
                behind[source] = place
    slots: dict[str, Slot] = {}
    filled: dict[tuple[int, int], int] = {}
    for name, size in sizes.items():
        place = behind.get(name, (max(len(gates) - 1, 0), 0))
        slots[name] = Slot(*place, filled.get(place, 0))
        filled[place] = slots[name].start + size
    return slots, max(filled.values(), default=0)


class NormalisedConv(nn.Module):
    """A convolution with weight normalisation: each filter has a direction and a length (Salimans and Kingma 2016)."""

    def __init__(self, channels: int, filters: int, side: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(filters, channels, side, side))
        self.gain = nn.Parameter(torch.empty(filters))
        self.bias = nn.Parameter(torch.empty(filters))

    def reset_parameters(self) -> None:
        """Draw directions from PyTorch's generator; lengths are 1."""
        nn.init.normal_(self.direction)
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.bias)

    def forward(self, planes: Tensor) -> Tensor:
        """Convolve `[B, C, R, K]`, keeping its rows and columns."""
        weight = self.gain[:, None, None, None] * unit_filters(self.direction)
        return F.conv2d(planes, weight, self.bias, padding=weight.shape[-1] // 2)


def unit_filters(weight: Tensor) -> Tensor:
    """Return the filters `[N, ...]`, each divided by its norm."""
    return weight / weight.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *(1,) * (weight.dim() - 1))


class HyperNetwork(nn.Module):
    """A DenseNet from a path's plane to the values of every place.

    Args:
        gates: the length of each gate by its name; they are the rows, in order.
        values: how many values each place has.
        options: its size.
    """

    def __init__(self, gates: Mapping[str, int], values: int, options: HyperOptions) -> None:
        super().__init__()
        self._gates = dict(gates)
        self._columns = max(gates.values(), default=1)
        channels = PLANES
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for depth in options.depths:
            layers = [NormalisedConv(channels + i * options.growth, options.growth, 3) for i in range(depth)]
            self.blocks.append(nn.ModuleList(layers))
            channels += depth * options.growth
            self.transitions.append(NormalisedConv(channels, max(channels // 2, 1), 1))
            channels = max(channels // 2, 1)
        self.last = NormalisedConv(channels, values, 1)

    def plane(self, gates: Mapping[str, Sequence[float | Tensor] | Tensor], device: torch.device) -> Tensor:
        """Return a path as the input `[1, PLANES, rows, columns]` float32; noise is drawn in training, else it is 0."""
        path = torch.full((max(len(self._gates), 1), self._columns), UNSPECIFIED)
        for row, (name, size) in enumerate(self._gates.items()):
            path[row, :size] = torch.tensor([n.item() if isinstance(n, Tensor) else n for n in gates[name]])
        noise = torch.randn(path.shape) if self.training else torch.zeros(path.shape)
        rows, columns = (torch.linspace(-1, 1, count) for count in path.shape)
        coordinates = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack((path, noise, *coordinates))[None].to(device)

    def forward(self, plane: Tensor) -> Tensor:
        """Return the values `[values, rows, columns]` of a plane `[1, PLANES, rows, columns]`."""
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            assert isinstance(block, nn.ModuleList)
            for layer in block:
                plane = torch.cat((plane, layer(F.leaky_relu(plane, SLOPE))), dim=1)
            plane = transition(F.leaky_relu(plane, SLOPE))
        return self.last(F.leaky_relu(plane, SLOPE))[0]


def kernel(values: Tensor, slot: Slot, shape: torch.Size) -> Tensor:
    """Return a convolution's weights `[N, C, 1, 1]`, each filter of norm 1; values behind them are not read.

    Args:
        values: of every place, `[values, rows, columns]`.
        slot: of the convolution.
        shape: of its weights.
    """
    read = values[slot.start : slot.start + shape.numel(), slot.row, slot.column]
    return unit_filters(read.view(shape))
