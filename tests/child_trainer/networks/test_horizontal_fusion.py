"""K networks as one compute what each computes alone, forward and backward."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.networks.build import build
from child_trainer.networks.horizontal_fusion import CannotFuse, FusedClassifier, check_can_fuse
from child_trainer.networks.operations import MODULES
from child_trainer.training.fused_classifier import clip_each
from tests.golden import architecture

NETWORKS = 3

EVERY_OPERATION = Architecture(
    "feedforward",
    (
        node("stem", "conv", "image", filters=8, height=3, width=3),
        node("grouped", "conv", "stem", filters=8, height=2, width=3, groups=2, order="relu-conv-bn"),
        node("depth", "depthwise_conv", "grouped", height=3, width=3, order="conv-unbiased"),
        node("norm", "batch_norm", "depth", affine=False),
        node("max", "max_pool", "norm", height=3, width=3),
        node("mean_pool", "avg_pool", "norm", height=2, width=2),
        node("part", "split", "max", parts=2, index=1),
        node("joined", "concat", ("part", "mean_pool", "stem")),
        node("again", "conv", "joined", filters=8, height=1, width=1),
        node("small", "conv", "again", filters=8, height=3, width=3, stride_height=2, stride_width=2),
        node("wide", "concat", ("again", "small"), pad=True),
        node("last", "conv", "wide", filters=8, height=1, width=1),
        node("logistic", "logistic", "last", slope=2.0),
        node("scale", "scale", "last", by=0.5),
        node("constant", "constant", "last", value=0.1),
        *(node(op, op, "last") for op in ("identity", "leaky_relu", "relu", "relu6", "sigmoid")),
        *(node(op, op, "last") for op in ("sin", "tanh", "zero")),
        node("shift", "shift", "last", height=1, width=-1),
        node("interpolate", "interpolate", ("tanh", "sin", "sigmoid")),
        node("subtract", "subtract", ("interpolate", "shift")),
        node("maximum", "maximum", ("subtract", "leaky_relu", "logistic")),
        node("multiply", "multiply", ("maximum", "scale", "identity")),
        node("mean", "mean", ("multiply", "relu", "relu6")),
        node("add", "add", ("mean", "zero", "constant")),
        node("flat", "flatten", "add"),
        node("hidden", "linear", "flat", units=6),
        node("pooled", "global_avg_pool", "add"),
        node("units", "linear", "pooled", units=4, bias=False),
        node("rest", "split", "units", parts=2, index=0),
        node("end", "concat", ("hidden", "rest")),
        node("normed", "batch_norm", "end"),
    ),
    ("normed",),
)
"""A network with every operation that can be fused."""


class Problem:
    input_shape = (2, 6, 5)
    num_classes = 4


def networks(of: Architecture):
    return [build(of, Problem(), generator=torch.Generator().manual_seed(seed)).double() for seed in range(NETWORKS)]


@pytest.fixture(params=[EVERY_OPERATION, architecture(((3, 3, 24, ()), (1, 1, 24, (1,))))], ids=["every", "layers"])
def of(request: pytest.FixtureRequest) -> Architecture:
    return request.param


def test_a_step_of_all_is_a_step_of_each(of: Architecture) -> None:
    """In float64, where the order of sums shows in the 16th digit."""
    alone = networks(of)
    fused = FusedClassifier(of, alone)
    images = torch.randn(5, NETWORKS, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    labels = torch.tensor([[0, 1, 2], [3, 3, 3], [1, 0, 1], [2, 2, 0], [0, 3, 1]])
    for _ in range(2):
        logits = fused(images.flatten(1, 2))
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(5, -1).mean(0).sum().backward()
        clip_each(fused, 0.5)
        _descend(fused)
        for number, network in enumerate(alone):
            expected = network(images[:, number])
            torch.testing.assert_close(logits[:, number], expected, rtol=1e-9, atol=1e-12)
            F.cross_entropy(expected, labels[:, number]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            _descend(network)
    copies = networks(of)
    fused.copy_to(copies)
    for copy, network in zip(copies, alone, strict=True):
        for (name, ours), theirs in zip(copy.state_dict().items(), network.state_dict().values(), strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
            )


@torch.no_grad()
def _descend(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.add_(parameter.grad, alpha=-0.1)
            parameter.grad = None


def test_what_is_not_finite_in_one_reaches_no_other() -> None:
    alone = networks(EVERY_OPERATION)
    images = torch.randn(5, 2 * NETWORKS, 6, 5, dtype=torch.float64)
    well = FusedClassifier(EVERY_OPERATION, alone)(images)
    with torch.no_grad():
        for parameter in alone[1].parameters():
            parameter.fill_(torch.nan)
    logits = FusedClassifier(EVERY_OPERATION, alone)(images)
    assert logits[:, 1].isnan().all()
    assert torch.equal(logits[:, ::2], well[:, ::2])


def test_every_operation_is_fused_or_refused() -> None:
    """A new operation must be decided: those that are not named here are in the network above."""
    refused = {"dropout", "drop_path", "local_contrast_norm", "part", "mix"}
    assert {each.op for each in EVERY_OPERATION.nodes} == MODULES.keys() - refused
    network = Architecture("feedforward", (node("one", "dropout", "image", rate=0.1),), ("one",))
    with pytest.raises(CannotFuse, match="a network with the operation dropout cannot be fused"):
        check_can_fuse(network)
    heads = Architecture("feedforward", (node("a", "relu", "image"), node("b", "tanh", "image")), ("a", "b"))
    with pytest.raises(CannotFuse, match="auxiliary head"):
        check_can_fuse(heads)
