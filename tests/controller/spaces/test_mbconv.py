"""ProxylessNAS's space of mobile inverted bottlenecks (spec §14)."""

import random

import pytest
import torch

from child_trainer.networks.build import build
from controller.decisions import InvalidTokens, num_samples, uniform
from controller.space import SearchSpace
from controller.spaces.mbconv import DIGITS, MbconvSpace
from controller.zoo.entry import Images
from tests.contracts.supernet import SupernetContract

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)
SMALL = MbconvSpace(widths=(4, 8), blocks=(2, 3), strides=(1, 2), kernels=(3, 5), first_filters=4, stem_stride=1)


class TestSmall(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SMALL


class TestDigits(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DIGITS


def test_only_blocks_that_keep_the_shape_may_be_skipped() -> None:
    """Spec §14: 21 blocks, of which the first of each stage cannot be left out."""
    options = [len(choice.options) for choice in MbconvSpace().decisions(0)]
    assert options == [6, 7, 7, 7] * 5 + [6]
    assert num_samples(MbconvSpace().decisions(0)) == 7**15 * 6**6
    assert "skip" in SMALL.decisions(0)[0].options  # it reads as many channels as it has, with stride 1


def test_a_bottleneck_expands_convolves_and_projects() -> None:
    nodes = {n.name: n for n in SMALL.decode(SMALL.tokens_of("k3e3 | k5e6 skip k3e3")).nodes}
    assert nodes["block1.k3e3.sum"].inputs == ("block1.k3e3.project", "first.project")
    expand, depthwise, project = (nodes[f"block3.k5e6.{part}"] for part in ("expand", "depthwise", "project"))
    assert expand.inputs == ("block1.k3e3.sum",)
    assert (expand.attribute("filters"), depthwise.attribute("height"), project.attribute("filters")) == (24, 5, 8)
    assert (depthwise.attribute("stride_height"), depthwise.attribute("stride_width")) == (2, 2)
    assert nodes["block3.k5e6.depthwise.active"].op == "relu6"
    assert nodes["block5.k3e3.expand"].inputs == ("block3.k5e6.project",)
    assert "first.expand" not in nodes


def test_small_networks_learn_from_small_images() -> None:
    rng = random.Random(0)
    for _ in range(4):
        child = build(DIGITS.decode(uniform(DIGITS.decisions(0), rng)), IMAGES)
        logits = child(torch.randn(2, 1, 8, 8))
        logits.square().sum().backward()
        stem = next(child.parameters())
        assert logits.shape == (2, 10)
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_genotypes_are_read_back() -> None:
    space, rng = MbconvSpace(), random.Random(0)
    for _ in range(50):
        tokens = uniform(space.decisions(0), rng)
        assert space.tokens_of(space.genotypes(tokens)["ProxylessNAS"]) == tokens
    assert SMALL.tokens_of("k3e3 | k5e6") == SMALL.tokens_of("k3e3 skip | k5e6 skip skip")


@pytest.mark.parametrize(
    ("genotype", "reason"),
    [
        ("k3e3", "has 2 stages, got 1"),
        ("k3e3 k3e3 k3e3 | k3e3", "stage 1 has at most 2 blocks, got 3: k3e3 k3e3 k3e3"),
        ("k3e3 | k7e3", "block 3 must be one of k3e3 k3e6 k5e3 k5e6, got 'k7e3'"),
        ("k3e3 | ", "block 3 must be one of .*, got 'skip'"),
    ],
)
def test_wrong_genotypes_are_refused(genotype: str, reason: str) -> None:
    with pytest.raises(InvalidTokens, match=reason):
        SMALL.tokens_of(genotype)


def test_the_drawing_leaves_out_skipped_blocks() -> None:
    chain = SMALL.motifs(SMALL.tokens_of("k3e3 | k5e6 skip k3e3"))["blocks"]
    labels = [n.attribute("label") for n in chain.nodes]
    assert labels == [
        "stem",
        "3x3, expansion 3, 4 filters",
        "5x5, expansion 6, 8 filters, stride 2",
        "3x3, expansion 3, 8 filters",
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"widths": ()}, "`widths` must be one or more numbers, each at least 1"),
        ({"kernels": (3, 3)}, "`kernels` must be different numbers"),
        ({"blocks": (4, 4)}, "`blocks` must have as many numbers as `widths`, 6, got"),
        ({"stem_filters": 0}, "`stem_filters` must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MbconvSpace(**options)
