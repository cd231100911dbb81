"""Steps on weights and strengths: both are moved exactly once, from what they were, whatever dies between two calls."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cluster.search.steps import Gradients, HalfStep, Stores, lane_client, make_steps
from controller.searcher import Lane
from controller.strengths import tensor_names
from ps.local import LocalStore
from ps.store import Group, Layout, Push, Snapshot
from tests.cluster.search.test_replica import Killed, Mortal

GATES = {"edge.0-1": 3, "edge.0-2": 2}
COUNT, FIRST = 5, 40
"""Steps of a child, and of its lane before it."""

LANE = Lane(0, 1, FIRST)
WEIGHTS, STRENGTHS = frozenset({"weights"}), frozenset({"strengths"})

SHAPES: Mapping[str, tuple[tuple[frozenset[str], int], ...]] = {
    "strengths, then weights": ((STRENGTHS, 1), (WEIGHTS, 1)),
    "both from one sample": ((WEIGHTS | STRENGTHS, 1),),
    "strengths at every other step": ((WEIGHTS, 1), (STRENGTHS, 2)),
}
"""The half-steps of DARTS, SNAS and ProxylessNAS: what each learns, and at each how many steps it is due."""


def open_stores(folder: Path | None, shards: int) -> tuple[LocalStore, LocalStore]:
    """The weights' and the policy's stores, both with momentum, so that a step applied twice shows for ever."""
    sgd, kept = {"lr": 0.5, "momentum": 0.5}, {"decay": 0.0}
    now, before = tensor_names(GATES), tensor_names(GATES, before=True)[len(GATES) :]
    sizes = dict(zip((*now, *before), [(size,) for size in GATES.values()] * 2, strict=True))
    groups = [
        (Group(name="weights", shapes={"stem": (3,), "head": (2, 2)}, optimizer="sgd", options=sgd),),
        (
            Group(name="strengths", shapes={name: sizes[name] for name in now}, optimizer="sgd", options=sgd),
            Group(name="before", shapes={name: sizes[name] for name in before}, optimizer="average", options=kept),
        ),
    ]
    stores: list[LocalStore] = []
    for name, some in zip(("weights", "policy"), groups, strict=True):
        store = LocalStore(Layout(run=name, groups=some, shards=shards), folder and folder / name)
        store.initialize(
            {n: torch.linspace(0, 1, 9)[: torch.Size(s).numel()].reshape(s) for n, s in store_shapes(some)}
        )
        stores.append(store)
    return stores[0], stores[1]


def store_shapes(groups: Sequence[Group]) -> list[tuple[str, tuple[int, ...]]]:
    return [item for group in groups for item in group.shapes.items()]


class Coupled:
    """Each gradient depends on the weights and on the strengths, so that a step from others gives others."""

    strengths = tensor_names(GATES, before=True)
    rates: Mapping[str, float] = {"weights": 0.25}

    def __init__(self, shape: Sequence[tuple[frozenset[str], int]]) -> None:
        self.shape = shape
        self.made: list[tuple[int, int]] = []

    def half_steps(self, step: int) -> list[HalfStep]:
        due = [(place, learns) for place, (learns, period) in enumerate(self.shape) if step % period == 0]
        return [Part(self, step, place, learns) for place, learns in due]


@dataclass(frozen=True)
class Part:
    rule: Coupled
    step: int
    place: int
    learns: frozenset[str]

    def names(self, strengths: Mapping[str, Tensor]) -> Sequence[str]:
        assert strengths.keys() == GATES.keys()
        return ["stem", "head"]

    def gradients(self, weights: Mapping[str, Tensor], strengths: Mapping[str, Tensor]) -> Gradients:
        self.rule.made.append((self.step, self.place))
        pull = sum(value.sum() for value in strengths.values()) + self.step
        push = weights["stem"].sum() - self.step
        return Gradients(
            {name: value.cos() * pull for name, value in weights.items()} if "weights" in self.learns else {},
            {gate: value.sin() * push for gate, value in strengths.items()} if "strengths" in self.learns else {},
        )


def values(stores: tuple[LocalStore, LocalStore]) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for store in stores for name, value in store.pull().values.items()}


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Sequence[tuple[frozenset[str], int]]:
    return SHAPES[request.param]


def expected(shape: Sequence[tuple[frozenset[str], int]]) -> list[tuple[int, int]]:
    return [(s, place) for s in range(COUNT) for place, (_, period) in enumerate(shape) if s % period == 0]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_any_call_ends_at_the_undisturbed_values_to_the_bit(
    tmp_path: Path, shape: Sequence[tuple[frozenset[str], int]], after: bool, shards: int
) -> None:
    undisturbed, rule, calls = open_stores(None, shards), Coupled(shape), itertools.count()
    counted: Any = [Mortal(store, calls, -1, after=after) for store in undisturbed]
    make_steps(Stores(*counted), LANE, COUNT, rule)
    assert rule.made == expected(shape)
    number = next(calls)
    assert number >= 4 * COUNT - 1
    for dies_at in range(number):
        stores = open_stores(tmp_path / str(dies_at), shards)
        counter = itertools.count()
        mortal: Any = [Mortal(store, counter, dies_at, after=after) for store in stores]
        with pytest.raises(Killed):
            make_steps(Stores(*mortal), LANE, COUNT, Coupled(shape))
        stores = open_stores(tmp_path / str(dies_at), shards)  # the process with the shards died as well
        make_steps(Stores(*stores), LANE, COUNT, Coupled(shape))
        assert values(stores) == values(undisturbed), f"call {dies_at}"
        for ours, theirs in zip(stores, undisturbed, strict=True):
            assert {status.pushes for status in ours.status()} == {status.pushes for status in theirs.status()}


class Told:
    """A store that tells of each call, and after a push lets somebody else do something."""

    def __init__(self, name: str, store: LocalStore, told: list[str], then: Callable[[], object]) -> None:
        self._name, self._store, self._told, self._then = name, store, told, then

    def pull(self, names: Sequence[str], *, client: str) -> Snapshot:
        self._told.append(f"pull {self._name}")
        return self._store.pull(names, client=client)

    def push(self, push: Push) -> None:
        self._told.append(f"push {self._name}")
        self._store.push(push)
        self._then()

    def leave(self, client: str) -> None:
        self._store.leave(client)


CALLS = {
    "strengths, then weights": "pull strengths, pull weights, push strengths, pull strengths, push weights",
    "both from one sample": "pull strengths, pull weights, push strengths, push weights",
    "strengths at every other step": "pull strengths, pull weights, push weights, pull strengths, pull weights,"
    " push strengths",
}


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_pulled_once_until_the_step_moves_them(name: str) -> None:
    weights, policy = open_stores(None, 2)
    told: list[str] = []
    stores: Any = [Told(what, s, told, int) for what, s in (("weights", weights), ("strengths", policy))]
    make_steps(Stores(*stores), LANE, 1, Coupled(SHAPES[name]))
    assert told == CALLS[name].split(", ")


def test_both_halves_of_a_step_read_the_same_weights_whatever_others_push_in_between() -> None:
    """As in DARTS's first order: strengths and weights are moved by their gradients at one w."""
    weights, policy = open_stores(None, 1)
    first = dict(weights.pull().values)
    told, read = list[str](), list[Mapping[str, Tensor]]()

    def another() -> None:
        ones = {name: torch.ones_like(value) for name, value in first.items()}
        weights.push(Push(client="another", sequence=1, gradients=ones, versions=(0,)))

    class Watched(Part):
        def gradients(self, weights: Mapping[str, Tensor], strengths: Mapping[str, Tensor]) -> Gradients:
            read.append(weights)
            return super().gradients(weights, strengths)

    class Watching(Coupled):
        def half_steps(self, step: int) -> list[HalfStep]:
            return [Watched(self, step, place, learns) for place, (learns, _) in enumerate(self.shape)]

    stores: Any = [Told("weights", weights, told, int), Told("strengths", policy, told, another)]
    make_steps(Stores(*stores), LANE, 1, Watching(SHAPES["strengths, then weights"]))
    assert len(read) == 2
    for given in read:
        assert all(torch.equal(given[name], value) for name, value in first.items())
    assert weights.status()[0].pushes == 2


