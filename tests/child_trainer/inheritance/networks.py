"""Small networks of every kind of node that a change may touch, and what they compute."""

from dataclasses import dataclass

import torch

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.inheritance.changed_architectures import changed
from child_trainer.inheritance.inherited_weights import inherited
from child_trainer.networks.build import build
from child_trainer.networks.weights import load, named, statistics


@dataclass(frozen=True)
class Problem:
    input_shape: tuple[int, int, int] = (3, 8, 8)
    num_classes: int = 5


PROBLEM = Problem()
IMAGES = torch.randn((16, 3, 8, 8), generator=torch.Generator().manual_seed(1))


def conv(name, source, filters=6, size=3, **attributes):
    return node(name, "conv", source, height=size, width=size, filters=filters, **attributes)


PLAIN = Architecture(
    "feedforward",
    (
        conv("c1", "image"),
        conv("c2", "c1", 8, 5),
        node("p", "max_pool", "c2", height=2, width=2, stride_height=2, stride_width=2),
        conv("c3", "p", 7, order="conv-bn"),
        node("r", "relu", "c3"),
        node("flat", "flatten", "r"),
        node("fc", "linear", "flat", units=9),
        node("fc.relu", "relu", "fc"),
    ),
    ("fc.relu",),
)
"""A plain chain: convolutions, a pool, a fully connected layer."""

DENSE = Architecture(
    "feedforward",
    (
        conv("stem", "image", 4),
        conv("d1", "stem", 3, order="bn-relu-conv"),
        node("j1", "concat", ("stem", "d1")),
        conv("d2", "j1", 3, order="bn-relu-conv"),
        node("j2", "concat", ("j1", "d2")),
        node("n", "batch_norm", "j2"),
        node("dw", "depthwise_conv", "n", height=3, width=3),
        node("a", "avg_pool", "dw", height=3, width=3, stride_height=2, stride_width=2),
        conv("d3", "a", 5, 1),
    ),
    ("d3",),
)
"""A block of a DenseNet, whose later layers all read the concatenation of the earlier ones."""

BOTTLENECK = Architecture(
    "feedforward",
    (
        conv("stem", "image", 4, order="conv-unbiased"),
        conv("d1.in", "stem", 12, 1, order="bn-relu-conv"),
        conv("d1", "d1.in", 3, order="bn-relu-conv"),
        node("d1.all", "concat", ("stem", "d1")),
        conv("d2.in", "d1.all", 12, 1, order="bn-relu-conv"),
        conv("d2", "d2.in", 3, order="bn-relu-conv"),
        node("d2.all", "concat", ("d1.all", "d2")),
        conv("t", "d2.all", 5, 1, order="bn-relu-conv"),
    ),
    ("t",),
)
"""A block of a DenseNet-BC, with a bottleneck before each layer."""

BARE = Architecture(
    "feedforward",
    (
        conv("c1", "image"),
        node("skip", "identity", "c1"),
        conv("linear", "skip", 6, order="conv"),
        node("dw", "depthwise_conv", "linear", height=3, width=3, order="conv-bn"),
        conv("c2", "dw", 8, order="bn-relu-conv"),
        node("mean", "global_avg_pool", "c2"),
    ),
    ("mean",),
)
"""Layers that path-level changes split and copy."""


GROUPED = Architecture(
    "feedforward",
    (
        conv("c1", "image", 8),
        conv("g", "c1", 12, groups=4),
        conv("pre", "g", 6, order="bn-relu-conv", groups=2),
    ),
    ("pre",),
)
"""Convolutions with groups, each of which reads channels of its own."""


def trained(architecture, steps=3):
    """Return the network after some steps, so that its statistics and normalisation are no longer the first ones."""
    network = build(architecture, PROBLEM, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    for _ in range(steps):
        step(network, optimizer)
    return network


def step(network, optimizer):
    network.train()
    optimizer.zero_grad()
    labels = torch.arange(len(IMAGES)) % PROBLEM.num_classes
    torch.nn.functional.cross_entropy(network(IMAGES), labels).backward()
    optimizer.step()


def weights_of(network):
    return {name: t.detach().clone() for name, t in (named(network) | statistics(network)).items()}


def child_of(architecture, network, *changes, seed=0):
    """Return the child's graph and its network, with the weights that it inherits."""
    generator = torch.Generator().manual_seed(seed)
    weights = inherited(architecture, weights_of(network), changes, PROBLEM, IMAGES, generator=generator)
    after = changed(architecture, changes)
    child = build(after, PROBLEM, generator=torch.Generator().manual_seed(9))
    load(child, weights)
    return after, child


@torch.no_grad()
def outputs(network):
    return network.eval()(IMAGES)
