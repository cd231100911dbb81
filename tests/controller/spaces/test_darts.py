"""DARTS's space (spec §12.1, §12.3, §12.4)."""

import random
import re

import pytest
import torch

from child_trainer.architectures.cells.cell import Block, Cell, Genotype
from child_trainer.networks.build import build
from controller.decisions import InvalidTokens, num_samples, uniform
from controller.space import HasCells, SearchSpace
from controller.spaces.darts import DIGITS, DartsSpace
from controller.spaces.genotypes import from_darts
from controller.zoo.catalogue import ZOO
from controller.zoo.entry import Images, Size
from controller.zoo.published_cells import darts_v1, darts_v2, pnasnet_5
from tests.contracts.search_space import SearchSpaceContract
from tests.contracts.supernet import SupernetContract

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)


class TestSearchNetworks(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DartsSpace(num_cells=3, blocks=3, filters=2)


class TestDigits(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DIGITS


class TestFinalNetworks(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DartsSpace(num_cells=3, filters=4, network="final", drop_path=True, auxiliary=True)


def test_the_size_of_the_space() -> None:
    """7 operations on each of two inputs of four blocks, in two cells: about 1e18."""
    assert num_samples(DartsSpace().decisions(0)) == (1 * 3 * 6 * 10 * 7**8) ** 2


def test_genotypes_and_tokens_are_each_others_inverse() -> None:
    space, rng = DartsSpace(), random.Random(0)
    for _ in range(50):
        tokens = uniform(space.decisions(0), rng)
        assert space.tokens_of(from_darts(space.genotypes(tokens)["DARTS"])) == tokens
        assert space.tokens_of(space.genotype_of(tokens)) == tokens


@pytest.mark.parametrize(("name", "genotype"), [("darts-v1", darts_v1()), ("darts-v2", darts_v2())])
def test_the_final_networks_of_the_published_cells_are_those_of_the_zoo(name: str, genotype: Genotype) -> None:
    space = DartsSpace(num_cells=5, filters=4, network="final")
    assert space.decode(space.tokens_of(genotype)).id == ZOO[name].architecture(Size(5, 4)).id


def test_the_published_cells_are_derived_from_strengths_that_favour_them() -> None:
    """Spec §12.3: an edge's strength is the largest probability that is not none's, not the largest number."""
    space = DartsSpace()
    tokens = space.tokens_of(darts_v2())
    strengths = {name: [0.1 + 0.2 * value for value in values] for name, values in space.gates(tokens).items()}
    assert space.derive(strengths) == tokens
    # Edges without an operation have larger numbers, but none has most of the probability.
    for name, values in space.gates(tokens).items():
        if not any(values):
            strengths[name] = [9.0, *[1.0] * 7]
    assert space.derive(strengths) == tokens


def test_of_equally_strong_edges_and_operations_the_first_are_derived() -> None:
    space = DartsSpace(blocks=2)
    derived = space.genotype_of(space.derive({name: [0.0] * 8 for name in space.gates((0,) * 10)}))
    block = Block((1, 0), ("max_3x3", "max_3x3"))
    assert derived == Genotype(*(Cell((block, block), (2, 3)) for _ in range(2)))


def test_an_edge_without_operation_has_no_gate_that_is_1() -> None:
    space = DartsSpace(blocks=2)
    tokens = space.tokens_of(
        from_darts("""Genotype(
        normal=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_5x5', 0), ('dil_conv_3x3', 2)],
        normal_concat=[2, 3],
        reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1)],
        reduce_concat=[2, 3])""")
    )
    gates = {name: re.sub(r"\.0,? ?", "", str(values))[1:-1] for name, values in space.gates(tokens).items()}
    assert {name: places for name, places in gates.items() if name.startswith("normal")} == {
        "normal.0-2": "01000000",
        "normal.1-2": "00010000",
        "normal.0-3": "00000100",
        "normal.1-3": "00000000",
        "normal.2-3": "00000010",
    }


def test_cells_are_two() -> None:
    space = DartsSpace(blocks=2)
    assert isinstance(space, HasCells)
    assert space.cells(10) == {"normal": range(5), "reduction": range(5, 10)}
    assert list(space.motifs((0,) * 10)) == ["normal cell", "reduction cell"]


@pytest.mark.parametrize("network", ["search", "final"])
def test_small_networks_learn_from_small_images(network: str) -> None:
    space, rng = DartsSpace(blocks=3, num_cells=3, filters=4, network=network), random.Random(0)  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        child = build(space.decode(uniform(space.decisions(0), rng)), IMAGES)
        logits = child(torch.randn(4, 1, 8, 8))
        logits.square().sum().backward()
        stem = next(child.parameters())
        assert logits.shape == (4, 10)
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_cells_that_the_space_does_not_have_are_refused() -> None:
    sep = ("sep_3x3", "sep_3x3")
    with pytest.raises(InvalidTokens, match="the normal cell must have 4 blocks, all of them its output, got 5 blocks"):
        DartsSpace().tokens_of(pnasnet_5())
    for block in (Block((0, 0), sep), Block((0, 1), sep, "concat"), Block((0, 1), ("sep_3x3", "sep_7x7"))):
        cell = Cell((block,), (2,))
        with pytest.raises(InvalidTokens, match=r"block 1 of the normal cell must add max_3x3 or .* of two different"):
            DartsSpace(blocks=1).tokens_of(Genotype(cell, cell))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"blocks": 0}, "`blocks` must be at least 1, got 0"),
        ({"filters": 1}, "`filters` must be at least 2, got 1"),
        ({"operations": ("none",)}, "`operations` must be one or more different ones of max_3x3"),
        ({"auxiliary": True}, "`auxiliary` is for final networks: `network` must be 'final', got 'search'"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DartsSpace(**options)
