"""The cost of a path of a supernet, as that of the network that it is: parameters and floating-point operations."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from child_trainer.supernets.network import SupernetNetwork


def parameters(network: SupernetNetwork, gates: Mapping[str, Tensor]) -> int:
    """Return the number of parameters that a path reads."""
    return sum(network.shapes[name].numel() for name in network.names(gates))


def flops(network: SupernetNetwork, gates: Mapping[str, Tensor], input_shape: tuple[int, int, int]) -> int:
    """Return the floating-point operations of a path's forward pass on one image, as `networks.cost.flops` does."""
    weights = {name: torch.empty(network.shapes[name], device="meta") for name in network.names(gates)}
    # Two images: a batch's statistics need more than one value a channel, and the last map may be of one pixel.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(weights, torch.empty((2, *input_shape), device="meta"), gates)
    return counter.get_total_flops() // 2
