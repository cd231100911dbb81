"""Trainings whose passes are recorded and replayed equal plain ones to the bit.

`rerun` is the contract of a CUDA graph on the CPU: it does the recorded work again on the same memory, and writes the
results to the same memory. The tests of the graph itself need a GPU; there was none when they were written.
"""

import gc
import random
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture, Node
from child_trainer.networks.build import build
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.image import ImageTask
from child_trainer.training import image_classifier as sgd
from child_trainer.training.augment import Augmentation
from child_trainer.training.image_classifier import PreparedImages
from child_trainer.training.recorded_pass import (
    MIN_STEPS,
    Capture,
    RecordedPass,
    capture_for,
    cuda_graph,
    is_static,
    record,
)
from child_trainer.training.task import Progress
from cluster.config.recipes import RECIPES
from controller.space import first_tokens

NETWORKS = {
    name: RECIPES[name]().search_space.decode(first_tokens(RECIPES[name]().search_space, 0, random.Random(3)))
    for name in ("digits", "nasnet-digits")
}
BUDGET = Budget(epochs=2, batch_size=32, train_fraction=0.2)
REGIMES = {
    "sgd": Regime(schedule="cosine", clip_norm=1.0),
    "adam": Regime(optimizer="adam", warmup_epochs=1.0),
    "rmsprop": Regime(optimizer="rmsprop"),
    "bfloat16": Regime(precision="bfloat16"),
}


def task() -> ImageTask:
    loaded = load_task("digits", seed=1)
    assert isinstance(loaded, ImageTask)
    return loaded


