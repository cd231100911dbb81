"""The weights with which a changed network computes what the network before the changes did.

All tensors are float32 and named as in `child_trainer.networks.weights`. For the changes see `changes.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from child_trainer.architectures.architecture import Architecture, Node
from child_trainer.inheritance.changed_architectures import (
    branch_names,
    changed,
    depthwise_name,
    find_node,
    part_sizes,
)
from child_trainer.inheritance.changes import (
    Branch,
    Change,
    Deepen,
    InsertIdentity,
    InvalidChange,
    Repeat,
    ReplaceIdentity,
    Widen,
)
from child_trainer.inheritance.widening import repeated_weights, widened_weights, with_noise
from child_trainer.networks.build import ImageProblem, build, build_node, build_nodes
from child_trainer.networks.operations import Shape, Site
from child_trainer.networks.weights import load, named, statistics
from child_trainer.regime import DEFAULT_REGIME, Regime

Tensors = Mapping[str, Tensor]


def inherited(
    parent: Architecture,
    weights: Tensors,
    changes: Sequence[Change],
    problem: ImageProblem,
    images: Tensor,
    *,
    generator: Generator,
    regime: Regime = DEFAULT_REGIME,
) -> dict[str, Tensor]:
    """Return the weights of the network after the changes.

    Args:
        parent: the network before.
        weights: its parameters and running statistics, on the CPU.
        changes: made one after another.
        problem: has the images' shape and the number of classes.
        images: `[B, C, H, W]`, a batch as the network sees it, on which new batch normalisation is measured.
        generator: draws the units that are copied, and the noise.
        regime: has the constants of batch normalisation.

    Raises:
        InvalidChange: a change does not fit, or would not keep the network's function.
        WrongWeights: the weights are not the parent's.
    """
    result, new = dict(weights), list[_NewLayer]()
    for change in changes:
        moves_channels = isinstance(change, Widen | Repeat)
        if moves_channels or (isinstance(change, Branch) and any(change.node in layer.names for layer in new)):
            result |= _measured(parent, result, new, problem, images, regime)
            new = []
        after = changed(parent, [change])
        match change:
            case Widen():
                result = widened_weights(parent, result, change, problem, generator)
            case Deepen():
                new.append(_identity_layer(change, generator))
                result |= new[-1].weights
            case Branch():
                result = _branched(parent, result, change, generator)
            case Repeat():
                result = repeated_weights(parent, result, change, problem, generator)
            case ReplaceIdentity(op="conv" | "separable_conv"):
                new.append(_identity_convolution(change, generator))
                result |= new[-1].weights
            case InsertIdentity() | ReplaceIdentity():  # an identity and a pool have no weights
                pass
        parent = after
    return result | _measured(parent, result, new, problem, images, regime)


@dataclass(frozen=True, kw_only=True, slots=True)
class _NewLayer:
    """A layer that begins as the identity, before its normalisation has been measured.

    Attributes:
        change: what made it.
        names: of its nodes, in order.
        weights: by name; those of its normalisation are placeholders.
    """

    change: Deepen | ReplaceIdentity
    names: tuple[str, ...]
    weights: Tensors

    def check(self, source: Shape) -> None:
        """Raise `InvalidChange` unless the layer can be the identity of values of this shape, without the batch."""
        change, width, is_map = self.change, source[0], len(source) == 3
        if isinstance(change, Deepen):
            if is_map != (change.op == "conv"):
                kind = "a feature map" if is_map else "a vector"
                raise InvalidChange(f"a {change.op} cannot follow node {change.after!r}, whose value is {kind}")
            if change.width != width:
                raise InvalidChange(f"the layer after {change.after!r} must have the width {width}, got {change.width}")
            return
        reads = f"what node {change.node!r} reads"
        if not is_map:
            raise InvalidChange(f"a {change.op} cannot be in the place of {change.node!r}: {reads} is a vector")
        if change.width != width:
            raise InvalidChange(
                f"the {change.op} in the place of {change.node!r} must have the width {width} of {reads}, got"
                f" {change.width}"
            )


def _identity_layer(change: Deepen, generator: Generator) -> _NewLayer:
    """Return a layer behind a node."""
    name, width = change.name, change.width
    if change.op == "linear":
        weight = with_noise(torch.eye(width), change.noise, generator)
        weights = {f"{name}/weight": weight, f"{name}/bias": torch.zeros(width)}
    else:
        kernel = with_noise(_centred(torch.eye(width), change.size), change.noise, generator)
        weights = {f"{name}/conv.weight": kernel} | _norm(name, torch.zeros(width), torch.ones(width))
    return _NewLayer(change=change, names=(name,), weights=weights)


def _identity_convolution(change: ReplaceIdentity, generator: Generator) -> _NewLayer:
    """Return a convolution, separable or not, in the place of an identity."""
    name, width, depthwise = change.node, change.width, depthwise_name(change)
    weights = _norm(name, torch.zeros(width), torch.ones(width))
    if change.op == "conv":
        kernel = with_noise(_centred(torch.eye(width), change.size), change.noise, generator)
        return _NewLayer(change=change, names=(name,), weights=weights | {f"{name}/conv.weight": kernel})
    channels = with_noise(_centred(torch.ones(width, 1), change.size), change.noise, generator)
    kernel = with_noise(_centred(torch.eye(width), 1), change.noise, generator)
    weights |= {f"{depthwise}/conv.weight": channels, f"{name}/conv.weight": kernel}
    return _NewLayer(change=change, names=(depthwise, name), weights=weights)


@torch.no_grad()
def _measured(
    architecture: Architecture,
    weights: Tensors,
    new: Sequence[_NewLayer],
    problem: ImageProblem,
    images: Tensor,
    regime: Regime,
) -> dict[str, Tensor]:
    """Return the normalisation with which new layers give back what they read, measured by one pass in evaluation.

    A layer is measured on what those before it, which may be new, make of the images.
    """
    if not new:
        return {}
    _check(architecture, new, problem, regime)
    network = build(architecture, problem, generator=Generator().manual_seed(0), regime=regime)
    load(network, weights)
    network.eval()
    places, found = named(network) | statistics(network), dict[str, Tensor]()

    def measure(name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        (values,) = inputs
        output = _convolved(values, weights[f"{name}/conv.weight"])
        variance, mean = torch.var_mean(output, dim=(0, 2, 3), correction=0)
        norm = _norm(name, mean, variance, regime.norm_epsilon)
        found.update(norm)
        for tensor, value in norm.items():
            places[tensor].copy_(value)

    normalised = {layer.names[-1] for layer in new if layer.change.op != "linear"}
    for n, module in zip(network.graph.nodes, network.graph.operations, strict=True):
        if n.name in normalised:
            module.register_forward_pre_hook(partial(measure, n.name))
    network.graph(images)
    return found


def _check(architecture: Architecture, new: Sequence[_NewLayer], problem: ImageProblem, regime: Regime) -> None:
    """Raise `InvalidChange` unless the network has all new layers, each of which can be the identity."""
    firsts = {layer.names[0]: layer for layer in new}

    def checked(site: Site) -> tuple[nn.Module, Shape]:
        if site.node.name in firsts:
            firsts.pop(site.node.name).check(site.shapes[0])
        return build_node(site)

    with torch.device("meta"):
        build_nodes(architecture.pruned(), (problem.input_shape,), None, regime, checked)
    for layer in firsts.values():
        name = layer.change.after if isinstance(layer.change, Deepen) else layer.change.node
        raise InvalidChange(f"no output of the network depends on node {name!r}: choose another")


def _centred(matrix: Tensor, size: int) -> Tensor:
    """Return a kernel `[outputs, inputs, size, size]` with this matrix in its centre, and 0 around it."""
    centre = (size - 1) // 2
    kernel = torch.zeros(*matrix.shape, size, size)
    kernel[:, :, centre, centre] = matrix
    return kernel


def _convolved(values: Tensor, kernel: Tensor) -> Tensor:
    """Return values `[B, C, H, W]` after a convolution with SAME padding."""
    size = kernel.shape[-1]
    before = (size - 1) // 2
    behind = size - 1 - before
    padded = torch.nn.functional.pad(values, (before, behind, before, behind))
    return torch.nn.functional.conv2d(padded, kernel)


def _norm(name: str, mean: Tensor, variance: Tensor, epsilon: float = 0.0) -> dict[str, Tensor]:
    """Return the weights of a layer's batch normalisation that gives back values with this mean and variance `[C]`."""
    return {
        f"{name}/norm.weight": (variance + epsilon).sqrt(),
        f"{name}/norm.bias": mean,
        f"{name}/norm.running_mean": mean.clone(),
        f"{name}/norm.running_var": variance,
        f"{name}/norm.num_batches_tracked": torch.tensor(0),
    }


