"""The cost of a network: parameters and floating-point operations."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from child_trainer.networks.build import Classifier
from child_trainer.networks.operations import keeps_shape


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
    skipped = [module for module in network.modules() if keeps_shape(module)]
    try:
        # They would be taken apart into dozens of small operations, none of which is counted.
        for module in skipped:
            module.forward = _unchanged
        with counter, torch.no_grad():
            functional_call(network, state, example)
    finally:
        for module in skipped:
            del module.forward
        network.train(was_training)
    return counter.get_total_flops()


def _unchanged(values: torch.Tensor) -> torch.Tensor:
    return values
