"""EAS's DenseNet space (Cai et al. 2018, arXiv 1707.04873; spec §9.1)."""

import random

import pytest
import torch

from child_trainer.networks.build import build
from child_trainer.networks.cost import parameters
from child_trainer.tasks.catalogue import TASKS
from controller.decisions import InvalidTokens
from controller.spaces.densenet import DIGITS, DenseNetSpace
from controller.spaces.layer_chains import Layer
from tests.contracts.growing_space import GrowingSpaceContract


class TestContract(GrowingSpaceContract):
    @pytest.fixture
    def space(self) -> DenseNetSpace:
        return DIGITS


SPACE = DenseNetSpace()


def test_the_start_is_that_of_the_published_code() -> None:
    """A first convolution of 8 filters, three blocks of one layer with growth rate 4, transitions of half as many."""
    assert [(layer.type, layer.width) for layer in SPACE.chain(())] == [
        *(("stem", 8), ("dense", 4), ("transition", 6)),
        *(("dense", 4), ("transition", 5), ("dense", 4)),
    ]
    assert SPACE.genotypes(()) == {"EAS": "g4_t_g4_t_g4"}
    assert build(SPACE.decode(()), TASKS["cifar10"].problem)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)  # pyright: ignore[reportArgumentType]


def test_a_published_densenet_has_its_parameters() -> None:
    """DenseNet-BC with 100 layers and growth rate 12, as its authors' code has it, and a bias of each convolution."""
    block = ["g12"] * 16
    space = DenseNetSpace(start=(*block, "t", *block, "t", *block), max_layers=60)
    network = build(space.decode(()), TASKS["cifar10"].problem)  # pyright: ignore[reportArgumentType]
    biases = 48 * (4 * 12 + 12) + (24 + 16 * 12) // 2 + (108 + 16 * 12) // 2
    assert parameters(network) == 769_162 + biases


def test_the_first_convolution_and_the_transitions_follow_the_layers_and_never_shrink() -> None:
    chain = DIGITS.chain(())
    assert [layer.width for layer in chain] == [8, 4, 6, 4]
    for _ in range(3):
        chain, _ = DIGITS.widened(chain, 1)  # growth rates 10 and 4: 14 filters, and (14 + 10) / 2
    chain, changes = DIGITS.finished(chain)
    assert [layer.width for layer in chain] == [14, 10, 12, 4]
    assert len(changes) == 2
    chain, _ = DIGITS.deepened(chain, 3, 3)  # 10, 4 and 4 would give 12 filters
    chain, changes = DIGITS.finished(chain)
    assert [layer.width for layer in chain] == [14, 10, 12, 4, 4]
    assert changes == ()


def test_a_network_grows_until_it_is_full() -> None:
    space = DenseNetSpace(start=("g4", "t", "g4"), growth_rates=(4, 6), max_layers=6, max_block_layers=3)
    rng, tokens = random.Random(1), ()
    for _ in range(20):
        tokens = space.mutate(tokens, rng)
    assert sorted(space.genotypes(tokens)["EAS"].split("_t_")) == ["g6-g6", "g6-g6-g6"]
    assert space.mutate(tokens, rng) == tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": ("g4", "conv-4-3")}, "`start` must be of gRATE and t, got 'conv-4-3'"),
        ({"start": ("t",)}, "`start` must have one layer gRATE at least, got 't'"),
        ({"start": ("g5",)}, "`start` is no network of this space: the space has no layer g5: see `growth_rates`"),
        ({"start": ("g4", "t", "t", "g4")}, "a block has 1 to 20 layers, got blocks of [1, 0, 1]"),
        ({"max_block_layers": 1, "start": ("g4", "g4")}, "a block has 1 to 1 layers, got blocks of [2]"),
        ({"max_layers": 3}, "a network has up to 3 layers and transitions, got 5"),
        ({"growth_rates": (6, 4)}, "`growth_rates` must be one or more different numbers in ascending order, got"),
        ({"reduction": 1.5}, "`reduction` must be above 0 and at most 1, got 1.5"),
        ({"bottleneck": 0}, "`bottleneck` must be at least 1, got 0"),
        ({"growth_rates": (4, 60_000)}, "`growth_rates` must be at most 1,923, or some networks would have more than"),
        ({"growth_rates": (4, 1_001), "bottleneck": 100}, "must be at most 1,000, or some networks would have more"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as refusal:
        DenseNetSpace(**options)  # pyright: ignore[reportArgumentType]
    assert message in str(refusal.value)


STEM = Layer(1, "stem", 8)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Layer(1, "dense", 4)], "one first convolution, of type 0, before all other layers"),
        ([STEM, Layer(2, "stem", 4), Layer(3, "dense", 4)], "one first convolution, of type 0, before all other"),
        ([STEM, Layer(1, "dense", 4)], "a number of its own"),
        ([STEM, Layer(2, "dense", 5)], "the space has no layer g5"),
        ([STEM, Layer(2, "dense", 4, 3)], "no layer has the width 4 and the size 3"),
        ([Layer(1, "stem", 0), Layer(2, "dense", 4)], "no layer has the width 0 and the size 0"),
        ([STEM, Layer(2, "transition", 4)], "a block has 1 to 20 layers, got blocks of \\[0, 0\\]"),
    ],
)
def test_tokens_of_no_network_are_refused(layers: list[Layer], message: str) -> None:
    with pytest.raises(InvalidTokens, match=message):
        SPACE.decode(SPACE.tokens_of(layers))
