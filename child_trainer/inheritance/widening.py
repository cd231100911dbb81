"""Net2WiderNet: the weights of a network one of whose layers got more units (Chen et al. 2016, arXiv 1511.05641).

Each unit of the wider layer is a copy of one of the narrow layer's. A new layer of a dense block is made of copies,
too. The copies flow through the network: what treats each channel alone copies its own weights likewise, a
concatenation passes the copies of each input on at their place, and a layer that reads the copies divides its weights
among them. So all later readers of a concatenation follow, as in a DenseNet (Cai et al. 2018, arXiv 1707.04873,
section 3.4).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

from child_trainer.architectures.architecture import Architecture, Node
from child_trainer.inheritance.changed_architectures import dense_layer, find_node, repeated_name, width_of
from child_trainer.inheritance.changes import InvalidChange, Repeat, Widen
from child_trainer.networks.build import ImageProblem, build_nodes
from child_trainer.networks.operations import Shape
from child_trainer.networks.weights import HEADS
from child_trainer.regime import DEFAULT_REGIME

Copies = Tensor
"""[channels] int64: for each channel of a value, which channel of the narrow network's value it is a copy of."""

_PASS = (
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "identity",
    "zero",
    "relu",
    "relu6",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "sin",
    "dropout",
    "drop_path",
    "shift",
    "scale",
    "logistic",
)
"""Operations with one input and without weights that treat each channel alone."""

_COMBINE = ("add", "multiply", "mean", "maximum", "subtract", "interpolate")
"""Operations that join values of one shape, place by place."""


@torch.no_grad()
def widened_weights(
    parent: Architecture, weights: Mapping[str, Tensor], change: Widen, problem: ImageProblem, generator: Generator
) -> dict[str, Tensor]:
    """Return the weights of the network with the wider layer.

    Args:
        parent: the narrow network.
        weights: its parameters and running statistics by name.
        change: the layer and its new width.
        problem: has the images' shape.
        generator: draws the units that are copied, and the noise.

    Raises:
        InvalidChange: a reader of the layer cannot keep its function with copies.
    """
    layer = find_node(parent, change.node)
    old = width_of(layer)
    drawn = torch.randint(old, (change.width - old,), generator=generator)
    copies = torch.cat([torch.arange(old), drawn])
    result = dict(weights)
    if layer.name in (shapes := _shapes(parent, problem)):
        _copy_units(result, layer, copies, change.noise, generator)
        _spread(result, parent, layer.name, copies, shapes)
    return result


@torch.no_grad()
def repeated_weights(
    parent: Architecture, weights: Mapping[str, Tensor], change: Repeat, problem: ImageProblem, generator: Generator
) -> dict[str, Tensor]:
    """Return the weights of the network with a new layer in a dense block, which begins as a copy of another.

    Args:
        parent: the network before.
        weights: its parameters and running statistics by name.
        change: the layer that is copied, and the new one's name.
        problem: has the images' shape.
        generator: draws the filters that are copied, and the noise.

    Raises:
        InvalidChange: a reader of the layer cannot keep its function with copies.
    """
    nodes, joined = dense_layer(parent, change.node)
    shapes = _shapes(parent, problem)
    if joined.name not in shapes:
        raise InvalidChange(f"no output of the network depends on node {change.node!r}: choose another")
    own, before = width_of(nodes[-1]), shapes[joined.inputs[0]][0]
    drawn = torch.randint(own, (own,), generator=generator)
    result = dict(weights)
    new = {n.name: repeated_name(change, n.name) for n in nodes}
    for name, tensor in weights.items():
        node, _, role = name.rpartition("/")
        if node in new:
            result[f"{new[node]}/{role}"] = tensor.clone()
    first, last = (replace(n, name=new[n.name]) for n in (nodes[0], nodes[-1]))
    _ignore(result, first, own)
    _copy_rows(result, last, drawn)
    # Not a set of names: its order, and so the noise, would be another in every process.
    for name in dict.fromkeys(f"{n.name}/conv.weight" for n in (first, last)):
        result[name] = with_noise(result[name], change.noise, generator)
    copies = torch.cat([torch.arange(before + own), before + drawn])
    _spread(result, parent, joined.name, copies, shapes)
    return result


def with_noise(weights: Tensor, ratio: float, generator: Generator) -> Tensor:
    """Return the weights plus normal noise whose standard deviation is `ratio` times theirs."""
    if not ratio:
        return weights
    noise = torch.randn(weights.shape, generator=generator)
    return weights + noise * weights.std(correction=0) * ratio


def _shapes(network: Architecture, problem: ImageProblem) -> Mapping[str, Shape]:
    """Return the shape of each value that an output depends on, without the batch."""
    with torch.device("meta"):
        return build_nodes(network.pruned(), (problem.input_shape,), None, DEFAULT_REGIME)[1]


def _spread(
    weights: dict[str, Tensor], network: Architecture, name: str, copies: Copies, shapes: Mapping[str, Shape]
) -> None:
    """Change all weights behind a node so that the network computes the same when the node's channels are copies."""
    found, live = {name: copies}, network.pruned()
    for n in live.ordered:
        if n.name not in found and any(source in found for source in n.inputs):
            inputs = [found.get(source) for source in n.inputs]
            if (passed := _follow(weights, n, inputs, [shapes[source] for source in n.inputs])) is not None:
                found[n.name] = passed
    for head, output in zip(HEADS, live.outputs, strict=False):
        if output in found:
            _divide(weights, f"{head}/weight", found[output])


