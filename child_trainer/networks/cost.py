"""The cost of a network: parameters and floating-point operations."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from child_trainer.networks.build import Classifier


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters; those of a classifier's auxiliary head do not count."""
    auxiliary = {id(p) for p in network.auxiliary_parameters()} if isinstance(network, Classifier) else ()
    return sum(p.numel() for p in network.parameters() if p.requires_grad and id(p) not in auxiliary)


def flops(network: nn.Module, *example: object) -> int:
    """Return the floating-point operations of one forward pass on one example; a multiply-add counts as two.

    Convolutions and matrix products are counted, which PyTorch's counter knows; all else is small in comparison. The
    pass runs on the `meta` device, so that nothing is computed, and leaves the network unchanged.

    Args:
        network: on any device.
        example: the arguments of its `forward`, tensors on the `meta` device.
    """
    state = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    was_training = network.training
    counter = FlopCounterMode(display=False)
    network.eval()
    try:
        with counter, torch.no_grad():
            functional_call(network, state, example)
    finally:
        network.train(was_training)
    return counter.get_total_flops()