def rerun(network: nn.Module, calls: list[int]) -> Capture:
    def capture(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        for _ in range(3):
            function()
        result = function()
        gradients = [p.grad for p in network.parameters()]

        def replay() -> None:
            calls.append(1)
            result.copy_(function())
            for place, parameter in zip(gradients, network.parameters(), strict=True):
                if place is not None and parameter.grad is not None:
                    parameter.grad = place.copy_(parameter.grad)

        return replay, result

    return capture


def trained(
    architecture: Architecture, regime: Regime, capture: Callable[[nn.Module], Capture] | None
) -> tuple[list[float], dict[str, Tensor]]:
    data, progress = task(), Progress(epochs=BUDGET.epochs)
    network = build(architecture, data, generator=torch.Generator().manual_seed(5))
    validation = PreparedImages(data.validation, data.centred)
    sgd.fit(
        network,
        data.training.first(BUDGET.train_fraction),
        lambda it: sgd.accuracy(it, validation, regime.precision),
        replace(BUDGET, regime=regime),
        progress,
        augment=Augmentation(data.augmented, torch.Generator().manual_seed(6)),
        generator=torch.Generator().manual_seed(7),
        capture=capture and capture(network),
    )
    return progress.curve, network.state_dict()


@pytest.mark.parametrize(("name", "regime"), [("digits", one) for one in REGIMES] + [("nasnet-digits", "sgd")])
def test_replayed_steps_equal_plain_ones_to_the_bit(name: str, regime: str) -> None:
    calls: list[int] = []
    plain = trained(NETWORKS[name], REGIMES[regime], None)
    replayed = trained(NETWORKS[name], REGIMES[regime], lambda network: rerun(network, calls))
    steps = BUDGET.epochs * (round(len(task().training) * BUDGET.train_fraction) // BUDGET.batch_size)
    assert len(calls) == steps + 1  # one is that of the check
    assert plain[0] == replayed[0]
    assert all(torch.equal(value, replayed[1][key]) for key, value in plain[1].items())


def test_a_recording_that_fails_changes_nothing_and_is_not_tried_again() -> None:
    tried: list[int] = []

    def failing(_: nn.Module) -> Capture:
        def capture(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
            tried.append(1)
            function()
            raise RuntimeError("operation not permitted when stream is capturing")

        return capture

    plain, other = (trained(NETWORKS["nasnet-digits"], REGIMES["sgd"], each) for each in (None, failing))
    assert tried == [1]
    assert plain[0] == other[0]
    assert all(torch.equal(value, other[1][key]) for key, value in plain[1].items())


def test_a_recording_changes_no_buffer_and_other_shapes_are_computed_without_it() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [(torch.randn(n, 1, 2, 3), torch.randint(3, (n,))) for n in (4, 4, 2, 4)]
    calls: list[int] = []

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(inputs), labels)

    recorded = record(network, loss, *batches[0], rerun(network, calls))
    assert isinstance(recorded, RecordedPass)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for inputs, labels in batches:
        found = recorded(inputs, labels).clone()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        running = [b.clone() for b in network.buffers()]
        network.load_state_dict(before)
        network.zero_grad()
        expected = loss(inputs, labels)
        expected.backward()
        assert torch.equal(found, expected.detach())
        assert all(
            torch.equal(g, p.grad) for g, p in zip(gradients, network.parameters(), strict=True) if p.grad is not None
        )
        assert [torch.equal(a, b) for a, b in zip(running, network.buffers(), strict=True)] == [True] * 3
        network.load_state_dict(before)
    assert len(calls) == 1 + 3


@pytest.mark.parametrize("lost", ["all", "gradients", "loss"])
def test_a_recording_whose_replay_gives_something_else_is_not_used(lost: str) -> None:
    torch.manual_seed(0)  # by chance, two batches can have nearly the same loss
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def wrong(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        replay, result = rerun(network, [])(function)

        def replay_wrongly() -> None:
            kept = result.clone(), [p.grad.clone() for p in network.parameters() if p.grad is not None]
            places = [p.grad for p in network.parameters() if p.grad is not None]
            replay()
            if lost in ("all", "loss"):
                result.copy_(kept[0])
            if lost in ("all", "gradients"):
                for place, value in zip(places, kept[1], strict=True):
                    place.copy_(value)

        return replay_wrongly, result

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(inputs), labels)

    assert record(network, loss, torch.randn(4, 1, 2, 3), torch.tensor([0, 1, 2, 0]), wrong) is None
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_all_passes_are_made_before_the_recording_whose_memory_is_kept() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    calls: list[str] = []

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        calls.append("pass")
        return nn.functional.cross_entropy(network(inputs), labels)

    def capture(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        replay, result = rerun(network, [])(function)
        calls.append("recorded")

        def replay_uncounted() -> None:
            count = len(calls)
            replay()
            del calls[count:]

        return replay_uncounted, result

    assert record(network, loss, torch.randn(4, 1, 2, 3), torch.tensor([0, 1, 2, 0]), capture) is not None
    assert calls.index("recorded") == len(calls) - 1


def test_a_recording_ends_with_its_training_without_a_garbage_collection() -> None:
    recorded: list[Callable[[], Tensor]] = []  # a replay, as that of a graph, does not hold the function itself
    data, network = task(), build(NETWORKS["nasnet-digits"], task())
    replays: list[weakref.ref[Callable[[], object]]] = []

    def capture(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        recorded.append(function)

        def again() -> Tensor:
            return recorded[0]()

        repeat, result = rerun(network, [])(again)

        def replay() -> None:
            repeat()

        replays.append(weakref.ref(replay))
        return replay, result

    gc.collect()
    gc.disable()
    try:
        sgd.fit(
            network,
            data.training.first(BUDGET.train_fraction),
            lambda it: 0.5,
            replace(BUDGET, epochs=1),
            Progress(epochs=1),
            augment=Augmentation(data.augmented, torch.Generator().manual_seed(6)),
            generator=torch.Generator().manual_seed(7),
            capture=capture,
        )
        recorded.clear()
        assert [replay() for replay in replays] == [None]
    finally:
        gc.enable()


class Own(nn.Module):
    """An operation of a user's own: it may do other work at each step."""


def test_passes_are_recorded_on_a_gpu_where_each_does_the_same_and_there_are_enough() -> None:
    nodes = (Node(name="drop", op="dropout", inputs=("image",), attributes=(("rate", 0.5),)),)
    drops = Architecture(kind="feedforward", nodes=nodes, outputs=("drop",))
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    network, data = build(NETWORKS["nasnet-digits"], task()), task()
    assert capture_for(network, gpu, MIN_STEPS) is not None
    assert capture_for(network, gpu, MIN_STEPS - 1) is None
    assert capture_for(network, cpu, MIN_STEPS) is None
    assert not is_static(build(drops, data))
    assert not is_static(nn.Sequential(network, Own()))


GPU = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu_a_replay_gives_the_loss_and_the_gradients_of_its_batch(name: str) -> None:
    images = task().training.to(GPU)
    network = build(NETWORKS[name], task()).to(GPU)
    batches = [
        (sgd.standardise(images.pixels[place : place + 32]), images.labels[place : place + 32]) for place in (0, 32, 64)
    ]

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(inputs), labels)

    recorded = record(network, loss, *batches[0], partial(cuda_graph, device=GPU))
    assert recorded is not None
    for inputs, labels in batches:
        found = recorded(inputs, labels).clone()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        network.zero_grad()
        expected = loss(inputs, labels)
        expected.backward()
        torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-4)
        computed = [p.grad for p in network.parameters() if p.grad is not None]
        torch.testing.assert_close(gradients, computed, rtol=1e-2, atol=1e-3)


@needs_gpu
def test_on_a_gpu_a_pass_that_waits_for_it_is_not_recorded_and_leaves_it_as_it_was() -> None:
    network = nn.Linear(6, 3).to(GPU)

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        value = nn.functional.cross_entropy(network(inputs), labels)
        return value / max(1.0, value.item())

    batch = torch.randn(4, 6, device=GPU), torch.tensor([0, 1, 2, 0], device=GPU)
    assert record(network, loss, *batch, partial(cuda_graph, device=GPU)) is None
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.cuda.get_sync_debug_mode() == 0
    torch.cuda.empty_cache()
    torch.rand(3, device=GPU).sum().item()