def _branched(parent: Architecture, weights: Tensors, change: Branch, generator: Generator) -> dict[str, Tensor]:
    """Return the weights after a layer has become several branches."""
    layer = find_node(parent, change.node)
    own = {name: tensor for name, tensor in weights.items() if name.startswith(f"{layer.name}/")}
    result = {name: tensor for name, tensor in weights.items() if name not in own}
    has_copies = (change.allocation, change.merge) == ("copy", "add")
    for place, branch in enumerate(branch_names(change)):
        for name, tensor in own.items():
            role = name.removeprefix(f"{layer.name}/")
            part = _branch_part(layer, role, tensor, change, place)
            if has_copies and place and part.dim() > 1:  # a kernel or a matrix, not normalisation
                part = with_noise(part, change.noise, generator)
            result[f"{branch}/{role}"] = part
    return result


def _branch_part(layer: Node, role: str, tensor: Tensor, change: Branch, place: int) -> Tensor:
    """Return what one branch gets of a tensor of the layer."""
    if tensor.dim() == 0 or (change.allocation, change.merge) == ("copy", "add"):
        return tensor.clone()
    if (change.allocation, change.merge) == ("split", "add"):
        if role.endswith("bias"):  # of the sum of the branches
            return tensor.clone() if place == 0 else torch.zeros_like(tensor)
        return _part(tensor, 1, change.count, place)
    reads_whole = change.allocation == "copy"
    if reads_whole and layer.op == "conv" and role.startswith("norm") and layer.attribute("order").startswith("bn"):
        return tensor.clone()  # of the input
    return _part(tensor, 0, change.count, place)


def _part(tensor: Tensor, dimension: int, count: int, place: int) -> Tensor:
    return tensor.split(part_sizes(tensor.shape[dimension], count), dimension)[place].clone()
