"""Sharding changes no bit, compared with another number of shards and with plain torch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ps.local import LocalStore
from ps.partition import partition, split
from ps.shard.messages import ShardPush, ShardValues
from ps.shard.shard import Shard
from ps.shard.shards import Shards
from ps.slices import Slices
from ps.store import Group, Layout, Push

SIZES = (1, 7, 33, 1001, 25_000, 70_001)
STEPS = 20


def many_magnitudes(seed: int, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    """Return random tensors with magnitudes from 1e-10 to 1e6, where rounding differences would show."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"t{size}": torch.randn(size, generator=generator) * 10 ** (torch.rand(size, generator=generator) * 16 - 10)
        for size in sizes
    }


def average(parameters: list[Tensor]) -> Callable[[], None]:
    def step() -> None:
        for p in parameters:
            p.mul_(0.95).add_(p.grad, alpha=1 - 0.95)

    return step


SGD = {"lr": 0.013, "momentum": 0.9}

UNSHARDED: dict[str, tuple[dict[str, float], Callable[[list[Tensor]], Callable[[], object]]]] = {
    "adam": ({"lr": 1e-3}, lambda p: torch.optim.Adam(p, lr=1e-3).step),
    "adam with decay": (
        {"lr": 1e-3, "beta1": 0.5, "weight_decay": 1e-3},
        lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.5, 0.999), weight_decay=1e-3).step,
    ),
    "sgd": (SGD, lambda p: torch.optim.SGD(p, **SGD).step),
    "sgd with decay": (SGD | {"weight_decay": 3e-4}, lambda p: torch.optim.SGD(p, **SGD, weight_decay=3e-4).step),
    "sgd with nesterov": (
        SGD | {"weight_decay": 3e-4, "nesterov": 1},
        lambda p: torch.optim.SGD(p, **SGD, weight_decay=3e-4, nesterov=True).step,
    ),
    "average": ({"decay": 0.95}, average),
}
"""Rule -> its options on the shards, and its step in torch. The first word names the optimizer."""


def unsharded(optimizer: str, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    parameters = many_magnitudes(0, sizes)
    step = UNSHARDED[optimizer][1](list(parameters.values()))
    for number in range(1, STEPS + 1):
        for name, gradient in many_magnitudes(number, sizes).items():
            parameters[name].grad = gradient
        step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def sharded(optimizer: str, sizes: tuple[int, ...], shards: int) -> dict[str, Tensor]:
    start = many_magnitudes(0, sizes)
    shapes = {name: tuple(tensor.shape) for name, tensor in start.items()}
    group = Group(name="g", shapes=shapes, optimizer=optimizer.split(maxsplit=1)[0], options=UNSHARDED[optimizer][0])
    store = LocalStore(Layout(run="bits", groups=(group,), shards=shards))
    store.initialize(start)
    for number in range(1, STEPS + 1):
        gradients = many_magnitudes(number, sizes)
        store.push(Push(client="k", sequence=number, gradients=gradients, versions=(number - 1,) * shards))
    return store.pull().values


@pytest.mark.parametrize("optimizer", UNSHARDED)
def test_any_number_of_shards_gives_the_bits_of_plain_torch(optimizer: str):
    expected = unsharded(optimizer, SIZES)
    for shards in (1, 3, 20):
        got = sharded(optimizer, SIZES, shards)
        assert all(torch.equal(got[name], tensor) for name, tensor in expected.items()), shards


@pytest.mark.parametrize("optimizer", UNSHARDED)
def test_an_element_alone_steps_like_one_inside_a_vector(optimizer: str):
    """Compare a shard for each element, all scalar tails, with a vector that is nearly all vector body."""
    expected = unsharded(optimizer, (257,))
    assert torch.equal(sharded(optimizer, (257,), 257)["t257"], expected["t257"])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_rate_of_each_push_is_a_schedule_of_torch(optimizer: str):
    sizes, rates = (33, 1001), [0.05 * 0.9**step for step in range(STEPS)] + [0.0]
    parameters = many_magnitudes(0, sizes)
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    plain = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer](parameters.values(), lr=1.0)
    groups = tuple(
        Group(name=name, shapes={name: shape}, optimizer=optimizer, options={"lr": 1.0})
        for name, shape in shapes.items()
    )
    stores = [LocalStore(Layout(run="rates", groups=groups, shards=shards)) for shards in (1, 3, 20)]
    for store in stores:
        store.initialize(parameters)
    for number, rate in enumerate(rates, start=1):
        gradients = many_magnitudes(number, sizes)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        plain.param_groups[0]["lr"] = rate
        plain.step()
        for store in stores:
            versions = (0,) * len(store.status())
            rates_of_groups = dict.fromkeys(shapes, rate)
            store.push(Push(client="k", sequence=number, gradients=gradients, versions=versions, rates=rates_of_groups))
    for store in stores:
        pulled = store.pull().values
        assert all(torch.equal(pulled[name], tensor) for name, tensor in parameters.items())


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("optimizer", UNSHARDED)
def test_shards_of_one_process_step_together_with_the_bits_of_each_alone(
    optimizer: str, tmp_path: Path, *, journal: bool
):
    """Some pushes lack tensors, so that the numbers of steps differ, and two pushes wait for the same step."""
    start, shards = many_magnitudes(0, SIZES), 20
    shapes = {name: tuple(tensor.shape) for name, tensor in start.items()}
    group = Group(name="g", shapes=shapes, optimizer=optimizer.split(maxsplit=1)[0], options=UNSHARDED[optimizer][0])
    layout = Layout(run="bits", groups=(group,), shards=shards)
    parts = partition(shapes, shards)
    together = Shards(layout, range(shards), tmp_path, journal=journal)
    alone = [Shard(layout, index) for index in range(shards)]
    for index, values in enumerate(split(parts, Slices.of(start))):
        alone[index].initialize(values)
        together[index].initialize(values)
    for number in range(1, STEPS + 1):
        gradients = many_magnitudes(number, SIZES)
        for name in list(gradients)[: number % 4]:
            del gradients[name]
        for client in "ab":
            pushes = {
                index: ShardPush(client=client, sequence=number, gradients=part, seen_version=0)
                for index, part in enumerate(split(parts, Slices.of(gradients)))
            }
            for index, push in pushes.items():
                alone[index].push(push)
            if client == "a":
                waiting = [together[index].submit(push) for index, push in pushes.items()]
            else:
                together.push(pushes)
        assert all(reply.done() for reply in waiting)
    pulled = together.pull(dict.fromkeys(range(shards)))
    together.close()
    for index, shard in enumerate(alone):
        values = pulled[index]
        assert isinstance(values, ShardValues)
        assert torch.equal(values.values.flat, shard.pull().values.flat), index
