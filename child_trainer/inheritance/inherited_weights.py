"""The weights with which a changed network computes what the network before the changes did.

All tensors are float32 and named as in `child_trainer.networks.weights`. For the changes see `changes.py`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

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
from child_trainer.networks.build import ImageProblem, build
from child_trainer.networks.weights import load
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
    result = dict(weights)
    for change in changes:
        after = changed(parent, [change])
        match change:
            case Widen():
                result = widened_weights(parent, result, change, problem, generator)
            case Deepen():
                values = _value_of(parent, result, change.after, problem, images, regime)
                result |= _identity_layer(change, values, regime.norm_epsilon, generator)
            case Branch():
                result = _branched(parent, result, change, generator)
            case Repeat():
                result = repeated_weights(parent, result, change, problem, generator)
            case ReplaceIdentity(op="conv" | "separable_conv"):
                (source,) = find_node(parent, change.node).inputs
                values = _value_of(parent, result, source, problem, images, regime)
                result |= _identity_convolution(change, values, regime.norm_epsilon, generator)
            case InsertIdentity() | ReplaceIdentity():  # an identity and a pool have no weights
                pass
        parent = after
    return result


@torch.no_grad()
def _value_of(
    architecture: Architecture, weights: Tensors, name: str, problem: ImageProblem, images: Tensor, regime: Regime
) -> Tensor:
    """Return the value of a node in evaluation: `[B, C, H, W]` or `[B, units]`."""
    network = build(architecture, problem, generator=Generator().manual_seed(0), regime=regime)
    load(network, weights)
    network.eval()
    values = {"image": images}
    for n, module in zip(network.graph.nodes, network.graph.operations, strict=True):
        values[n.name] = module(*(values[source] for source in n.inputs))
        if n.name == name:
            break
    else:
        raise InvalidChange(f"no output of the network depends on node {name!r}: choose another")
    return values[name]


@torch.no_grad()
def _identity_layer(change: Deepen, values: Tensor, epsilon: float, generator: Generator) -> dict[str, Tensor]:
    """Return the weights of a layer that gives back the values `[B, C, H, W]` or `[B, units]`."""
    if values.dim() != (4 if change.op == "conv" else 2):
        kind = "a feature map" if values.dim() == 4 else "a vector"
        raise InvalidChange(f"a {change.op} cannot follow node {change.after!r}, whose value is {kind}")
    width = values.shape[1]
    if change.width != width:
        raise InvalidChange(f"the layer after {change.after!r} must have the width {width}, got {change.width}")
    if change.op == "linear":
        weight = with_noise(torch.eye(width), change.noise, generator)
        return {f"{change.name}/weight": weight, f"{change.name}/bias": torch.zeros(width)}
    kernel = with_noise(_centred(torch.eye(width), change.size), change.noise, generator)
    return {f"{change.name}/conv.weight": kernel} | _norm_as_identity(change.name, _convolved(values, kernel), epsilon)


@torch.no_grad()
def _identity_convolution(
    change: ReplaceIdentity, values: Tensor, epsilon: float, generator: Generator
) -> dict[str, Tensor]:
    """Return the weights of a convolution, separable or not, that gives back the values `[B, C, H, W]`."""
    name, source = change.node, f"what node {change.node!r} reads"
    if values.dim() != 4:
        raise InvalidChange(f"a {change.op} cannot be in the place of {name!r}: {source} is a vector")
    width = values.shape[1]
    if change.width != width:
        raise InvalidChange(
            f"the {change.op} in the place of {name!r} must have the width {width} of {source}, got {change.width}"
        )
    if change.op == "conv":
        weights = {}
        kernel = with_noise(_centred(torch.eye(width), change.size), change.noise, generator)
    else:
        depthwise = with_noise(_centred(torch.ones(width, 1), change.size), change.noise, generator)
        weights = {f"{depthwise_name(change)}/conv.weight": depthwise}
        values = _convolved(values, depthwise, groups=width)
        kernel = with_noise(_centred(torch.eye(width), 1), change.noise, generator)
    weights[f"{name}/conv.weight"] = kernel
    return weights | _norm_as_identity(name, _convolved(values, kernel), epsilon)


def _centred(matrix: Tensor, size: int) -> Tensor:
    """Return a kernel `[outputs, inputs, size, size]` with this matrix in its centre, and 0 around it."""
    centre = (size - 1) // 2
    kernel = torch.zeros(*matrix.shape, size, size)
    kernel[:, :, centre, centre] = matrix
    return kernel


def _convolved(values: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
    """Return values `[B, C, H, W]` after a convolution with SAME padding."""
    size = kernel.shape[-1]
    before = (size - 1) // 2
    behind = size - 1 - before
    padded = torch.nn.functional.pad(values, (before, behind, before, behind))
    return torch.nn.functional.conv2d(padded, kernel, groups=groups)


def _norm_as_identity(name: str, values: Tensor, epsilon: float) -> dict[str, Tensor]:
    """Return the weights of a layer's batch normalisation that gives back values `[B, C, H, W]`, its input."""
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
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
    for place, branch in enumerate(branch_names(change)):
        for name, tensor in own.items():
            role = name.removeprefix(f"{layer.name}/")
            part = _branch_part(layer, role, tensor, change, place)
            if place and role.endswith("weight"):
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
