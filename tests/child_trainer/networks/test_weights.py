from dataclasses import dataclass

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.networks.build import build
from child_trainer.networks.weights import WrongWeights, load, named, statistics

WINDOW = {"height": 3, "width": 3, "filters": 4}


@dataclass(frozen=True)
class Problem:
    input_shape: tuple[int, int, int] = (3, 8, 8)
    num_classes: int = 5


def network(*nodes: Node, side: int = 8, seed: int = 0):
    outputs = (nodes[-1].name,)
    generator = torch.Generator().manual_seed(seed)
    return build(Architecture("feedforward", nodes, outputs), Problem((3, side, side)), generator=generator)


STRIDED = (
    node("stem", "conv", "image", **WINDOW, stride_height=2, stride_width=2),
    node("norm", "batch_norm", "stem"),
    node("deep", "depthwise_conv", "norm", height=3, width=3, order="bn-relu-conv"),
    node("flat", "global_avg_pool", "deep"),
    node("map", "linear", "flat", units=6),
)


@pytest.mark.parametrize("side", [8, 7])  # The stem's padding is a layer of its own at 8 pixels, not at 7.
def test_names_are_made_of_nodes_and_roles_whatever_the_padding(side):
    assert list(named(network(*STRIDED, side=side))) == [
        "stem/conv.weight",
        "stem/norm.weight",
        "stem/norm.bias",
        "norm/weight",
        "norm/bias",
        "deep/norm.weight",
        "deep/norm.bias",
        "deep/conv.weight",
        "deep/conv.bias",
        "map/weight",
        "map/bias",
        "head/weight",
        "head/bias",
    ]


def test_statistics_have_the_names_of_their_node():
    network_ = network(*STRIDED)
    running = statistics(network_)
    assert [name for name in running if name.startswith("stem")] == [
        "stem/norm.running_mean",
        "stem/norm.running_var",
        "stem/norm.num_batches_tracked",
    ]
    assert not running.keys() & named(network_).keys()


def test_loaded_weights_make_networks_of_other_images_and_seeds_equal():
    one, other = network(*STRIDED), network(*STRIDED, side=7, seed=1)
    load(other, named(one) | statistics(one))
    assert all(torch.equal(a, b) for a, b in zip(named(one).values(), named(other).values(), strict=True))
    # The tensors are copied: a step of one network does not move the other.
    before = other.head.weight.clone()
    with torch.no_grad():
        named(one)["head/weight"].add_(1)
    assert torch.equal(other.head.weight, before)


def test_an_auxiliary_head_has_weights_of_its_own():
    graph = Architecture(
        "feedforward", (node("stem", "conv", "image", **WINDOW), node("side", "relu", "stem")), ("stem", "side")
    )
    assert [name for name in named(build(graph, Problem())) if name.endswith("head/weight")] == [
        "head/weight",
        "auxiliary_head/weight",
    ]


def test_a_nodes_parameters_do_not_hide_the_classifiers():
    clash = network(node("flat", "global_avg_pool", "image"), node("head", "linear", "flat", units=3))
    with pytest.raises(WrongWeights, match="two parameters of the network are called 'head/weight'"):
        named(clash)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("map/bias"), "has a parameter 'map/bias', for which no weights are given"),
        (
            lambda w: w.update({"other/bias": torch.zeros(2)}),
            r"has no parameter 'other/bias'; it has stem/conv.weight, .* and 8 more",
        ),
        (lambda w: w.update({"map/bias": torch.zeros(2)}), r"'map/bias' has the shape \(6,\), got \(2,\)"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change, sentence):
    target = network(*STRIDED)
    before = {name: tensor.clone() for name, tensor in named(target).items()}
    weights = {name: tensor + 1 for name, tensor in before.items()}
    change(weights)
    with pytest.raises(WrongWeights, match=sentence):
        load(target, weights)
    assert all(torch.equal(named(target)[name], tensor) for name, tensor in before.items())
