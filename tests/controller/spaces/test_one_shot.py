"""One-Shot's space (spec §11)."""

import random

import pytest
import torch

from child_trainer.architectures.drawing import draw
from child_trainer.networks.build import build
from controller.decisions import InvalidTokens, num_samples, uniform
from controller.space import SearchSpace
from controller.spaces.one_shot import DIGITS, OneShotSpace
from controller.zoo.entry import Images
from tests.contracts.supernet import SupernetContract

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)
SMALL = OneShotSpace(blocks=2, cells_per_stage=1, filters=4)
CELL = """
newer: sep_3x3 + max_3x3
older + block 1: identity
"""


class TestSmall(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return OneShotSpace(blocks=3, cells_per_stage=2, filters=4)


class TestDigits(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DIGITS


class TestSingleOptions(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return OneShotSpace(blocks=2, cells_per_stage=1, filters=4, max_inputs=1, max_operations=1)


def test_a_block_has_one_or_two_inputs_and_operations() -> None:
    options = [len(choice.options) for choice in OneShotSpace().decisions(0)]
    assert options == [3, 28, 6, 28, 10, 28, 15, 28]
    assert num_samples(OneShotSpace().decisions(0)) == 3 * 6 * 10 * 15 * 28**4


def test_gates_are_exclusive_only_without_sums() -> None:
    assert OneShotSpace(max_inputs=1, max_operations=1).exclusive
    assert not OneShotSpace(max_inputs=1).exclusive and not OneShotSpace(max_operations=1).exclusive


def test_inputs_are_added_and_so_are_the_values_of_the_operations() -> None:
    nodes = {n.name: n for n in SMALL.decode(SMALL.tokens_of(CELL)).nodes}
    assert nodes["cell2.1"].inputs == ("cell2.1.sep_3x3.2.pointwise", "cell2.1.max_3x3")
    assert nodes["cell2.1.max_3x3"].inputs == ("cell2.newer.norm",)
    assert nodes["cell2.2.inputs"].inputs == ("cell2.older.norm", "cell2.1")
    assert nodes["cell2.output"].inputs == ("cell2.1", "cell2.2.inputs")


def test_the_first_cell_of_a_stage_halves_both_inputs() -> None:
    space = OneShotSpace(operations=("identity",), blocks=1, cells_per_stage=2, filters=4)
    network = build(space.decode((2, 0)), IMAGES)  # both inputs
    assert network.head.in_features == 16
    assert network.graph(torch.randn(2, 1, 8, 8))[0].shape == (2, 16, 2, 2)
    names = [n.name for n in space.decode((2, 0)).nodes if n.op == "concat" and n.name.endswith("r.concat")]
    assert names == [f"cell{cell}.{which}.concat" for cell, which in ((3, "newer"), (3, "older"), (4, "older"))] + [
        f"cell{cell}.{which}.concat" for cell, which in ((5, "newer"), (5, "older"), (6, "older"))
    ]


def test_small_networks_learn_from_small_images() -> None:
    rng = random.Random(0)
    for _ in range(4):
        child = build(DIGITS.decode(uniform(DIGITS.decisions(0), rng)), IMAGES)
        logits = child(torch.randn(2, 1, 8, 8))
        logits.square().sum().backward()
        stem = next(child.parameters())
        assert logits.shape == (2, 10)
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_cells_are_read_back() -> None:
    space, rng = OneShotSpace(), random.Random(0)
    for _ in range(50):
        tokens = uniform(space.decisions(0), rng)
        assert space.tokens_of(space.genotypes(tokens)["One-Shot"]) == tokens


@pytest.mark.parametrize(
    ("genotype", "reason"),
    [
        ("newer: identity", "2 blocks take 4 tokens, got 2"),
        ("newer: identity\nblock 2: identity", r"the inputs of block 2 must be one of newer, older, .*, got 'block 2'"),
        ("newer: identity\nnewer: sep_9x9", r"the operations of block 2 must be one of .*, got 'sep_9x9'"),
    ],
)
def test_wrong_cells_are_refused(genotype: str, reason: str) -> None:
    with pytest.raises(InvalidTokens, match=reason):
        SMALL.tokens_of(genotype)


def test_the_drawing_has_a_line_for_each_block() -> None:
    assert draw(SMALL.motifs(SMALL.tokens_of(CELL))["cell"]).splitlines() == [
        "block 1  = sep 3x3 (newer) + max 3x3 (newer)",
        "inputs 2 = older + block 1",
        "block 2  = inputs 2",
        "output   = concat (block 1, block 2)",
    ]


def test_of_too_many_positive_strengths_the_largest_are_taken_and_of_none_the_largest() -> None:
    space = OneShotSpace(operations=("identity", "sep_3x3", "max_3x3"), blocks=1, cells_per_stage=1)
    derived = space.derive({"block1.inputs": (-0.2, -0.1), "block1.operations": (0.3, 0.1, 0.2)})
    assert space.genotypes(derived)["One-Shot"] == "older: identity + max_3x3"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"blocks": 0}, "`blocks` must be at least 1, got 0"),
        ({"max_inputs": 0}, "`max_inputs` must be at least 1, got 0"),
        ({"filters": 1}, "`filters` must be at least 2, got 1"),
        ({"operations": ("conv_3x3",)}, "`operations` must be one or more different ones of identity"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        OneShotSpace(**options)
