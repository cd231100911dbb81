"""Supernets learn real digits by plain gradient steps, as a search without a cluster would take them."""

import statistics
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.no_options import NoOptions
from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.generated import GeneratedSupernet
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from child_trainer.supernets.scoring import score
from child_trainer.tasks import digits
from child_trainer.training.image_classifier import standardise
from controller.statistics import spearman

CHOICES = 3


def supernet() -> Architecture:
    """A stem, and choices between a 3x3 convolution and none, each behind a 1x1 convolution."""
    norm = {"order": "relu-conv-bn", "filters": 6}
    nodes = [
        node("stem", "conv", "image", height=3, width=3, filters=6, order="conv-bn"),
        node("m0", "avg_pool", "stem", height=2, width=2, stride_height=2, stride_width=2),
    ]
    for i in range(1, CHOICES + 1):
        nodes += [
            node(f"p{i}", "conv", f"m{i - 1}", height=1, width=1, **norm),
            node(f"c{i}", "conv", f"p{i}", height=3, width=3, **norm),
            node(f"m{i}", "mix", (f"c{i}", f"p{i}"), gate=f"g{i}"),
        ]
    return Architecture("feedforward", tuple(nodes), (f"m{CHOICES}",))


PATHS: list[Gates] = [
    {f"g{i + 1}": (1.0 - (number >> i & 1), float(number >> i & 1)) for i in range(CHOICES)} for number in range(8)
]


@dataclass
class Digits:
    """Images and classes, and batches of both parts drawn by a generator."""

    training_images: Tensor
    training_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    generator: Generator

    def training(self) -> tuple[Tensor, Tensor]:
        return self._batch(self.training_images, self.training_labels)

    def validation(self) -> tuple[Tensor, Tensor]:
        return self._batch(self.validation_images, self.validation_labels)

    def _batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (64,), generator=self.generator)
        return images[chosen], labels[chosen]


@pytest.fixture(scope="module")
def task() -> Any:
    return digits.load("digits", None, NoOptions(), seed=0, device="cpu")


@pytest.fixture(scope="module")
def data(task: Any) -> Digits:
    training, validation = task.training, task.validation
    return Digits(
        standardise(training.pixels),
        training.labels,
        standardise(validation.pixels),
        validation.labels,
        Generator(),
    )


def learn(network: SupernetNetwork, data: Digits, name: str, steps: int, paths: list[Gates], seed: int = 0) -> Any:
    """Train by gradient steps; return the weights, the strengths, and the losses on training batches."""
    objective = OBJECTIVES[name]
    values = {"proxyless-reinforce": {"reward_power": 0.0}, "proxyless-two": {"rate": 1.0}}.get(name, {})
    weights = network.initial(seed)
    momentum = {name: torch.zeros_like(w) for name, w in weights.items()}
    strengths = {gate: torch.zeros(size) for gate, size in network.gate_sizes.items()}
    losses: list[float] = []
    for step in range(steps):
        settings = objective.settings_of({"progress": step / steps} | values)
        for place, half in enumerate(objective.due(step, settings)):
            data.generator.manual_seed(10 * (step + 1000 * seed) + place)
            path = paths[int(torch.randint(len(paths), (), generator=data.generator))]
            given: Gates = {"path": path, "dropout": {}}.get(name, strengths)
            draw = half.draw(network.gate_sizes, given, settings, data.generator)
            pulled = {n: weights[n] for n in half.names(network, draw)}
            found = half.step(network, data, pulled, draw, settings)
            for n, gradient in found.weights.items():
                momentum[n] = 0.9 * momentum[n] + gradient
                weights[n] = weights[n] - 0.1 * (1 - step / steps) * momentum[n]
            for n, gradient in found.strengths.items():
                strengths[n] = strengths[n] - gradient
            if found.weights:
                losses.append(found.loss)
    return weights, strengths, losses


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_learns_digits(task: Any, data: Digits, name: str) -> None:
    network = SupernetNetwork(supernet(), task)
    _, strengths, losses = learn(network, data, name, 120, PATHS)
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
    if name not in ("path", "dropout", "proxyless-warm-up"):
        assert all(strength.any() for strength in strengths.values())


def test_accuracy_with_generated_weights_ranks_networks_as_training_does(task: Any, data: Digits) -> None:
    """Spec §10, T10.3: eight architectures, on the digits."""
    batches = [(data.validation_images, data.validation_labels)]
    training = list(data.training_images.split(200)[:4])
    generated = GeneratedSupernet(supernet(), task, options=HyperOptions(growth=4, depths=(3, 2)))
    trained_weights = [learn(generated, data, "path", 400, PATHS, seed)[0] for seed in range(3)]
    predicted = [
        statistics.mean(score(generated, weights, path, batches, training).accuracy for weights in trained_weights)
        for path in PATHS
    ]
    alone = SupernetNetwork(supernet(), task)
    trained = [
        score(alone, learn(alone, data, "path", 150, [path])[0], path, batches, training).accuracy for path in PATHS
    ]
    correlation = spearman(list(zip(predicted, trained, strict=True)))
    assert correlation is not None
    assert correlation > 0.3
