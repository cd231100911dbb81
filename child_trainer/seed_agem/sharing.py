"""Layers of sub-networks that become shared ("A-GEM" of the article; spec §17.1). It is not GEM's A-GEM.

The article begins with independent random parameters and shares more and more of them by a rule, which it does not
give. Here layers of one shape at one depth form a sharing group, and groups become shared one depth after another,
from the input on. At that moment the shared tensor becomes the mean of the members' tensors, and so do the optimizer's
moments. Running statistics of batch normalisation are buffers and stay private.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from child_trainer.networks.build import Classifier

Signature = tuple[tuple[str, tuple[int, ...]], ...]
"""The names and shapes of a layer's parameters."""


def layers_of(network: Classifier) -> list[nn.Module]:
    """Return the modules with parameters in the order of the graph, the classifier's linear layer last."""
    modules = [*network.graph.operations, network.head]
    return [module for module in modules if next(module.parameters(), None) is not None]


def sharing_groups(networks: Sequence[Classifier]) -> list[list[list[nn.Module]]]:
    """Return the groups of each depth, from the input on: layers of one shape, at least two of them.

    A classifier is at the depth behind its own last layer.
    """
    stacks = [layers_of(network) for network in networks]
    groups: list[list[list[nn.Module]]] = []
    for depth in range(max(map(len, stacks))):
        by_signature: dict[Signature, list[nn.Module]] = {}
        for stack in stacks:
            if depth < len(stack):
                by_signature.setdefault(_signature(stack[depth]), []).append(stack[depth])
        groups.append([members for members in by_signature.values() if len(members) > 1])
    return groups


def shared_depth(depth: int, epoch: int, epochs_until_shared: float) -> int:
    """Return D_s(e) = floor(D min(1, e / E_share)), the number of depths that are shared in an epoch.

    Args:
        depth: D, of all depths.
        epoch: e, from 0.
        epochs_until_shared: E_share; infinite if nothing ever is.
    """
    return math.floor(depth * min(1.0, epoch / epochs_until_shared))


@torch.no_grad()
def share(networks: Sequence[Classifier], optimizer: torch.optim.Optimizer, depths: int) -> None:
    """Make one parameter of each that the groups of the first depths have in common; those shared already stay.

    Args:
        networks: are changed in place.
        optimizer: of their parameters; it forgets those that are no longer there.
        depths: how many depths are to be shared.
    """
    for groups in sharing_groups(networks)[:depths]:
        for members in groups:
            for name, first in list(members[0].named_parameters()):
                _share_one(members, name, first, optimizer)


def shared_parameters(networks: Sequence[Classifier]) -> list[nn.Parameter]:
    """Return the parameters that more than one network has."""
    owners: dict[nn.Parameter, int] = {}
    for network in networks:
        for parameter in network.parameters():
            owners[parameter] = owners.get(parameter, 0) + 1
    return [parameter for parameter, count in owners.items() if count > 1]


def _share_one(members: Sequence[nn.Module], name: str, first: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    """Make the first member's parameter of this name that of all, with the mean of the values and the moments."""
    owned = [member.get_parameter(name) for member in members]
    others = [parameter for parameter in owned if parameter is not first]
    if not others:
        return
    first.copy_(torch.stack([parameter.detach() for parameter in owned]).mean(0))
    states = [optimizer.state.get(parameter, {}) for parameter in owned]
    for key in {key for state in states for key in state}:
        optimizer.state[first][key] = _mean(states, key, first)
    for parameter in others:
        optimizer.state.pop(parameter, None)
    gone = {id(parameter) for parameter in others}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in gone]
    for member in members:
        owner, _, attribute = name.rpartition(".")
        setattr(member.get_submodule(owner), attribute, first)


def _mean(states: Sequence[dict[str, Tensor]], key: str, parameter: Tensor) -> Tensor:
    """Return the mean of the optimizer's tensor of this key; a member without one has made no step and counts as 0."""
    values = [state[key] for state in states if state.get(key) is not None]
    if values[0].shape != parameter.shape:  # a number of steps
        return torch.stack(values).max()
    zeros = [torch.zeros_like(parameter)] * (len(states) - len(values))
    # In the parameter's memory layout, which is also that of a moment read from a checkpoint.
    return torch.empty_like(parameter).copy_(torch.stack([*values, *zeros]).mean(0))


def _signature(module: nn.Module) -> Signature:
    return tuple(_shapes(module))


def _shapes(module: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, parameter in module.named_parameters():
        yield name, tuple(parameter.shape)
