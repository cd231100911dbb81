"""A recurrent cell stepped over a sequence, with the matrix products of all its leaves fused (spec §2.1).

The cell's linear maps of `x` do not depend on the state, so that they are one product over the whole sequence. Its maps
of `h` are one product a step, and the gradient of their weights is one product over the whole sequence.

Shapes: T steps; B sequences side by side; I input units; H hidden units; P and Q units of all maps of `x` and of `h`. A
name's suffix spells its shape. All tensors are floating-point, of the dtype of the cell's weights.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Node
from child_trainer.networks.build import Graph
from child_trainer.networks.cell_program import Program, Steps, compile_cell

State = tuple[Tensor, Tensor]
"""h and c, [B, H] each."""


class FusedCell(nn.Module):
    """A cell stepped over a sequence: computes what its graph would, but faster.

    Args:
        graph: one step of the cell (`build.build_cell`); its weights are copied.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        operations = dict(zip((n.name for n in graph.nodes), graph.operations, strict=True))
        x_maps, h_maps, sums = _linear_maps(graph)
        # Checkpoints name the weights after these two attributes.
        self.of_x, self.of_h = Projection(x_maps, operations), Projection(h_maps, operations)
        self.next_h, *self.next_c = graph.outputs
        self.nodes = tuple(n for n in graph.nodes if n not in x_maps and n not in h_maps)
        self.operations = nn.ModuleList(operations[n.name] for n in self.nodes)
        self.program: Program | None = compile_cell(
            self.nodes, self.of_x.sizes, self.of_h.sizes, [n.name for n in sums], graph.outputs
        )

    def forward(self, inputs: Tensor, state: State, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the hidden states [T, B, H] and the state after the last step.

        Args:
            inputs: [T, B, I], x at all steps.
            state: h and c before the first step.
            mask: [B, H], multiplies the h that the maps of `h` read, and values of H units between nodes that other
                linear maps read; the same at every step (variational dropout).
        """
        if self.program is None or not torch.is_grad_enabled():
            return self._stepped(inputs, state, mask)
        hidden, c = Steps.apply(
            self.program, self.of_x(inputs), self.of_h.weight, self.of_h.padded_bias(), *state, mask
        )
        return hidden, (hidden[-1], c)

    def _stepped(self, inputs: Tensor, state: State, mask: Tensor | None) -> tuple[Tensor, State]:
        """Compute `forward` node by node: for any cell, and where no gradient is needed."""
        (h_BH, c_BH), hidden = state, []
        for x_BI, x_maps_BP in zip(inputs.unbind(), self.of_x(inputs).unbind(), strict=True):
            h_maps_BQ = self.of_h(h_BH if mask is None else h_BH * mask)
            values = {"x": x_BI, "h": h_BH, "c": c_BH} | self.of_x.by_name(x_maps_BP) | self.of_h.by_name(h_maps_BQ)
            for n, operation in zip(self.nodes, self.operations, strict=True):
                read = [values[source] for source in n.inputs]
                if mask is not None and reads_hidden(n, read[0], mask):
                    read = [read[0] * mask]
                values[n.name] = operation(*read)
            h_BH = values[self.next_h]
            c_BH = values[self.next_c[0]] if self.next_c else c_BH
            hidden.append(h_BH)
        return torch.stack(hidden), (h_BH, c_BH)


class Projection(nn.Module):
    """Several linear maps of one input as one product; each map keeps its bias if it has one.

    Args:
        nodes: the maps, in the order of their results along the last dimension.
        operations: the `nn.Linear` of each node, by the node's name.
    """

    def __init__(self, nodes: Sequence[Node], operations: Mapping[str, nn.Module]) -> None:
        super().__init__()
        maps: dict[str, nn.Linear] = {n.name: operations[n.name] for n in nodes}  # pyright: ignore[reportAssignmentType]
        self.sizes = {name: linear.out_features for name, linear in maps.items()}
        self.biased = tuple(linear.bias is not None for linear in maps.values())
        weights = [linear.weight.detach() for linear in maps.values()]
        self.weight = nn.Parameter(torch.cat(weights or [torch.empty(0, 0)]))
        biases = [linear.bias.detach() for linear in maps.values() if linear.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases)) if biases else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [..., input units] to [..., units of all maps]."""
        if not self.sizes:
            return inputs[..., :0]
        return F.linear(inputs, self.weight, self.padded_bias())

    def padded_bias(self) -> Tensor | None:
        """Return the bias [units of all maps], zero for maps without one; `None` if no map has one."""
        if self.bias is None or all(self.biased):
            return self.bias
        sizes = list(zip(self.sizes.values(), self.biased, strict=True))
        biases = iter(self.bias.split([size for size, biased in sizes if biased]))
        return torch.cat([next(biases) if biased else self.bias.new_zeros(size) for size, biased in sizes])

    def by_name(self, results: Tensor) -> dict[str, Tensor]:
        """Split the results [..., units of all maps] into those of each map, by the map's name."""
        return dict(zip(self.sizes, results.split(list(self.sizes.values()), -1), strict=True))


def reads_hidden(n: Node, value: Tensor, mask: Tensor) -> bool:
    """Return whether a node is a linear map of a value of H units within the cell, which variational dropout is for."""
    return n.op == "linear" and n.inputs[0] not in ("x", "c") and value.shape == mask.shape


def _linear_maps(graph: Graph) -> tuple[list[Node], list[Node], list[Node]]:
    """Return the linear maps of `x`, the linear maps of `h`, and their sums.

    A sum is a node that adds one map of each kind which no other node reads. The maps that are added come first in both
    lists, in the order of the sums, so that all sums are one addition.
    """
    maps = {source: [n for n in graph.nodes if n.op == "linear" and n.inputs == (source,)] for source in ("x", "h")}
    readers: dict[str, int] = {}
    for name in (*(source for n in graph.nodes for source in n.inputs), *graph.outputs):
        readers[name] = readers.get(name, 0) + 1
    read_once = {source: {n.name: n for n in nodes if readers[n.name] == 1} for source, nodes in maps.items()}
    pairs: list[tuple[Node, Node, Node]] = []
    for n in graph.nodes:
        if n.op == "add" and len(n.inputs) == 2:
            for left, right in (n.inputs, n.inputs[::-1]):
                if left in read_once["x"] and right in read_once["h"]:
                    pairs.append((read_once["x"][left], read_once["h"][right], n))
    added = {"x": [x for x, _, _ in pairs], "h": [h for _, h, _ in pairs]}
    x_maps, h_maps = (added[source] + [n for n in maps[source] if n not in added[source]] for source in ("x", "h"))
    return x_maps, h_maps, [total for _, _, total in pairs]