def test_a_child_that_is_tried_again_repeats_nothing(shape: Sequence[tuple[frozenset[str], int]]) -> None:
    stores, rule = open_stores(None, 2), Coupled(shape)
    for _ in range(2):
        make_steps(Stores(*stores), LANE, COUNT, rule)
    assert rule.made == expected(shape)


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_sharding_changes_no_bit(shape: Sequence[tuple[frozenset[str], int]], shards: int) -> None:
    found = []
    for count in (1, shards):
        stores = open_stores(None, min(count, 7))
        make_steps(Stores(*stores), LANE, COUNT, Coupled(shape))
        found.append(values(stores))
    assert found[0] == found[1]


def test_a_step_has_one_number_on_both_stores(shape: Sequence[tuple[frozenset[str], int]]) -> None:
    stores = open_stores(None, 2)
    make_steps(Stores(*stores), LANE, COUNT, Coupled(shape))
    client = lane_client(LANE.replica, LANE.number)
    assert [store.pull(client=client).applied for store in stores] == [(FIRST + COUNT,) * 2] * 2


def test_the_rate_of_the_steps_is_that_of_the_weights_alone(shape: Sequence[tuple[frozenset[str], int]]) -> None:
    rule = Coupled(shape)
    rule.rates = {"weights": 0.0}
    stores = open_stores(None, 1)
    weights, strengths = (store.pull().values for store in stores)
    make_steps(Stores(*stores), LANE, COUNT, rule)
    assert all(torch.equal(weights[name], value) for name, value in stores[0].pull().values.items())
    moved = stores[1].pull().values
    assert all(not torch.equal(strengths[name], moved[name]) for name in tensor_names(GATES))


def test_steps_that_the_weights_lose_are_made_again_without_moving_strengths_twice(
    tmp_path: Path, shape: Sequence[tuple[frozenset[str], int]]
) -> None:
    """Periodic snapshots of the weights lose steps, the policy loses none."""
    weights, policy = open_stores(tmp_path, 1)
    make_steps(Stores(weights, policy), LANE, COUNT, Coupled(shape))
    strengths, pushes = values((policy, policy)), policy.status()[0].pushes
    lost, _ = open_stores(None, 1)
    rule = Coupled(shape)
    make_steps(Stores(lost, policy), LANE, COUNT, rule)
    assert values((policy, policy)) == strengths
    assert policy.status()[0].pushes == pushes
    assert lost.status()[0].pushes == COUNT
    assert {step for step, _ in rule.made} == set(range(COUNT))
