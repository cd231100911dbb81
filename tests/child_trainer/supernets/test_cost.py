import random

import torch

from child_trainer.networks import cost
from child_trainer.networks.build import build
from child_trainer.supernets.cost import flops, parameters
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.tasks.entry import ImageProblem
from controller.decisions import uniform
from controller.spaces.enas_macro import EnasMacroSpace

PROBLEM = ImageProblem(shape=(1, 8, 8), classes=10)
SPACE = EnasMacroSpace(layers=4, filters=3)


def test_a_path_costs_what_the_network_does_that_it_is() -> None:
    supernet = SupernetNetwork(SPACE.supernet(), PROBLEM)
    for seed in range(5):
        tokens = uniform(SPACE.decisions(0), random.Random(seed))
        gates = {name: torch.tensor(vector) for name, vector in SPACE.gates(tokens).items()}
        child = build(SPACE.decode(tokens), PROBLEM)
        assert parameters(supernet, gates) == cost.parameters(child)
        assert flops(supernet, gates, PROBLEM.shape) == cost.flops(
            child, torch.empty((1, *PROBLEM.shape), device="meta")
        )
