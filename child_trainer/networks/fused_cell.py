"""A recurrent cell stepped over a sequence, with the matrix products of all its leaves fused (spec §2.1).

What the cell's linear maps of `x` give does not depend on the state, so that it is one product over the whole sequence;
what its maps of `h` give is one product a step, and their weights' gradient is one product over the whole sequence.

Shapes: T steps, B sequences side by side, I input units, H hidden units; P and Q units of all maps of `x` and of `h`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Node
from child_trainer.networks.build import Graph
from child_trainer.networks.cell_program import Program, Steps, compiled

State = tuple[Tensor, Tensor]
"""h and c, `[B, H]` each."""


class FusedCell(nn.Module):
    """The same function as stepping a cell over a sequence, faster.

    Args:
        graph: one step of the cell (`network.build_cell`); its weights are copied.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        operations = dict(zip((n.name for n in graph.nodes), graph.operations, strict=True))
        of_x, of_h, sums = _projected(graph)
        self.of_x, self.of_h = Projection(of_x, operations), Projection(of_h, operations)
        self.next_h, *self.next_c = graph.outputs
        self.nodes = tuple(n for n in graph.nodes if n not in of_x and n not in of_h)
        self.operations = nn.ModuleList(operations[n.name] for n in self.nodes)
        self.program: Program | None = compiled(
            self.nodes, self.of_x.sizes, self.of_h.sizes, [n.name for n in sums], graph.outputs
        )

    def forward(self, inputs: Tensor, state: State, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """Hidden states `[T, B, H]` and the last state, from `[T, B, I]` and the state before.

        Args:
            inputs: of all steps.
            state: before the first step.
            mask: `[B, H]`: what the maps of `h` read is multiplied by it, alike at every step (variational dropout).
        """
        if self.program is None or not torch.is_grad_enabled():
            return self._stepped(inputs, state, mask)
        hidden, c = Steps.apply(self.program, self.of_x(inputs), self.of_h.weight, self.of_h.padded(), *state, mask)
        return hidden, (hidden[-1], c)

    def _stepped(self, inputs: Tensor, state: State, mask: Tensor | None) -> tuple[Tensor, State]:
        """Node by node: for any cell, and where no gradient is asked for."""
        (h, c), hidden = state, []
        for x, of_x in zip(inputs.unbind(), self.of_x(inputs).unbind(), strict=True):
            of_h = self.of_h(h if mask is None else h * mask)
            values = {"x": x, "h": h, "c": c} | self.of_x.parts(of_x) | self.of_h.parts(of_h)
            for n, operation in zip(self.nodes, self.operations, strict=True):
                values[n.name] = operation(*(values[source] for source in n.inputs))
            h = values[self.next_h]
            c = values[self.next_c[0]] if self.next_c else c
            hidden.append(h)
        return torch.stack(hidden), (h, c)


class Projection(nn.Module):
    """Several linear maps of one input as one product; those with a bias keep it, and the others have none.

    Args:
        nodes: the maps, in the order in which their results lie side by side.
        operations: every node's `nn.Linear`.
    """

    def __init__(self, nodes: Sequence[Node], operations: Mapping[str, nn.Module]) -> None:
        super().__init__()
        maps: dict[str, nn.Linear] = {n.name: operations[n.name] for n in nodes}  # pyright: ignore[reportAssignmentType]
        self.sizes = {name: one.out_features for name, one in maps.items()}
        self.biased = tuple(one.bias is not None for one in maps.values())
        self.weight = nn.Parameter(torch.cat([one.weight.detach() for one in maps.values()] or [torch.empty(0, 0)]))
        biases = [one.bias.detach() for one in maps.values() if one.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases)) if biases else None

    def forward(self, inputs: Tensor) -> Tensor:
        """`[..., in] -> [..., sum of sizes]`."""
        if not self.sizes:
            return inputs[..., :0]
        return F.linear(inputs, self.weight, self.padded())

    def padded(self) -> Tensor | None:
        """The bias with zeros where a map has none; `None` if no map has one."""
        if self.bias is None or all(self.biased):
            return self.bias
        own = iter(self.bias.split([size for size, has in zip(self.sizes.values(), self.biased, strict=True) if has]))
        sizes = zip(self.sizes.values(), self.biased, strict=True)
        return torch.cat([next(own) if has else self.bias.new_zeros(size) for size, has in sizes])

    def parts(self, projected: Tensor) -> dict[str, Tensor]:
        """What each map gave, by its name."""
        return dict(zip(self.sizes, projected.split(list(self.sizes.values()), -1), strict=True))


def _projected(graph: Graph) -> tuple[list[Node], list[Node], list[Node]]:
    """The linear maps of `x`, those of `h`, and the nodes that only add one of each.

    The pairs that are added come first in both and in the order of the sums, so that all sums are one addition.
    """
    of = {source: [n for n in graph.nodes if n.op == "linear" and n.inputs == (source,)] for source in ("x", "h")}
    readers: dict[str, int] = {}
    for name in (*(source for n in graph.nodes for source in n.inputs), *graph.outputs):
        readers[name] = readers.get(name, 0) + 1
    alone = {source: {n.name: n for n in nodes if readers[n.name] == 1} for source, nodes in of.items()}
    pairs: list[tuple[Node, Node, Node]] = []
    for n in graph.nodes:
        if n.op == "add" and len(n.inputs) == 2:
            for left, right in (n.inputs, n.inputs[::-1]):
                if left in alone["x"] and right in alone["h"]:
                    pairs.append((alone["x"][left], alone["h"][right], n))
    first = {"x": [x for x, _, _ in pairs], "h": [h for _, h, _ in pairs]}
    of_x, of_h = (first[source] + [n for n in of[source] if n not in first[source]] for source in ("x", "h"))
    return of_x, of_h, [total for _, _, total in pairs]
