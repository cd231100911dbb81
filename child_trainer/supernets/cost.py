"""The cost of a path of a supernet, as that of the network that it is: parameters and floating-point operations."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from child_trainer.supernets.language_network import LanguageSupernet
from child_trainer.supernets.network import SupernetNetwork


def parameters(network: SupernetNetwork, gates: Mapping[str, Tensor]) -> int:
    """Return the number of parameters of the network that a path is."""
    return sum(shape.numel() for shape in network.path_shapes(gates).values())


def flops(network: SupernetNetwork, gates: Mapping[str, Tensor], input_shape: tuple[int, int, int]) -> int:
    """Return the floating-point operations of a path's forward pass on one image, as `networks.cost.flops` does."""
    images = torch.empty((2, *input_shape), device="meta")
    # Not the network's own pass: one that generates weights would count, too.
    return _of_one(network, gates, lambda weights: SupernetNetwork.forward(network, weights, images, gates))


def word_flops(network: LanguageSupernet, gates: Mapping[str, Tensor]) -> int:
    """Return the floating-point operations of a path's forward pass on one word."""
    words = torch.zeros((2, 1), dtype=torch.int64, device="meta")
    return _of_one(network, gates, lambda weights: network(weights, words, gates))


def _of_one(
    network: SupernetNetwork, gates: Mapping[str, Tensor], compute: Callable[[dict[str, Tensor]], Tensor]
) -> int:
    """Return half of the operations of a path's forward pass on two examples, with the weights that it is given.

    A batch's statistics need more than one value a channel, and the last map may be of one pixel.
    """
    weights = {name: torch.empty(shape, device="meta") for name, shape in network.path_shapes(gates).items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compute(weights)
    return counter.get_total_flops() // 2
