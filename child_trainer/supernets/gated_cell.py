"""A supernet's recurrent cell, stepped over a sequence along a plan.

Shapes: T steps; B sequences side by side; H hidden units, which the input has, too. All tensors are floating-point.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.fused_cell import State, reads_hidden
from child_trainer.networks.operations import Shape
from child_trainer.supernets.gated_graph import GatedNodes, GatedPass, Gates
from child_trainer.supernets.plan import Step, Use

X = -1
"""The place of the cell's input; that of h is one less, and that of c two."""


class GatedCell(nn.Module):
    """Computes what the cell of a path does (`FusedCell`), node by node; a cell without a next c passes its c on.

    Args:
        supernet: a recurrent graph with `mix` nodes and one output, the next h.
        modules: the module of each node by its name; that of a mix is not used.
        shapes: of each node's value, without the batch, by name.
    """

    def __init__(self, supernet: Architecture, modules: Mapping[str, nn.Module], shapes: Mapping[str, Shape]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(modules[n.name] for n in supernet.ordered)
        self._graph, self._nodes = supernet.ordered, GatedNodes(supernet, shapes)
        self._output = [n.name for n in supernet.ordered].index(supernet.outputs[0])
        self._pass: GatedPass | None = None

    @contextmanager
    def along(self, gates: Gates, uses: Mapping[str, Sequence[Use]], steps: Sequence[Step]) -> Iterator[None]:
        """Have forward passes within the context compute a path; see `GatedNodes.along`."""
        self._pass = self._nodes.along(gates, uses, steps)
        try:
            yield
        finally:
            self._pass = None

    def forward(self, inputs: Tensor, state: State, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the hidden states [T, B, H] and the state after the last step.

        Args:
            inputs: [T, B, H], x at all steps.
            state: h and c before the first step, [B, H] each.
            mask: [B, H], multiplies what linear maps of h and of values within the cell read.
        """
        assert self._pass is not None
        h, c = state
        # Maps of x do not depend on the state: each is one product for all steps.
        of_x = {
            step.index: self.operations[step.index](inputs).unbind()
            for step in self._pass.steps
            if step.sources == (X,) and self._graph[step.index].op == "linear"
        }
        nothing, hidden = inputs.new_empty(0), []
        for number, x in enumerate(inputs.unbind()):
            values = [*(nothing for _ in self.operations), c, h, x]
            known = {place: results[number] for place, results in of_x.items()}
            self._pass.compute(values, partial(self._call, known, mask))
            h = values[self._output]
            hidden.append(h)
        return torch.stack(hidden), (h, c)

    def _call(self, known: Mapping[int, Tensor], mask: Tensor | None, place: int, inputs: list[Tensor]) -> Tensor:
        if place in known:
            return known[place]
        if mask is not None and reads_hidden(self._graph[place], inputs[0], mask):
            inputs = [inputs[0] * mask]
        return self.operations[place](*inputs)
