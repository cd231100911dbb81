"""Small sub-networks for the tests."""

import torch

from child_trainer.networks.build import Classifier, build
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.subnetworks import members_of
from controller.spaces.subnetworks import SubnetworkSpace

PROBLEM = ImageProblem(shape=(1, 8, 8), classes=10)

SPACE = SubnetworkSpace(
    layers=3,
    filter_heights=(1, 3),
    filter_widths=(1, 3),
    num_filters=(4, 6),
    activations=("relu", "tanh"),
    skip_connections=False,
)

EQUAL = (1, 1, 0, 0) * 3
"""The tokens of a sub-network of three layers with four filters of 3 x 3."""

WIDER = (*EQUAL[:4], 1, 1, 1, 0, *EQUAL[8:])
"""The same with six filters in the second layer."""


def subnetworks(*tokens: tuple[int, ...]) -> list[Classifier]:
    """The networks of these tokens, each with weights of its own; of two the first is selected."""
    architecture = SPACE.decode((*(token for each in tokens for token in each), 0, 0, 0))
    return [
        build(member, PROBLEM, generator=torch.Generator().manual_seed(number))
        for number, member in enumerate(members_of(architecture))
    ]
