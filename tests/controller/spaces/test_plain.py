"""The space of EAS (Cai et al. 2018, arXiv 1707.04873; spec §9.1)."""

import random

import pytest
import torch

from child_trainer.inheritance.changed_architectures import changed
from child_trainer.networks.build import build
from child_trainer.networks.cost import parameters
from child_trainer.tasks.catalogue import TASKS
from controller.decisions import InvalidTokens
from controller.spaces.plain import DIGITS, PlainSpace
from tests.contracts.search_space import SearchSpaceContract


class TestContract(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> PlainSpace:
        return DIGITS


SPACE = PlainSpace()


def test_the_start_of_the_paper_has_its_layers() -> None:
    network = build(SPACE.decode(()), TASKS["cifar10"].problem)  # pyright: ignore[reportArgumentType]
    convolutions = sum(9 * a * b + 2 * b for a, b in ((3, 16), (16, 32), (32, 64), (64, 128)))
    assert parameters(network) == convolutions + (128 * 2 * 2 * 256 + 256) + (256 * 10 + 10)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert SPACE.genotypes(())["EAS"] == " ".join(SPACE.start)


def test_changes_and_tokens_agree_on_the_network_and_its_names() -> None:
    """The network of a grown chain is that of its parent after the changes, node for node, over many of them."""
    rng = random.Random(0)
    chain = DIGITS.chain(())
    for _ in range(12):
        before = DIGITS.decode(DIGITS.tokens_of(chain))
        wider = [place for place in range(len(chain)) if DIGITS.wider_width(chain[place])]
        places = [place for block in DIGITS.blocks(chain) for place in DIGITS.deeper_places(chain, block)]
        if rng.random() < 0.5:
            chain, change = DIGITS.widened(chain, rng.choice(wider))
        else:
            chain, change = DIGITS.deepened(chain, rng.choice(places), rng.choice(DIGITS.window_sizes))
        after = DIGITS.decode(DIGITS.tokens_of(chain))
        assert changed(before, [change]) == after
        assert {n.name for n in before.nodes} <= {n.name for n in after.nodes}
        assert DIGITS.chain(DIGITS.tokens_of(chain)) == chain


def test_a_chain_grows_until_it_is_full() -> None:
    space = PlainSpace(
        start=("conv-8-3", "pool", "fc-8"), filters=(8, 16), units=(8, 16), max_layers=6, max_block_layers=2
    )
    rng, tokens = random.Random(1), ()
    for _ in range(20):
        tokens = space.mutate(tokens, rng)
    assert [layer.type for layer in space.chain(tokens)] == ["conv", "conv", "pool", "fc", "fc"]
    assert {layer.width for layer in space.chain(tokens)} == {16, 0}
    assert space.mutate(tokens, rng) == tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": ("conv-16-3", "dense-5")}, "`start` must be of conv-FILTERS-SIZE, pool and fc-UNITS, got 'dense-5'"),
        ({"start": ("conv-17-3",)}, "`start` is no network of this space: the space has no layer conv-17-3"),
        ({"start": ("fc-64", "pool")}, "pool cannot follow a fully connected layer"),
        ({"start": ()}, "a chain has 1 to 50 layers, got 0"),
        ({"filters": (32, 16)}, "`filters` must be one or more different numbers in ascending order, got"),
        ({"max_layers": 0}, "`max_layers` must be at least 1, got 0"),
        ({"max_layers": 3}, "a chain has 1 to 3 layers, got 9"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as refusal:
        PlainSpace(**options)  # pyright: ignore[reportArgumentType]
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, 0, 16, 3, 1, 0, 16, 3], "a number of its own"),
        ([1, 0, 17, 3], "no layer conv-17-3"),
        ([1, 3, 16, 3], "no layer is"),
    ],
)
def test_tokens_of_no_chain_are_refused(tokens: list[int], message: str) -> None:
    with pytest.raises(InvalidTokens, match=message):
        SPACE.decode(tokens)
