"""ENAS's and DARTS's spaces of recurrent cells (spec §6.3, §12.4)."""

import random

import pytest

from child_trainer.architectures.highway_cells import Layer, cell
from controller.decisions import InvalidTokens, num_samples, uniform
from controller.space import SearchSpace
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.spaces.enas_rnn import EnasRnnSpace
from controller.spaces.genotypes import InvalidGenotype
from controller.spaces.highway import HighwaySpace, from_darts, from_enas, to_darts, to_enas
from controller.zoo import published_cells
from tests.contracts.search_space import SearchSpaceContract
from tests.contracts.supernet import SupernetContract


class TestDarts(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DartsRnnSpace()


class TestDartsFinal(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DartsRnnSpace(network="final")


class TestEnas(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasRnnSpace(layers=6)


def test_the_sizes_of_the_spaces_are_the_papers() -> None:
    """Spec §6.3: 4^12 * 12!, about 8e15; of DARTS 4^8 * 8!."""
    assert num_samples(EnasRnnSpace().decisions(0)) == 4**12 * 479_001_600
    assert num_samples(DartsRnnSpace().decisions(0)) == 4**8 * 40_320


@pytest.mark.parametrize("space", [DartsRnnSpace(network="final"), EnasRnnSpace(layers=8)])
def test_the_published_cells_are_samples(space: HighwaySpace) -> None:
    for layers in (published_cells.darts_rnn_v1(), published_cells.darts_rnn_v2(), published_cells.enas_rnn()):
        tokens = space.tokens_of(layers)
        assert space.layers_of(tokens) == layers
        assert space.decode(tokens).id == cell(layers).id


def test_both_notations_can_be_read_back() -> None:
    """The arc of DARTS's cell is that of the page of ENAS's code."""
    second = published_cells.darts_rnn_v2()
    assert to_enas(second) == "0 2 1 1 1 1 1 3 2 0 5 2 3 0 5 1"
    space = EnasRnnSpace()
    for seed in range(5):
        layers = space.layers_of(uniform(space.decisions(0), random.Random(seed)))
        assert from_darts(to_darts(layers)) == from_enas(to_enas(layers)) == layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2", "an arc has two numbers for each layer"),
        ("0 4", "an activation of an arc is at most 3, got 4"),
        ("1 0", "layer 1 must carry on one of the layers 0 to 0 with .*, got tanh of layer 1"),
    ],
)
def test_arcs_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidGenotype, match=message):
        from_enas(text)


@pytest.mark.parametrize(
    "text", ["Genotype(normal=[])", "recurrent=[('tanh',)]", "recurrent=[f()]", "recurrent=[(1, 0)]"]
)
def test_genotypes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidGenotype, match=r"a genotype of a recurrent cell has|must carry on"):
        from_darts(text)


def test_cells_of_other_spaces_are_refused() -> None:
    with pytest.raises(InvalidTokens, match="the cells of this space have 12 layers, got 1"):
        EnasRnnSpace().tokens_of([Layer(0, "tanh")])
    with pytest.raises(InvalidTokens, match="layer 1 must carry on one of the layers 0 to 0 with relu, got tanh of"):
        DartsRnnSpace(layers=1, activations=("relu",)).tokens_of([Layer(0, "tanh")])


def test_the_strongest_edge_into_each_layer_is_kept_whatever_none_is() -> None:
    space = DartsRnnSpace(layers=2, activations=("tanh", "relu"))
    strengths = {"0-1": [9.0, 1.0, 2.0], "0-2": [0.0, 1.0, 0.0], "1-2": [0.0, 0.0, 1.1]}
    assert space.layers_of(space.derive(strengths)) == [Layer(0, "relu"), Layer(1, "relu")]
    # Its share of the probability counts, not the strength itself.
    assert space.layers_of(space.derive(strengths | {"1-2": [5.0, 0.0, 1.1]})) == [Layer(0, "relu"), Layer(0, "tanh")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "`layers` must be at least 1, got 0"),
        ({"layers": 51}, "`layers` must be at most 50, got 51"),
        ({"activations": ("tanh", "sin")}, "`activations` must be one or more different ones of tanh, relu"),
        ({"activations": ()}, "`activations` must be one or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DartsRnnSpace(**options)  # pyright: ignore[reportArgumentType]


def test_final_cells_share_no_weights() -> None:
    with pytest.raises(ValueError, match="`network` must be 'search' for networks that share weights, got 'final'"):
        DartsRnnSpace(network="final").supernet()
