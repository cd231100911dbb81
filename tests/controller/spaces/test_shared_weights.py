"""The samples of each space with a supernet, on the supernet's weights (spec T6.3, T11.2)."""

import random
from collections.abc import Mapping

import pytest
import torch
from torch.nn import functional as F

from child_trainer.networks.build import build
from child_trainer.networks.weights import load, named
from child_trainer.supernets.network import SupernetNetwork
from controller.decisions import Tokens, uniform
from controller.space import HasSupernet, SearchSpace
from controller.spaces import darts, enas_macro, enas_micro, mbconv, one_shot, smash
from controller.zoo.entry import CIFAR10, Images

IMAGES = Images(input_shape=(1, 8, 8), num_classes=10)

SPACES: Mapping[str, SearchSpace] = {
    "darts": darts.DIGITS,
    "enas-macro": enas_macro.DIGITS,
    "enas-micro": enas_micro.EnasMicroSpace(blocks=2, num_cells=1, filters=4),
    "mbconv": mbconv.DIGITS,
    "one-shot": one_shot.DIGITS,
    "smash": smash.DIGITS,
}


def test_cells_of_edges_and_blocks_of_one_option_can_be_searched_by_gradient() -> None:
    exclusive = {name for name, space in SPACES.items() if isinstance(space, HasSupernet) and space.exclusive}
    assert exclusive == {"darts", "mbconv"}


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (darts.DartsSpace(), 1_930_618),  # spec §12.4, G8
        (enas_macro.EnasMacroSpace(), 697_870),
        (one_shot.OneShotSpace(), 4_108_810),
    ],
)
def test_the_supernets_of_the_defaults_have_the_weights_that_the_page_says(space: HasSupernet, count: int) -> None:
    shapes = SupernetNetwork(space.supernet(), CIFAR10).shapes
    assert sum(shape.numel() for shape in shapes.values()) == count


@pytest.fixture(scope="module", params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SPACES[request.param]


@pytest.fixture(scope="module")
def supernet(space: SearchSpace) -> SupernetNetwork:
    assert isinstance(space, HasSupernet)
    return SupernetNetwork(space.supernet(), IMAGES)


def gates_of(space: SearchSpace, tokens: Tokens) -> dict[str, torch.Tensor]:
    assert isinstance(space, HasSupernet)
    return {name: torch.tensor(values) for name, values in space.gates(tokens).items()}


@pytest.mark.parametrize("seed", range(2))
def test_a_path_computes_what_the_samples_own_network_does(
    space: SearchSpace, supernet: SupernetNetwork, seed: int
) -> None:
    """To the bit, and so do its gradients, which are for the sample's own weights only."""
    tokens = uniform(space.decisions(0), random.Random(seed))
    weights = {name: tensor.requires_grad_() for name, tensor in supernet.initial(seed).items()}
    child = build(space.decode(tokens), IMAGES)
    load(child, {name: weights[name] for name in named(child)})
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3])
    logits = supernet(weights, images, gates_of(space, tokens))
    assert torch.equal(logits, child(images))
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(child(images), labels).backward()
    own = named(child)
    assert set(supernet.names(gates_of(space, tokens))) == set(own)
    for name, tensor in weights.items():
        expected = own[name].grad if name in own else None
        assert (tensor.grad is None) == (expected is None), name
        assert expected is None or torch.equal(tensor.grad, expected), name


def test_samples_that_have_an_option_in_common_share_its_weights() -> None:
    """Spec T6.3."""
    space = enas_macro.EnasMacroSpace(layers=3, filters=4)
    first = build(space.decode(space.tokens_of("0  1 0  2 0 1")), IMAGES)
    second = build(space.decode(space.tokens_of("4  0 1  2 1 1")), IMAGES)
    shared = named(first).keys() & named(second).keys()
    assert {name.split("/")[0] for name in shared if name.startswith("layer")} == {
        *("layer2.norm", "layer3.norm", "layer3.conv_5x5.narrow", "layer3.conv_5x5.conv"),
    }
