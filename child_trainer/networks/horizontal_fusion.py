"""Networks of one architecture with different weights as one network: horizontal fusion (HFTA: Wang et al. 2021).

Feature maps of K networks lie side by side as channels, network by network. A convolution of G groups becomes one of
K G groups, a batch normalisation one of K times the channels, a linear map a batched matrix product. Each network
computes what it computes alone, up to the order in which sums are taken.

Shapes: K networks; B examples; C channels of one network; H and W, height and width. Tensors are float32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.build import Classifier, Graph, Network, pooled
from child_trainer.networks.operations import Concat, LastReLU, PoolingLayer

_EACH_VALUE = frozenset(
    {
        "add",
        "constant",
        "flatten",
        "global_avg_pool",
        "identity",
        "interpolate",
        "leaky_relu",
        "logistic",
        "maximum",
        "mean",
        "multiply",
        "relu",
        "relu6",
        "scale",
        "shift",
        "sigmoid",
        "sin",
        "subtract",
        "tanh",
        "zero",
    }
)
"""Operations by which no channel of a network changes another one, so that they are the same for K networks."""


class CannotFuse(ValueError):
    """Networks cannot be trained as one; the message says what is in the way."""


class FusedLinear(nn.Module):
    """The linear maps of K networks.

    Args:
        maps: one of each network, all of one shape.
    """

    def __init__(self, maps: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([one.weight.detach() for one in maps]))
        biases = [one.bias for one in maps]
        self.bias = nn.Parameter(torch.stack([bias.detach() for bias in biases])) if biases[0] is not None else None

    def forward(self, features: Tensor) -> Tensor:
        """Map `[B, K * inputs]` to `[B, K * outputs]`."""
        networks, _, inputs = self.weight.shape
        each = features.view(len(features), networks, inputs).transpose(0, 1)
        if self.bias is None:
            result = torch.bmm(each, self.weight.mT)
        else:
            result = torch.baddbmm(self.bias[:, None], each, self.weight.mT)
        return result.transpose(0, 1).flatten(1)


class FusedClassifier(nn.Module):
    """K classifiers of one architecture as one network.

    Every parameter and every running statistic has those of the K networks one after another in its first dimension.

    Args:
        architecture: of the networks.
        networks: at least one, each as `build` returns it; their weights are copied.

    Raises:
        CannotFuse: the architecture has an auxiliary head, or an operation that cannot be one of K networks.
    """

    def __init__(self, architecture: Architecture, networks: Sequence[Classifier]) -> None:
        super().__init__()
        check_can_fuse(architecture)
        live, graphs = architecture.pruned(), [network.graph for network in networks]
        self.networks = len(networks)
        self.graph = Graph(
            live,
            {
                node.name: _fused_node(node.op, [graph.operations[place] for graph in graphs])
                for place, node in enumerate(live.ordered)
            },
        )
        self.head = FusedLinear([network.head for network in networks])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[B, K, num_classes]` of images `[B, K * C, H, W]`."""
        return self.head(pooled(self.graph.main(images))).unflatten(1, (self.networks, -1))

    @torch.no_grad()
    def copy_to(self, networks: Sequence[Classifier]) -> None:
        """Set the weights and statistics of K networks, as the constructor got them, to those that they have here."""
        state = self.state_dict()
        for number, network in enumerate(networks):
            for name, tensor in network.state_dict().items():
                each = state[name]
                tensor.copy_(each.unflatten(0, (self.networks, -1))[number].view_as(tensor) if tensor.dim() else each)


def check_can_fuse(architecture: Architecture) -> None:
    """Raise `CannotFuse` if an architecture has an auxiliary head, or an operation that cannot be one of K networks.

    What draws random numbers cannot: the draws of each network come from a generator of its own.
    """
    live = architecture.pruned()
    if len(live.outputs) > 1:
        raise CannotFuse("a network with an auxiliary head cannot be fused")
    for node in live.ordered:
        if node.op not in _EACH_VALUE and node.op not in _FUSED:
            raise CannotFuse(f"a network with the operation {node.op} cannot be fused")


def _fused_node(op: str, modules: Sequence[nn.Module]) -> nn.Module:
    return modules[0] if op in _EACH_VALUE else _FUSED[op](modules)


