"""The operations of a supernet, run along a plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks.build import build_node, pooled
from child_trainer.networks.operations import Shape, Site
from child_trainer.networks.weights import HEADS
from child_trainer.supernets.plan import Step, Use

Gate = Tensor | Sequence[float | Tensor]
"""A number for each input of the nodes that share the gate: a vector, or numbers of which some may have gradients."""

Gates = Mapping[str, Gate]
"""Each gate by its name."""


@dataclass(frozen=True, slots=True)
class GatedPass:
    """How the nodes of a supernet are computed for given gates.

    Attributes:
        gates: the name of each node's gate by place; `None` for one that is no mix.
        shapes: of each node's value by place, without the batch.
        uses: what a mix does with each of its inputs, by the name of its gate.
        weighed: the numbers that count of each gate that multiplies some of its inputs, as a vector.
        steps: the plan for these uses.
    """

    gates: Sequence[str | None]
    shapes: Sequence[Shape]
    uses: Mapping[str, Sequence[Use]]
    weighed: Mapping[str, Tensor]
    steps: Sequence[Step]

    def compute(self, values: list[Tensor], call: Callable[[int, list[Tensor]], Tensor]) -> None:
        """Compute the nodes of the plan, in order.

        Args:
            values: of nodes and inputs by place, the inputs at the end, `[B, ...]` each; what is not computed, or no
                longer needed, is empty.
            call: computes a node that is no mix, from its place and what it reads.
        """
        nothing, source = values[-1].new_empty(0), values[-1]
        for step in self.steps:
            gate = self.gates[step.index]
            inputs = [values[place] for place in step.sources]
            with torch.set_grad_enabled(step.differentiated and torch.is_grad_enabled()):
                if gate is None:
                    value = call(step.index, inputs)
                elif gate in self.weighed:
                    value = _weighed(inputs, self.weighed[gate], [use for use in self.uses[gate] if use])
                elif inputs:
                    value = reduce(Tensor.add, inputs)
                else:
                    value = source.new_zeros((len(source), *self.shapes[step.index]))
            values[step.index] = value
            for place in step.freed:
                values[place] = nothing


class GatedNodes:
    """Makes the passes of one supernet.

    Args:
        supernet: a graph with `mix` nodes.
        shapes: of each node's value, without the batch, by name.
    """

    def __init__(self, supernet: Architecture, shapes: Mapping[str, Shape]) -> None:
        self._gates = [n.attribute("gate") if n.op == "mix" else None for n in supernet.ordered]
        self._shapes = [shapes[n.name] for n in supernet.ordered]

    def along(self, gates: Gates, uses: Mapping[str, Sequence[Use]], steps: Sequence[Step]) -> GatedPass:
        """Return a pass.

        Args:
            gates: the numbers of each gate by its name; they may be on another device than what is computed.
            uses: what a mix does with each of its inputs, by the name of its gate.
            steps: the plan for these uses.
        """
        weighed = {
            name: _used(gates[name], used) for name, used in uses.items() if Use.WEIGHED in used or Use.DETACHED in used
        }
        return GatedPass(self._gates, self._shapes, uses, weighed, steps)


class GatedGraph(nn.Module):
    """A supernet's nodes and the classifier behind them.

    Args:
        supernet: a feed-forward graph with `mix` nodes, of which the first output counts.
        modules: the module of each node by its name; that of a mix is not used.
        shapes: of each node's value, without the batch, by name.
        head: the linear layer behind the graph.
    """

    nodes_path = "operations"
    """Where the nodes' modules are in this one."""

    def __init__(
        self, supernet: Architecture, modules: Mapping[str, nn.Module], shapes: Mapping[str, Shape], head: nn.Linear
    ) -> None:
        super().__init__()
        self.operations = nn.ModuleList(modules[n.name] for n in supernet.ordered)
        self.head = head
        self._nodes = GatedNodes(supernet, shapes)
        self._output = [n.name for n in supernet.ordered].index(supernet.outputs[0])

    def around(self) -> dict[str, str]:
        """Return the names of the parameters around the nodes, each with PyTorch's."""
        return {f"{HEADS[0]}/{name}": f"head.{name}" for name, _ in self.head.named_parameters()}

    def forward(self, images: Tensor, gates: Gates, uses: Mapping[str, Sequence[Use]], steps: Sequence[Step]) -> Tensor:
        """Return the logits `[B, num_classes]` of images `[B, C, H, W]`, all float32; see `GatedNodes.along`."""
        values = [*(images.new_empty(0) for _ in self.operations), images]
        self._nodes.along(gates, uses, steps).compute(values, self._call)
        return self.head(pooled(values[self._output]))

    def _call(self, place: int, inputs: list[Tensor]) -> Tensor:
        return self.operations[place](*inputs)


def _used(gate: Gate, uses: Sequence[Use]) -> Tensor:
    """Return the numbers of a gate that count, as a vector."""
    if isinstance(gate, Tensor):
        return gate[[place for place, use in enumerate(uses) if use]] if Use.NONE in uses else gate
    return torch.stack([torch.as_tensor(number) for number, use in zip(gate, uses, strict=True) if use])


def _weighed(inputs: Sequence[Tensor], gates: Tensor, uses: Sequence[Use]) -> Tensor:
    """Return the sum of the inputs, each times its gate."""
    # One product of a stack takes a fraction of the time of a product for each input.
    terms = [x.detach() if use == Use.DETACHED else x for x, use in zip(inputs, uses, strict=True)]
    stack = torch.stack(terms).flatten(1)
    return (gates @ stack).view_as(terms[0])


def build_gated_node(site: Site) -> tuple[nn.Module, Shape]:
    """Build the module of one node of a supernet, as `build_node` does; that of a mix is empty.

    Raises:
        InvalidArchitecture: the node cannot take its inputs.
    """
    if site.node.op != "mix":
        return build_node(site)
    try:
        site.check_same_shapes()
    except ValueError as error:
        raise InvalidArchitecture(f"node {site.node.name!r} mixes {site.shapes}: {error}") from error
    return nn.Identity(), site.shapes[0]
