"""ENAS's macro space (spec §6.1)."""

import random

import pytest
import torch

from child_trainer.architectures.drawing import draw
from child_trainer.networks.build import build
from controller.decisions import InvalidTokens, num_samples, uniform
from controller.space import SearchSpace
from controller.spaces.enas_macro import DIGITS, EnasMacroSpace
from controller.zoo.entry import Images
from tests.contracts.search_space import SearchSpaceContract
from tests.contracts.supernet import SupernetContract

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)


class TestSearchNetworks(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasMacroSpace(layers=7, filters=4)


class TestDigits(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DIGITS


class TestFinalNetworks(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasMacroSpace(layers=5, filters=4, network="final")


def test_the_size_of_the_space_is_the_papers() -> None:
    """Spec T6.1: 6^12 * 2^66, 1.6e29."""
    assert num_samples(EnasMacroSpace().decisions(0)) == 6**12 * 2**66


def test_a_layer_reads_the_one_before_and_adds_its_skips() -> None:
    space = EnasMacroSpace(layers=3, operations=("max_3x3",), filters=4)
    nodes = {n.name: n.inputs for n in space.decode((0, 0, 1, 0, 0, 1)).nodes}
    assert nodes["layer1.max_3x3.narrow"] == ("stem",)
    assert nodes["layer2.max_3x3.narrow"] == ("pool1.1.norm",)
    assert nodes["layer2.sum"] == ("layer2.max_3x3.pool", "pool1.0.norm")
    assert nodes["layer3.sum"] == ("layer3.max_3x3.pool", "pool2.1.norm")
    assert nodes["layer3.norm"] == ("layer3.sum",)
    assert "pool2.0.norm" not in nodes


def test_a_layer_without_skips_is_normalised_alone() -> None:
    space = EnasMacroSpace(layers=3, filters=4)
    nodes = {n.name: n.inputs for n in space.decode((0,) * 6).nodes}
    assert nodes["layer2.norm"] == ("layer2.conv_3x3.conv",)


@pytest.mark.parametrize("network", ["search", "final"])
def test_small_networks_learn_from_small_images(network: str) -> None:
    space, rng = EnasMacroSpace(layers=6, filters=4, network=network), random.Random(0)  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        child = build(space.decode(uniform(space.decisions(0), rng)), IMAGES)
        logits = child(torch.randn(2, 1, 8, 8))
        logits.square().sum().backward()
        stem = next(child.parameters())
        assert logits.shape == (2, 10)
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_arcs_are_text_in_the_notation_of_the_published_code() -> None:
    space, rng = EnasMacroSpace(operations=("max_3x3", "conv_3x3")), random.Random(0)
    for _ in range(50):
        tokens = uniform(space.decisions(0), rng)
        arc = space.genotypes(tokens)["ENAS"]
        assert space.tokens_of(arc) == tokens
        assert [len(line.split()) for line in arc.splitlines()] == list(range(1, 13))
    assert space.genotypes((0,) * 78)["ENAS"].splitlines()[:3] == ["5", "5 0", "5 0 0"]


@pytest.mark.parametrize(
    ("arc", "reason"),
    [
        ("0 0 0 0 0", "3 layers take 6 tokens, got 5"),
        ("0 0 0 0 0 x", "an arc is whole numbers, got 'x'"),
        ("0 0 0 6 0 0", "the operations of this space are 0 .conv_3x3., .*, got 6"),
        ("0 0 2 0 0 0", "must be at least 0 and below 2, got 2"),
    ],
)
def test_wrong_arcs_are_refused(arc: str, reason: str) -> None:
    with pytest.raises(InvalidTokens, match=reason):
        EnasMacroSpace(layers=3).tokens_of(arc)


def test_the_drawing_has_a_line_for_each_layer() -> None:
    tokens = EnasMacroSpace(layers=3).tokens_of("0  5 1  1 0 1")
    drawn = draw(EnasMacroSpace(layers=3).motifs(tokens)["layers"])
    lines = [line.split("  ")[-1] for line in drawn.splitlines()]
    assert "conv 3x3, then halved" in drawn
    assert lines[-3:] == ["1-2", "2-3", "4"]


def test_skips_are_derived_from_positive_strengths() -> None:
    space = EnasMacroSpace(layers=3, operations=("conv_3x3", "max_3x3"))
    strengths = {
        "layer1.operation": (0.1, 0.2),
        "layer2.operation": (0.2, 0.1),
        "layer2.skips": (-0.1,),
        "layer3.operation": (0.1, 0.1),
        "layer3.skips": (0.1, -0.1),
    }
    assert space.derive(strengths) == (1, 0, 0, 0, 1, 0)
    with pytest.raises(ValueError, match=r"`strengths` must have 2 numbers for the gate 'layer3.skips', got 1"):
        space.derive(strengths | {"layer3.skips": (0.1,)})
    with pytest.raises(ValueError, match=r"`strengths` must have 2 numbers for the gate 'layer1.operation', got none"):
        space.derive({})


def test_final_networks_share_no_weights() -> None:
    with pytest.raises(ValueError, match="`network` must be 'search' for networks that share weights, got 'final'"):
        EnasMacroSpace(network="final").supernet()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": 2}, "`layers` must be at least 3, got 2"),
        ({"filters": 1}, "`filters` must be at least 2, got 1"),
        ({"operations": ()}, "`operations` must be one or more different ones of conv_3x3"),
        ({"operations": ("sep_7x7",)}, "`operations` must be"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        EnasMacroSpace(**options)