def _copy_units(weights: dict[str, Tensor], layer: Node, copies: Copies, noise: float, generator: Generator) -> None:
    """Give a layer's new units the weights of those that they copy, and noise."""
    _copy_rows(weights, layer, copies)
    if noise:
        weight = weights[f"{layer.name}/{'conv.' if layer.op == 'conv' else ''}weight"]
        old = int(copies.max()) + 1
        drawn = torch.randn(weight[old:].shape, generator=generator)
        weight[old:] += drawn * weight[:old].std(correction=0) * noise


def _copy_rows(weights: dict[str, Tensor], layer: Node, copies: Copies) -> None:
    """Make a layer's units copies of what they were, without noise."""
    prefix = "conv." if layer.op == "conv" else ""
    _copy(weights, f"{layer.name}/{prefix}weight", copies)
    _copy(weights, f"{layer.name}/{prefix}bias", copies)
    if layer.op == "conv" and not layer.attribute("order").startswith("bn"):
        _copy_norm(weights, f"{layer.name}/norm.", copies)


def _ignore(weights: dict[str, Tensor], layer: Node, more: int) -> None:
    """Give a convolution so many more input channels, which count nothing; their normalisation is that of new ones."""
    name = f"{layer.name}/conv.weight"
    weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name][:, :1]).expand(-1, more, -1, -1)], dim=1)
    if layer.attribute("order").startswith("bn"):
        for role, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            if (norm := f"{layer.name}/norm.{role}") in weights:
                weights[norm] = torch.cat([weights[norm], torch.full((more,), value)])


def _follow(weights: dict[str, Tensor], n: Node, inputs: list[Copies | None], shapes: list[Shape]) -> Copies | None:
    """Change a reader's weights so that it gives the same for copies; return the copies in its own value, if any."""
    if n.op == "concat":
        return _joined(inputs, shapes)
    if n.op in _COMBINE:
        return _combined(n, inputs)
    (copies,) = inputs
    assert copies is not None
    if n.op == "linear" or (n.op == "conv" and n.attribute("groups") == 1):
        _absorb(weights, n, copies)
        return None
    if n.op == "depthwise_conv" and n.attribute("multiplier") == 1:
        _copy(weights, f"{n.name}/conv.weight", copies)
        _copy(weights, f"{n.name}/conv.bias", copies)
        _copy_norm(weights, f"{n.name}/norm.", copies)
    elif n.op == "batch_norm":
        _copy_norm(weights, f"{n.name}/", copies)
    elif n.op == "flatten":
        places = math.prod(shapes[0][1:])
        return (copies[:, None] * places + torch.arange(places)).flatten()
    elif n.op not in _PASS:
        raise InvalidChange(
            f"node {n.name!r} ({n.op}) reads the layer's channels by place, so that copies would change what it"
            " computes: choose another layer"
        )
    return copies


def _combined(n: Node, inputs: list[Copies | None]) -> Copies:
    """Return the copies in values that are joined place by place, which must be the same ones."""
    first = inputs[0]
    if first is None or any(other is None or not torch.equal(first, other) for other in inputs):
        raise InvalidChange(
            f"node {n.name!r} ({n.op}) joins the layer with others of the same width: choose a layer whose value is"
            " joined by concatenation only"
        )
    return first


def _absorb(weights: dict[str, Tensor], n: Node, copies: Copies) -> None:
    """Divide the weights of a convolution or linear map among the copies in its input."""
    if n.op == "conv" and n.attribute("order").startswith("bn"):
        _copy_norm(weights, f"{n.name}/norm.", copies)
    _divide(weights, f"{n.name}/{'conv.' if n.op == 'conv' else ''}weight", copies)


def _joined(inputs: list[Copies | None], shapes: list[Shape]) -> Copies:
    """Return the copies in a concatenation."""
    parts, begin = [], 0
    for copies, shape in zip(inputs, shapes, strict=True):
        parts.append((torch.arange(shape[0]) if copies is None else copies) + begin)
        begin += shape[0]
    return torch.cat(parts)


def _copy(weights: dict[str, Tensor], name: str, copies: Copies) -> None:
    """Copy the rows of a tensor, if there is one of this name."""
    if name in weights:
        weights[name] = weights[name][copies]


def _copy_norm(weights: dict[str, Tensor], norm: str, copies: Copies) -> None:
    """Copy the channels of batch normalisation, whose tensors' names begin with `norm`, if there is any."""
    for role in ("weight", "bias", "running_mean", "running_var"):
        _copy(weights, f"{norm}{role}", copies)


def _divide(weights: dict[str, Tensor], name: str, copies: Copies) -> None:
    """Give each copy of an input its share of the weights of the one input: [outputs, inputs, ...]."""
    times = torch.bincount(copies)[copies]
    shape = (1, -1, *(1,) * (weights[name].dim() - 2))
    weights[name] = weights[name][:, copies] / times.reshape(shape)
