"""The cost of a path of a supernet, as that of the network that it is: parameters and floating-point operations."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from child_trainer.supernets.network import SupernetNetwork


def parameters(network: SupernetNetwork, gates: Mapping[str, Tensor]) -> int:
    """Return the number of parameters of the network that a path is."""
    return sum(shape.numel() for shape in network.path_shapes(gates).values())


def flops(network: SupernetNetwork, gates: Mapping[str, Tensor], input_shape: tuple[int, int, int]) -> int:
    """Return the floating-point operations of a path's forward pass on one image, as `networks.cost.flops` does."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in network.path_shapes(gates).items()}
    # Two images: a batch's statistics need more than one value a channel, and the last map may be of one pixel.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        # Not the network's own pass: one that generates weights would count, too.
        SupernetNetwork.forward(network, weights, torch.empty((2, *input_shape), device="meta"), gates)
    return counter.get_total_flops() // 2
