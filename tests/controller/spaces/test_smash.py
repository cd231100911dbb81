"""SMASH's space of memory banks (spec §10)."""

import random

import pytest
import torch

from child_trainer.architectures.drawing import draw
from child_trainer.networks.build import build
from child_trainer.supernets.generated import GeneratedSupernet
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.network import SupernetNetwork
from controller.decisions import InvalidTokens, num_samples, uniform
from controller.space import SearchSpace
from controller.spaces.smash import DIGITS, SmashSpace
from controller.zoo.entry import Images
from tests.contracts.supernet import SupernetContract

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)
SMALL = SmashSpace(
    layers_per_stage=1, banks=2, bank_channels=2, units=4, kernels=(3, 5), dilations=(1, 2), groups=(1, 2)
)
LAYERS = """
1 k3d1g1 none 2
1+2 k5d2g2 multiply 1+2
2 k3d1g2 add 1
"""


class TestSmall(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SMALL


class TestDigits(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return DIGITS


class TestSingleOptions(SupernetContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SmashSpace(
            layers_per_stage=1, banks=1, bank_channels=4, units=4, dilations=(1,), groups=(1,), joins=("multiply",)
        )


def test_the_size_of_the_space() -> None:
    """12 layers: 15 sets of banks to read and to write, 3 kernels, 3 dilations, 4 groupings and 3 joins."""
    assert num_samples(SmashSpace().decisions(0)) == (15 * 15 * 3 * 3 * 4 * 3) ** 12


def test_layers_read_and_add_to_banks() -> None:
    nodes = {n.name: n for n in SMALL.decode(SMALL.tokens_of(LAYERS)).nodes}
    assert nodes["stage1.bank2"].inputs == ("stage1.conv",)
    assert nodes["layer1.norm"].inputs == ("layer1.read1",)  # a sum of one
    assert nodes["layer1.bank2"].inputs == ("stage1.bank2", "layer1.write2")
    assert nodes["stage1.output"].inputs == ("stage1.bank1", "layer1.bank2")
    assert nodes["layer2.reads"].inputs == ("layer2.read1", "layer2.read2")
    assert nodes["layer2.multiply"].inputs == ("layer2.multiply.tanh", "layer2.multiply.sigmoid")
    assert nodes["layer2.multiply.sigmoid"].inputs == ("layer2.b.k5d2g2",)
    assert nodes["layer3.add.sum"].inputs == ("layer3.a.k3d1g2", "layer3.b.k3d1g2")
    convolution = nodes["layer2.a.k5d2g2"]
    assert [convolution.attribute(name) for name in ("height", "dilation", "groups", "filters")] == [5, 2, 2, 4]


def test_a_layer_without_a_join_has_one_convolution() -> None:
    names = [n.name for n in SMALL.decode(SMALL.tokens_of(LAYERS)).nodes]
    assert "layer1.a.k3d1g1" in names
    assert not any(name.startswith("layer1.b.") for name in names)


def test_the_only_1x1_convolutions_are_those_that_read_and_write() -> None:
    """Spec T10.2: there is no free 1x1 weight besides those that the hypernetwork generates."""
    supernet = SMALL.supernet()
    narrow = {n.name for n in supernet.nodes if n.op == "conv" and n.attribute("height") == 1}
    assert narrow == {
        f"layer{layer}.{use}{bank}" for layer in (1, 2, 3) for use in ("read", "write") for bank in (1, 2)
    }
    assert {n.attribute("order") for n in supernet.nodes if n.name in narrow} == {"conv-unbiased"}


def test_a_hypernetwork_generates_what_reads_and_writes_and_nothing_else() -> None:
    """Spec T10.2: all other weights are the supernet's own, under the same names."""
    shared = SupernetNetwork(SMALL.supernet(), IMAGES).shapes
    generated = GeneratedSupernet(SMALL.supernet(), IMAGES, options=HyperOptions(growth=2, depths=(1,))).shapes
    missing = shared.keys() - generated.keys()
    assert {name.split("/")[1] for name in missing} == {"conv.weight"}
    assert {name.split("/")[0].rstrip("12") for name in missing} == {
        f"layer{layer}.{use}" for layer in (1, 2, 3) for use in ("read", "write")
    }
    assert all(name.startswith("hypernetwork/") for name in generated.keys() - shared.keys())


def test_small_networks_learn_from_small_images() -> None:
    rng = random.Random(0)
    for _ in range(4):
        child = build(DIGITS.decode(uniform(DIGITS.decisions(0), rng)), IMAGES)
        logits = child(torch.randn(2, 1, 8, 8))
        logits.square().sum().backward()
        stem = next(child.parameters())
        assert logits.shape == (2, 10)
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_layers_are_read_back() -> None:
    space, rng = SmashSpace(), random.Random(0)
    for _ in range(50):
        tokens = uniform(space.decisions(0), rng)
        assert space.tokens_of(space.genotypes(tokens)["SMASH"]) == tokens
    assert SMALL.genotypes(SMALL.tokens_of(LAYERS))["SMASH"] == LAYERS.strip()


@pytest.mark.parametrize(
    ("genotype", "reason"),
    [
        ("1 k3d1g1 none 1", "the layers of this space take 12 tokens, got 4"),
        (LAYERS.replace("1+2", "3"), "the reads of layer 2 must be one of 1, 2, 1.2, got '3'"),
        (LAYERS.replace("k5", "k9"), "the convolution of layer 2 must be one of k3d1g1, .*, got 'k9d2g2'"),
    ],
)
def test_wrong_layers_are_refused(genotype: str, reason: str) -> None:
    with pytest.raises(InvalidTokens, match=reason):
        SMALL.tokens_of(genotype)


def test_the_drawing_of_a_stage_has_its_layers_and_banks() -> None:
    drawn = draw(SMALL.motifs(SMALL.tokens_of(LAYERS))["stage 2"])
    lines = [" ".join(line.replace("·", "").replace("●", "").split()) for line in drawn.splitlines()[1:]]
    assert lines == [
        "1 bank 1 image",
        "2 bank 2 image",
        "3 5x5, dilation 2, 2 groups, gated 1-2",
        "4 add 1, 3",
        "5 add 2-3",
        "classifier 4-5",
    ]


def test_a_layer_always_reads_and_writes_a_bank() -> None:
    gates = SMALL.gates(SMALL.tokens_of(LAYERS))
    strengths = {name: [-1.0 + 0.5 * value for value in values] for name, values in gates.items()}
    strengths |= {"layer2.reads": [-1.0, -0.5], "layer2.write1": [-0.3], "layer2.write2": [-0.2]}
    assert SMALL.genotypes(SMALL.derive(strengths))["SMASH"].splitlines()[1] == "2 k5d2g2 multiply 2"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"banks": 0}, "`banks` must be at least 1, got 0"),
        ({"banks": 7}, "`banks` must be at most 6, got 7"),
        ({"kernels": (1, 3)}, "`kernels` must each be at least 2, as 1x1 convolutions read and write"),
        ({"dilations": ()}, "`dilations` must be one or more different numbers"),
        ({"units": 12}, "`units` must be a multiple of each of `groups`, got 12 units and 8 groups"),
        ({"joins": ("divide",)}, "`joins` must be one or more different ones of none, add, multiply"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SmashSpace(**options)
