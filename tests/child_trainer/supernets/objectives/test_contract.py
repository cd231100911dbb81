"""Every objective obeys the contract, on a supernet with dropout, sums and choices of one and of several inputs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.generated import GeneratedSupernet
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from child_trainer.supernets.objectives.objective import Objective
from tests.child_trainer.supernets.problem import Problem, one_hot
from tests.contracts.objective import Data, ObjectiveContract

PROBLEM = Problem()
WINDOW = {"height": 3, "width": 3, "filters": 4}
SUPERNET = Architecture(
    "feedforward",
    (
        node("stem", "conv", "image", **WINDOW),
        node("wide", "conv", "stem", **WINDOW),
        node("narrow", "conv", "stem", **(WINDOW | {"height": 1})),
        node("none", "zero", "stem"),
        node("op", "mix", ("wide", "narrow", "stem", "none"), gate="op"),
        node("deep", "depthwise_conv", "op", height=3, width=3),
        node("skip", "mix", ("stem", "deep"), gate="skip"),
        node("sum", "add", ("op", "skip", "stem")),
        node("thin", "dropout", "sum", rate=0.25),
        node("only", "mix", ("thin",), gate="only"),
        node("end", "conv", "only", **WINDOW),
    ),
    ("end",),
)
OTHER_VALUES: Mapping[str, Mapping[str, Any]] = {
    "path": {"l2": 1e-3, "clip_norm": 1.0},
    "dropout": {"groups": 3, "progress": 0.5, "drop_rate": 0.2, "l2": 1e-3},
    "darts": {"order": 2, "decay": 3e-4},
    "weighted": {"validation_weight": 2.0, "label_smoothing": 0.1},
    "snas": {"progress": 0.5, "cost_weight": 0.01},
    "proxyless": {"cost_loss": "mul#log", "cost_reference": 5.0},
    "proxyless-two": {"cost_loss": "add#linear", "cost_reference": 5.0, "rate": 0.1},
    "proxyless-reinforce": {"samples": 3},
    "proxyless-warm-up": {"clip_norm": 0.1},
}
"""Settings that reach the branches of each objective."""


@pytest.fixture(scope="module")
def supernet_network() -> SupernetNetwork:
    return SupernetNetwork(SUPERNET, PROBLEM)


@pytest.fixture(scope="module")
def generated_network() -> SupernetNetwork:
    point = node("point", "conv", "op", height=1, width=1, filters=4, order="conv-unbiased")
    nodes = [replace(n, inputs=("point",)) if n.name == "deep" else n for n in SUPERNET.nodes]
    supernet = Architecture("feedforward", (*nodes, point), SUPERNET.outputs)
    return GeneratedSupernet(supernet, PROBLEM, options=HyperOptions(growth=2, depths=(2, 1)))


class TestObjective(ObjectiveContract):
    @pytest.fixture(params=OBJECTIVES)
    def name(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.fixture(params=[False, True], ids=["defaults", "other values"])
    def others(self, request: pytest.FixtureRequest) -> bool:
        return request.param

    @pytest.fixture
    def objective(self, name: str) -> Objective[Any]:
        return OBJECTIVES[name]

    @pytest.fixture
    def values(self, name: str, others: bool) -> Mapping[str, Any]:
        return OTHER_VALUES[name] if others else {}

    @pytest.fixture
    def network(self, supernet_network: SupernetNetwork) -> SupernetNetwork:
        return supernet_network.train()

    @pytest.fixture
    def data(self) -> Data:
        return Data(PROBLEM.images(12), PROBLEM.labels(12))

    @pytest.fixture
    def given(self, network: SupernetNetwork, name: str) -> Gates:
        if name == "path":
            return one_hot(network.gate_sizes, 0)
        if name == "dropout":
            return {}
        generator = torch.Generator().manual_seed(3)
        return {gate: torch.randn(size, generator=generator) for gate, size in network.gate_sizes.items()}


class TestPathsOfAGeneratedSupernet(ObjectiveContract):
    """SMASH: the path objective on a supernet with a hypernetwork (spec §10)."""

    @pytest.fixture
    def objective(self) -> Objective[Any]:
        return OBJECTIVES["path"]

    @pytest.fixture
    def network(self, generated_network: SupernetNetwork) -> SupernetNetwork:
        return generated_network.train()

    @pytest.fixture
    def data(self) -> Data:
        return Data(PROBLEM.images(12), PROBLEM.labels(12))

    @pytest.fixture
    def given(self, network: SupernetNetwork) -> Gates:
        return one_hot(network.gate_sizes, 0) | {"skip": torch.tensor([0.0, 1.0])}

    def test_the_hypernetwork_learns(self, halves: Any, run: Any) -> None:
        step, _, _ = run(halves[0])
        assert step.weights["hypernetwork/last.direction"].any()
        assert "point/conv.weight" not in step.weights

    def test_the_penalty_is_on_the_other_weights(
        self, objective: Objective[Any], network: SupernetNetwork, data: Data, given: Gates
    ) -> None:
        weights = network.initial(0)
        (half,) = objective.half_steps
        draw = half.draw(network.gate_sizes, given, objective.settings_of({}), torch.Generator().manual_seed(0))
        one, other = (
            half.step(network, data, weights, draw, objective.settings_of({"l2": l2})).weights for l2 in (0.0, 0.1)
        )
        moved = {name for name in one if not torch.equal(one[name], other[name])}
        assert moved == {name for name in one if not name.startswith("hypernetwork/") and weights[name].any()}


def test_other_values_are_tried_for_every_objective() -> None:
    assert OTHER_VALUES.keys() == OBJECTIVES.keys()
