"""ENAS's micro space (spec §6.2)."""

import random

import pytest
import torch

from child_trainer.architectures.cells.cell import Block, Cell, Genotype
from child_trainer.networks.build import build
from controller.decisions import num_samples, uniform
from controller.space import HasCells, SearchSpace
from controller.spaces.enas_arcs import from_enas, to_enas
from controller.spaces.enas_micro import DIGITS, EnasMicroSpace
from controller.spaces.genotypes import InvalidGenotype
from controller.zoo.catalogue import ZOO
from controller.zoo.entry import Images
from controller.zoo.published_cells import enas_micro
from tests.contracts.search_space import SearchSpaceContract
from tests.contracts.supernet import SupernetContract

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)


class TestSearchNetworks(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasMicroSpace(blocks=3, num_cells=2, filters=4)


class TestDigits(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DIGITS


class TestFinalNetworks(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasMicroSpace(num_cells=1, filters=4, network="final", drop_path=True, auxiliary=True)


def test_the_size_of_the_space() -> None:
    """Spec T6.1. The paper's 1.3e11, (5 * 5!)^4, has one input and operation for the two that a block has."""
    assert num_samples(EnasMicroSpace().decisions(0)) == (25**5 * (2 * 3 * 4 * 5 * 6) ** 2) ** 2


def test_arcs_and_tokens_are_each_others_inverse() -> None:
    """Spec T6.5: tokens have both inputs of a block first; an arc's input 0 is the older one."""
    space, rng = EnasMicroSpace(), random.Random(0)
    for _ in range(50):
        tokens = uniform(space.decisions(0), rng)
        arc = space.genotypes(tokens)["ENAS"]
        assert space.tokens_of(from_enas(*arc.splitlines())) == tokens
    published = space.tokens_of(enas_micro())
    assert space.genotypes(published)["ENAS"].splitlines()[0] == "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1"
    assert published[:8] == (1, 1, 2, 0, 1, 1, 4, 1)


def test_the_final_network_of_the_published_cells_is_that_of_the_zoo() -> None:
    """So it has the parameters of spec G11, which the tests of the zoo count."""
    space = EnasMicroSpace(num_cells=15, filters=36, network="final")
    final = space.decode(space.tokens_of(enas_micro()))
    assert final.id == ZOO["enas-micro"].architecture(ZOO["enas-micro"].size).id


def test_the_output_sums_what_no_block_reads() -> None:
    space = EnasMicroSpace(blocks=2, num_cells=1, filters=4)
    tokens = space.tokens_of(from_enas("0 0 0 4  2 2 2 4", "0 4 1 4  0 4 1 4"))
    nodes = {n.name: n.inputs for n in space.decode(tokens).nodes}
    assert nodes["normal3.1"] == ("normal3.1a.1.sep_3x3.2.pointwise", "normal3.older.norm")
    assert nodes["normal3.2"] == ("normal3.2a.2.avg_3x3", "normal3.1")
    assert nodes["normal3.output"] == ("normal3.output.0", "normal3.output.3")
    assert nodes["reduction1.output"] == ("reduction1.output.2", "reduction1.output.3")


def test_cells_are_two() -> None:
    space = EnasMicroSpace(blocks=2)
    assert isinstance(space, HasCells)
    assert space.cells(16) == {"normal": range(8), "reduction": range(8, 16)}
    assert list(space.motifs((0,) * 16)) == ["normal cell", "reduction cell"]


@pytest.mark.parametrize("network", ["search", "final"])
def test_small_networks_learn_from_small_images(network: str) -> None:
    space, rng = EnasMicroSpace(blocks=3, num_cells=1, filters=4, network=network), random.Random(0)  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        child = build(space.decode(uniform(space.decisions(0), rng)), IMAGES)
        logits = child(torch.randn(2, 1, 8, 8))
        logits.square().sum().backward()
        stem = next(child.parameters())
        assert logits.shape == (2, 10)
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_cells_that_enas_lacks_have_no_arc() -> None:
    for block in (Block((0, 1), ("sep_3x3", "sep_3x3"), "concat"), Block((0, 1), ("sep_3x3", "conv_1x1"))):
        cell = Cell.of([block])
        with pytest.raises(InvalidGenotype, match=r"ENAS's cells add values of sep_3x3, .*, but block 1 of the normal"):
            to_enas(Genotype(cell, cell))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"blocks": 0}, "`blocks` must be at least 1, got 0"),
        ({"filters": 1}, "`filters` must be at least 2, got 1"),
        ({"operations": ("conv_1x1",)}, "`operations` must be one or more different ones of sep_3x3"),
        ({"drop_path": True}, "`drop_path` is for final networks: `network` must be 'final', got 'search'"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        EnasMicroSpace(**options)
