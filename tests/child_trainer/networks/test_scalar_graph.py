"""Networks of single numbers compute what the builder's tensor programs compute."""

import math
import random

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.networks.build import build, build_cell
from child_trainer.networks.scalar_graph import ScalarGraph, logistic
from controller.spaces.genomes import GenomeSpace
from tests.controller.genomes.genomes import grown


class Pair:
    """The builder's view of a task whose images are vectors."""

    input_shape = (2,)
    num_classes = 1


def inputs(rng: random.Random, count: int) -> list[float]:
    return [rng.uniform(-1, 1) for _ in range(count)]


def test_it_computes_what_the_built_network_computes() -> None:
    space, rng = GenomeSpace(inputs=2, outputs=2), random.Random(0)
    for seed in range(10):
        architecture = space.network(grown(seed, steps=20))
        graph = build(architecture, Pair()).graph
        x = inputs(rng, 2)
        (built,) = graph(torch.tensor([x]))
        assert ScalarGraph(architecture, {"image": 2})(x) == pytest.approx(built[0].tolist(), abs=1e-5)


def test_it_computes_what_the_built_cell_computes_step_by_step() -> None:
    space, rng = GenomeSpace(inputs=2, outputs=2, recurrent=True), random.Random(0)
    for seed in range(10):
        architecture = space.network(grown(seed, steps=20, recurrent=True))
        size = len(architecture.nodes[-1].inputs)
        cell, network = build_cell(architecture, 2, size), ScalarGraph(architecture, {"x": 2, "h": size})
        state, values = torch.zeros(1, size), [0.0] * size
        for _ in range(3):
            x = inputs(rng, 2)
            (state,) = cell(torch.tensor([x]), state, torch.zeros(1, size))
            values = network(x, values)
            assert values == pytest.approx(state[0].tolist(), abs=1e-4)


def network(*nodes: Node) -> Architecture:
    return Architecture("feedforward", nodes, (nodes[-1].name,))


def test_it_computes_sums_and_functions_of_them() -> None:
    architecture = network(
        node("a", "split", "image", parts=2, index=0),
        node("b", "split", "image", parts=2, index=1),
        node("one", "constant", "a", value=1.0),
        node("nothing", "zero", "b"),
        node("half", "scale", "one", by=0.5),
        node("sum", "add", ("a", "b", "half", "nothing")),
        node("doubled", "scale", "sum", by=2.0),
        node("out", "logistic", "doubled", slope=3.0),
        node("both", "concat", ("out", "doubled")),
    )
    network_of_numbers = ScalarGraph(architecture, {"image": 2})
    assert network_of_numbers([0.25, -1.0]) == [pytest.approx(1 / (1 + math.exp(1.5))), -0.5]
    assert (network_of_numbers.num_outputs, network_of_numbers.num_weights) == (2, 2)


def test_the_logistic_function_overflows_nowhere() -> None:
    assert [logistic(x) for x in (-1e300, -710.0, 0.0, 710.0, 1e300)] == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ((node("a", "tanh", "image"),), r"node 'a' \(tanh\) is not of single numbers"),
        ((node("a", "split", "image", parts=3, index=0),), "node 'a' reads number 0 of 3, and 'image' has 2"),
        ((node("a", "scale", "image", by=1.0),), r"node 'a' \(scale\) takes one number, got 2"),
        ((node("a", "constant", "image", value=1.0),), r"node 'a' \(constant\) takes one number, got 2"),
    ],
)
def test_other_networks_are_refused(nodes: tuple[Node, ...], problem: str) -> None:
    with pytest.raises(InvalidArchitecture, match=problem):
        ScalarGraph(network(*nodes), {"image": 2})