def _fused(modules: Sequence[nn.Module]) -> nn.Module:
    """Return the layer of K networks for one layer of each."""
    first = modules[0]
    if isinstance(first, nn.Sequential):
        layers = zip(*(cast(nn.Sequential, module) for module in modules), strict=True)
        return nn.Sequential(*(_fused(layer) for layer in layers))
    if isinstance(first, nn.Conv2d):
        return _fused_convolution(cast(Sequence[nn.Conv2d], modules))
    if isinstance(first, nn.BatchNorm1d | nn.BatchNorm2d):
        return _fused_normalisation(first, modules)
    if isinstance(first, nn.Linear):
        return FusedLinear(cast(Sequence[nn.Linear], modules))
    assert isinstance(first, nn.ReLU | LastReLU | nn.ZeroPad2d | PoolingLayer)
    return first


def _fused_convolution(layers: Sequence[nn.Conv2d]) -> nn.Conv2d:
    first, networks = layers[0], len(layers)
    fused = nn.Conv2d(
        networks * first.in_channels,
        networks * first.out_channels,
        cast(tuple[int, int], first.kernel_size),
        cast(tuple[int, int], first.stride),
        cast(tuple[int, int], first.padding),
        dilation=cast(tuple[int, int], first.dilation),
        groups=networks * first.groups,
        bias=first.bias is not None,
        device="meta",
    )
    return _with_state(fused, layers)


def _fused_normalisation(first: nn.BatchNorm1d | nn.BatchNorm2d, layers: Sequence[nn.Module]) -> nn.Module:
    fused = type(first)(
        len(layers) * first.num_features, eps=first.eps, momentum=first.momentum, affine=first.affine, device="meta"
    )
    return _with_state(fused, layers)


def _with_state(fused: Network, layers: Sequence[nn.Module]) -> Network:
    """Give a layer the parameters and statistics of the layers that it stands for, one after another."""
    states = [layer.state_dict() for layer in layers]
    state: Mapping[str, Tensor] = {
        name: torch.cat([one[name] for one in states]) if tensor.dim() else tensor.clone()
        for name, tensor in states[0].items()
    }
    fused.load_state_dict(state, assign=True)
    return fused


def _concat(modules: Sequence[nn.Module]) -> nn.Module:
    return _FusedConcat(cast(Concat, modules[0]), len(modules))


class _FusedConcat(nn.Module):
    """Concatenation of the channels of each of K networks."""

    def __init__(self, one: Concat, networks: int) -> None:
        super().__init__()
        self.paddings, self.networks = one.paddings, networks

    def forward(self, *inputs: Tensor) -> Tensor:
        """Concatenate inputs `[B, K * C_i, H_i, W_i]` to `[B, K * sum C_i, max H_i, max W_i]`."""
        padded = [
            nn.functional.pad(x, padding) if any(padding) else x
            for x, padding in zip(inputs, self.paddings, strict=True)
        ]
        if len(padded) == 1:
            return padded[0]
        return torch.cat([x.unflatten(1, (self.networks, -1)) for x in padded], dim=2).flatten(1, 2)


class _FusedSplit(nn.Module):
    """One of the equal parts of the channels of each of K networks."""

    def __init__(self, one: nn.Module, networks: int) -> None:
        super().__init__()
        self.one, self.networks = one, networks

    def forward(self, values: Tensor) -> Tensor:
        """Return `[B, K * C / parts, ...]` of values `[B, K * C, ...]`."""
        examples = len(values)
        each: Tensor = self.one(values.unflatten(1, (self.networks, -1)).flatten(0, 1))
        return each.unflatten(0, (examples, self.networks)).flatten(1, 2)


def _split(modules: Sequence[nn.Module]) -> nn.Module:
    return _FusedSplit(modules[0], len(modules))


_FUSED: Mapping[str, Callable[[Sequence[nn.Module]], nn.Module]] = {
    "conv": _fused,
    "depthwise_conv": _fused,
    "linear": _fused,
    "batch_norm": _fused,
    "max_pool": _fused,
    "avg_pool": _fused,
    "concat": _concat,
    "split": _split,
}
"""Operations of which the module of K networks differs from that of one."""
