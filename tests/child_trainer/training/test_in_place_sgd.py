import pytest
import torch

from child_trainer.training.in_place_sgd import InPlaceSgd

SHAPES = [(8, 3, 3, 3), (8,), (10, 72), (1,), (16, 8, 1, 5)]


def trained(optimizer, settings):
    """Return the parameters after some steps, with their momentum buffers."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    parameters[0] = torch.nn.Parameter(parameters[0].detach().contiguous(memory_format=torch.channels_last))
    steps = optimizer(parameters, 0.1, **settings)
    for step in range(6):
        steps.param_groups[0]["lr"] = 0.1 / (step + 3)
        steps.zero_grad()
        for place, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator)
            if (step + place) % 3:  # in some steps some have no gradient
                parameter.grad = gradient.contiguous(memory_format=torch.preserve_format)
        steps.step()
    return [*parameters, *(steps.state[p].get("momentum_buffer") for p in parameters)]


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9, "weight_decay": 1e-4, "nesterov": True},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "weight_decay": 0.01},
        {"weight_decay": 0.01},
        {},
    ],
    ids=str,
)
def test_steps_and_buffers_are_those_of_pytorch_to_the_bit(settings):
    for ours, theirs in zip(trained(InPlaceSgd, settings), trained(torch.optim.SGD, settings), strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or (torch.equal(ours, theirs) and ours.stride() == theirs.stride())
