"""The predicted memory of a training, beside what PyTorch really allocates for one step of it on the CPU."""

import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import profile

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.build import build
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.image_memory import kept_for_backward, step_bytes, training_bytes
from child_trainer.training.epochs import make_optimizer
from cluster.config.recipes import RECIPES
from controller.space import first_tokens
from tests.child_trainer.tasks.allocations import peak_of

PROBLEM = ImageProblem(shape=(1, 8, 8), classes=10)


def drawn(recipe: str, seed: int) -> Architecture:
    space = RECIPES[recipe]().search_space
    return space.decode(first_tokens(space, 0, random.Random(seed)))


def peak_of_a_step(architecture: Architecture, budget: Budget) -> int:
    """Return the most bytes that are allocated at once in the second step, besides the inputs."""
    network = build(architecture, PROBLEM, generator=torch.Generator().manual_seed(0))
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
    optimizer = make_optimizer(network, budget)
    images = torch.randn(budget.batch_size, *PROBLEM.shape)
    labels = torch.zeros(budget.batch_size, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    with profile(profile_memory=True) as measured:
        network.zero_grad()
        step()
        step()
    return peak_of(measured) + sum(p.numel() * 4 for p in network.parameters())


@pytest.mark.parametrize(("recipe", "seed"), [("digits", 0), ("digits", 1), ("nasnet-digits", 0)])
def test_a_step_allocates_what_is_predicted_for_it(recipe: str, seed: int) -> None:
    architecture, budget = drawn(recipe, seed), Budget(batch_size=1000)
    predicted, _ = step_bytes(architecture, PROBLEM, budget)
    assert 0.9 < predicted / peak_of_a_step(architecture, budget) < 1.4


def test_more_images_and_heavier_optimizers_take_more_and_unknown_ones_as_much_as_any() -> None:
    architecture = drawn("digits", 0)
    few, many = Budget(batch_size=512), Budget(batch_size=4096)
    assert training_bytes(architecture, PROBLEM, few, 10_000) < training_bytes(architecture, PROBLEM, many, 10_000)
    sizes = [
        training_bytes(architecture, PROBLEM, replace(few, momentum=0.0, regime=Regime(optimizer=name)), 10_000)
        for name in ("sgd", "rmsprop", "adam")
    ]
    assert sizes == sorted(set(sizes))
    assert training_bytes(architecture, PROBLEM, few, 1_000) < training_bytes(architecture, PROBLEM, few, None)


def test_what_is_kept_for_the_backward_pass_leaves_the_weights_out() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.Tanh()).to("meta")
    inputs = torch.empty((5, 10), device="meta")
    # The inputs of the linear map and the outputs of tanh, which is all that their derivatives need.
    assert kept_for_backward(network, network, inputs) == (5 * 10 * 4 + 5 * 20 * 4 + 5 * 10 * 4, 5 * 20 * 4)
