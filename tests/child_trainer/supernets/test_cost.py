import random

import pytest
import torch

from child_trainer.networks import cost
from child_trainer.networks.build import build
from child_trainer.supernets.cost import flops, parameters
from child_trainer.supernets.generated import GeneratedSupernet
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.tasks.entry import ImageProblem
from controller.decisions import uniform
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.smash import SmashSpace

PROBLEM = ImageProblem(shape=(1, 8, 8), classes=10)
SPACE = EnasMacroSpace(layers=4, filters=3)
SMASH = SmashSpace(layers_per_stage=1, banks=2, bank_channels=2, units=4, kernels=(3,), dilations=(1,), groups=(1, 2))


@pytest.mark.parametrize("space", [SPACE, SMASH], ids=["enas-macro", "smash"])
def test_a_path_costs_what_the_network_does_that_it_is(space: EnasMacroSpace | SmashSpace) -> None:
    """Weights that are generated count as the network's, and generating them as nothing."""
    made = SupernetNetwork if space is SPACE else GeneratedSupernet
    supernet = made(space.supernet(), PROBLEM)
    for seed in range(5):
        tokens = uniform(space.decisions(0), random.Random(seed))
        gates = {name: torch.tensor(vector) for name, vector in space.gates(tokens).items()}
        child = build(space.decode(tokens), PROBLEM)
        assert parameters(supernet, gates) == cost.parameters(child)
        assert flops(supernet, gates, PROBLEM.shape) == cost.flops(
            child, torch.empty((1, *PROBLEM.shape), device="meta")
        )
