"""The weights of a network by the names of its nodes, by which networks that have nodes in common share them (S7).

A name is `{node}/{parameter}`: `stem/conv.weight`, `stem/norm.bias`, and for a classifier's linear layers `head/weight`
and `auxiliary_head/bias`. It does not depend on the other nodes, on padding or on the image's size.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from child_trainer.networks.build import Classifier

HEADS = ("head", "auxiliary_head")
"""The names of a classifier's linear layers, after its graph."""


class WrongWeights(ValueError):
    """Weights do not fit a network; the message names the first that does not and what would be right."""


def named(network: Classifier) -> dict[str, Tensor]:
    """Return the network's parameters by name, in the order of its nodes: the tensors themselves, not copies.

    Raises:
        WrongWeights: two parameters have one name, as those of a node called `head` and of the classifier's own may.
    """
    return _by_name(network, statistics=False)


def statistics(network: Classifier) -> dict[str, Tensor]:
    """Return the running statistics of batch normalisation by name, as `named` does parameters."""
    return _by_name(network, statistics=True)


@torch.no_grad()
def load(network: Classifier, weights: Mapping[str, Tensor]) -> None:
    """Set the network's parameters, and those of its running statistics that are given.

    Args:
        network: is changed in place.
        weights: has every parameter by its name, and no other names but those of statistics.

    Raises:
        WrongWeights: a name is missing or unknown, or a shape is another; nothing has been changed.
    """
    check_fit(network, weights)
    places = named(network) | statistics(network)
    for name, tensor in weights.items():
        places[name].copy_(tensor)


def check_fit(network: Classifier, weights: Mapping[str, Tensor]) -> None:
    """Raise `WrongWeights` unless `load` can set the network's parameters to these weights.

    The network may be on the `meta` device.
    """
    parameters = named(network)
    places = parameters | statistics(network)
    for name in parameters:
        if name not in weights:
            raise WrongWeights(f"the network has a parameter {name!r}, for which no weights are given")
    if unknown := min((name for name in weights if name not in places), default=None):
        raise WrongWeights(f"the network has no parameter {unknown!r}; it has {_some(parameters)}")
    for name, place in places.items():  # in the network's order: that of a file is any
        if name in weights and weights[name].shape != place.shape:
            raise WrongWeights(f"{name!r} has the shape {tuple(place.shape)}, got {tuple(weights[name].shape)}")


def parameter_names(module: nn.Module) -> dict[str, str]:
    """Return the name of each parameter and buffer within its node, by PyTorch's name within the node's module."""
    if not isinstance(module, nn.Sequential):
        return {name: name for name in _tensors(module)}
    # The places in a convolution's sequence depend on its padding.
    roles = {place: _role(child) or place for place, child in module.named_children()}
    unique = len(set(roles.values())) == len(roles)
    names = {}
    for name in _tensors(module):
        place, _, rest = name.partition(".")
        names[name] = f"{roles[place]}.{rest}" if unique else name
    return names


def _role(module: nn.Module) -> str | None:
    if isinstance(module, nn.Conv2d):
        return "conv"
    return "norm" if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else None


def _tensors(module: nn.Module) -> Iterator[str]:
    yield from (name for name, _ in module.named_parameters())
    yield from (name for name, _ in module.named_buffers())


def _by_name(network: Classifier, *, statistics: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for node, module in _parts(network):
        names = parameter_names(module)
        for name, tensor in module.named_buffers() if statistics else module.named_parameters():
            full = f"{node}/{names[name]}"
            if full in tensors:
                raise WrongWeights(f"two parameters of the network are called {full!r}; give the node another name")
            tensors[full] = tensor
    return tensors


def _parts(network: Classifier) -> Iterator[tuple[str, nn.Module]]:
    """Yield each node's name with its module, and then the linear layers behind the graph."""
    for n, module in zip(network.graph.nodes, network.graph.operations, strict=True):
        yield n.name, module
    for name in HEADS:
        if (head := getattr(network, name)) is not None:
            yield name, head


def _some(names: Iterable[str], most: int = 5) -> str:
    shown = list(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
