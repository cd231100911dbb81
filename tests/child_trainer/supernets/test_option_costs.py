import itertools

import pytest
import torch

from child_trainer.architectures import nasbench201
from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.cells import darts_supernet
from child_trainer.networks import cost
from child_trainer.networks.build import build
from child_trainer.supernets.objectives.costs import chosen_cost
from child_trainer.supernets.option_costs import MEASURES, flops, latency, option_costs, parameters
from child_trainer.supernets.restriction import restrict
from tests.child_trainer.supernets.problem import Problem, one_hot

PROBLEM = Problem()
SUPERNET = nasbench201.supernet(cells_per_stage=1, stem_channels=4)


@pytest.mark.parametrize("measure", [parameters, flops])
def test_costs_of_options_add_up_to_those_of_a_child(measure):
    costs = option_costs(SUPERNET, PROBLEM, measure)

    def whole(seed: int) -> tuple[float, float]:
        """The child's own cost, and what the table says about its options."""
        gates = {name: gate.tolist() for name, gate in one_hot(costs_sizes, seed).items()}
        child = build(restrict(SUPERNET, gates), PROBLEM)
        own = (
            cost.parameters(child)
            if measure is parameters
            else cost.flops(child, torch.empty((1, 3, 8, 8), device="meta"))
        )
        return own, chosen_cost(gates, costs)

    costs_sizes = {name: len(numbers) for name, numbers in costs.items()}
    differences = {own - table for own, table in map(whole, range(6))}
    assert len(differences) == 1  # what all children have in common


def test_an_option_costs_what_all_its_cells_compute_for_it():
    costs = option_costs(SUPERNET, PROBLEM, parameters)
    # One cell in each stage of 4, 8 and 16 channels; a convolution with two numbers of normalisation for each filter.
    expected = {
        operation: sum(side * side * c * c + 2 * c for c in (4, 8, 16)) if side else 0
        for operation, side in zip(nasbench201.CELL_OPERATIONS, (0, 0, 1, 3, 0), strict=True)
    }
    assert set(costs) == set(nasbench201.GATES)
    assert all(numbers == tuple(expected.values()) for numbers in costs.values())


def test_nodes_of_several_options_count_for_none():
    window = {"height": 3, "width": 3, "filters": 3, "order": "conv"}
    graph = Architecture(
        "feedforward",
        (
            node("shared", "conv", "image", **window),
            node("own", "conv", "shared", **window),
            node("end", "mix", ("own", "shared"), gate="g"),
        ),
        ("end",),
    )
    assert option_costs(graph, PROBLEM, parameters) == {"g": (3 * 3 * 3 * 3 + 3, 0.0)}


def test_latency_is_measured_once_for_equal_nodes(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("child_trainer.supernets.option_costs.time.perf_counter", lambda: next(clock) / 1e6)
    supernet = darts_supernet.supernet(cells=1, filters=2, nodes=1, operations=("none", "sep_3x3", "identity"))
    calls = []

    def counted(module, shapes):
        calls.append(shapes)
        return latency(module, shapes)

    costs = option_costs(supernet, PROBLEM, counted)
    # Each run takes one tick of the clock, 1 µs: a separable convolution is twice three nodes, on two edges.
    assert costs["reduction.0-2"][1] == pytest.approx(6.0)
    assert len(calls) < len(supernet.nodes)


def test_the_measures_have_names():
    assert list(MEASURES) == ["parameters", "flops", "latency"]
    module = torch.nn.Linear(3, 4, device="meta")
    assert MEASURES["parameters"](module, ((3,),)) == 16
    assert MEASURES["flops"](module, ((3,),)) == 24
    assert MEASURES["latency"](module, ((3,),)) > 0
