"""NAS-Bench-201's networks against what is published of them."""

import random

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.nasbench201 import (
    CELL_OPERATIONS,
    Cell,
    cell_from_name,
    cell_name,
    cell_of,
    known_as,
    network,
)
from child_trainer.networks import cost
from child_trainer.networks.build import build
from child_trainer.outcome import Budget
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.train import train
from tests.golden import architecture as convolutional

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
ALL_3X3: Cell = ("nor_conv_3x3",) * 6
NOTHING: Cell = ("none",) * 6


class Cifar:
    input_shape = (3, 32, 32)
    num_classes = 10


def cells(count: int) -> list[Cell]:
    rng = random.Random(5)
    return [tuple(rng.choices(CELL_OPERATIONS, k=6)) for _ in range(count)]


@pytest.mark.parametrize(
    ("cell", "parameters", "mega_multiplications"),
    [(cell_from_name(BEST), 1_073_466, 153.27), (ALL_3X3, 1_531_546, 220.12), (NOTHING, 73_306, 7.78)],
)
def test_networks_have_the_published_size(cell: Cell, parameters: int, mega_multiplications: float) -> None:
    built = build(network(cell), Cifar())
    assert cost.parameters(built) == parameters
    assert cost.flops(built, torch.empty(1, *Cifar.input_shape, device="meta")) / 2e6 == pytest.approx(
        mega_multiplications, abs=0.005
    )


def test_its_networks_have_the_benchmarks_name_and_no_others_do() -> None:
    assert known_as(network(cell_from_name(BEST))) == BEST
    assert known_as(network(cell_from_name(BEST), cells_per_stage=1)) is None


def test_a_name_is_read_and_written() -> None:
    cell = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_1x1")
    assert cell_from_name(BEST) == cell
    assert cell_name(cell) == BEST
    assert all(cell_from_name(cell_name(c)) == c for c in cells(20))


@pytest.mark.parametrize(
    "wrong", ["", "|none~0|", BEST.replace("3x3~1", "3x3~2", 1), BEST.replace("skip_connect", "skip"), BEST + "|"]
)
def test_what_names_no_cell_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="a cell is written as"):
        cell_from_name(wrong)


def test_a_node_is_the_sum_of_the_operations_on_those_before_it() -> None:
    """The benchmark's definition, computed here by hand for a cell without convolutions: pools and copies."""
    from torch.nn import functional as F

    cell = ("avg_pool_3x3", "skip_connect", "avg_pool_3x3", "none", "skip_connect", "avg_pool_3x3")
    whole = network(cell, cells_per_stage=1, stem_channels=3)
    inner = tuple(n for n in whole.nodes if n.name.startswith("stage1."))
    names = {"stem": "image"}
    alone = tuple(Node(n.name, n.op, tuple(names.get(i, i) for i in n.inputs), n.attributes) for n in inner)
    built = build(Architecture("feedforward", alone, (inner[-1].name,)), Cifar())
    images = torch.randn(2, 3, 32, 32)

    def pool(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    first = pool(images)
    second = images + pool(first)
    third = first + pool(second)
    torch.testing.assert_close(built.graph(images)[0], third)


@pytest.mark.parametrize("cell", [*cells(5), ALL_3X3, NOTHING])
def test_the_cell_is_read_off_the_network_whatever_its_nodes_are_called(cell: Cell) -> None:
    known = network(cell)
    rng = random.Random(1)
    names = {n.name: f"n{i}" for i, n in enumerate(rng.sample(known.nodes, len(known.nodes)))} | {"image": "image"}
    renamed = [
        Node(names[n.name], n.op, tuple(names[i] for i in rng.sample(n.inputs, len(n.inputs))), n.attributes)
        for n in known.nodes
    ]
    rng.shuffle(renamed)
    other = Architecture("feedforward", tuple(renamed), (names["features"],))
    assert cell_of(known) == cell_of(other) == cell


def changed(n: Node) -> Node:
    """A cell other than the last with another operation on one of its edges."""
    return node(n.name, "max_pool", n.inputs, height=3, width=3) if n.name == "stage2.cell2.0-3" else n


@pytest.mark.parametrize(
    "other",
    [
        convolutional(),
        network(ALL_3X3, cells_per_stage=4),
        network(ALL_3X3, stem_channels=8),
        Architecture("feedforward", tuple(map(changed, network(ALL_3X3).nodes)), ("features",)),
        Architecture("feedforward", (node("a", "relu", "image"),), ("a",)),
        Architecture("feedforward", (), ("image",)),
        Architecture("recurrent", (node("a", "relu", "x"),), ("a",)),
    ],
)
def test_other_networks_are_refused(other: Architecture) -> None:
    with pytest.raises(InvalidArchitecture, match=f"architecture {other.id} is no network of NAS-Bench-201"):
        cell_of(other)


def test_a_small_network_trains_on_digits() -> None:
    architecture = network(cell_from_name(BEST), cells_per_stage=1, stem_channels=8)
    budget = Budget(epochs=2, batch_size=32, learning_rate=0.05)
    outcome = train(architecture, load_task("digits", seed=0), budget, seed=1)
    assert outcome.failure is None
    assert outcome.metric is not None
    assert outcome.metric > 0.5
