"""What each option of a supernet costs: a look-up table of parameters, FLOPs or measured latency (spec §13, §14)."""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from child_trainer.architectures.architecture import Architecture, Label
from child_trainer.architectures.gates import gate_sizes
from child_trainer.networks import cost
from child_trainer.networks.build import ImageProblem, build_nodes, initialise
from child_trainer.networks.latency import median_seconds
from child_trainer.networks.operations import Shape, Site
from child_trainer.regime import DEFAULT_REGIME, Regime
from child_trainer.supernets.gated_graph import build_gated_node
from child_trainer.supernets.plan import Planner, Use

Measure = Callable[[nn.Module, tuple[Shape, ...]], float]
"""Returns the cost of a node: of its module, on the `meta` device, for inputs of these shapes."""


def parameters(module: nn.Module, shapes: tuple[Shape, ...]) -> float:
    """Return the number of a node's weights."""
    return cost.parameters(module)


def flops(module: nn.Module, shapes: tuple[Shape, ...]) -> float:
    """Return a node's floating-point operations for one image, as `cost.flops` counts them."""
    return cost.flops(module, *(torch.empty((1, *shape), device="meta") for shape in shapes))


def latency(module: nn.Module, shapes: tuple[Shape, ...]) -> float:
    """Return the time in µs that a node takes for one image on this machine's CPU: a median of several runs.

    It is measured with as many threads as PyTorch uses now. In µs every node takes more than 1, so that the logarithm
    in ProxylessNAS's loss is positive for small networks too.
    """
    module = module.to_empty(device="cpu").eval()
    for part in module.modules():
        initialise(part, torch.Generator().manual_seed(0), "he")
    inputs = [torch.ones((1, *shape)) for shape in shapes]
    with torch.inference_mode():
        return 1e6 * median_seconds(lambda: module(*inputs), time.perf_counter)


MEASURES: Mapping[str, Measure] = MappingProxyType({"parameters": parameters, "flops": flops, "latency": latency})
"""What may be counted, by name."""


def option_costs(
    supernet: Architecture, task: ImageProblem, measure: Measure, regime: Regime = DEFAULT_REGIME
) -> dict[str, tuple[float, ...]]:
    """Return the cost of each option by the name of its gate.

    The cost of an option is that of the nodes that the supernet does not compute without it, in all nodes that share
    the gate. A node that several options have in common counts for none of them.

    Args:
        supernet: a feed-forward graph with `mix` nodes.
        task: has the image's shape.
        measure: one of `MEASURES`; called once for all nodes that are equal.
        regime: has the constants of batch normalisation.

    Raises:
        InvalidArchitecture: a node cannot take its inputs, or nodes of one gate have not equally many inputs.
    """
    live = supernet.without_auxiliary().pruned()
    sites: list[Site] = []

    def build(site: Site) -> tuple[nn.Module, Shape]:
        sites.append(site)
        return build_gated_node(site)

    with torch.device("meta"):
        modules, _ = build_nodes(live, (task.input_shape,), None, regime, build)
    found: dict[tuple[Label, tuple[Shape, ...]], float] = {}
    costs: list[float] = []
    for site in sites:
        key = site.node.label(), site.shapes
        if site.node.op != "mix" and key not in found:
            found[key] = measure(modules[site.node.name], site.shapes)
        costs.append(found.get(key, 0.0))
    sizes, planner = gate_sizes(live), Planner(live)
    every = {name: (Use.PLAIN,) * size for name, size in sizes.items()}
    computed = {step.index for step in planner.plan(every)}

    def cost_of(gate: str, option: int) -> float:
        uses = tuple(Use.NONE if place == option else Use.PLAIN for place in range(sizes[gate]))
        left = {step.index for step in planner.plan(every | {gate: uses})}
        return sum(costs[index] for index in sorted(computed - left))

    return {gate: tuple(cost_of(gate, option) for option in range(size)) for gate, size in sizes.items()}
