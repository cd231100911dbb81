"""Steps on shared weights: each applied exactly once, whatever dies between two calls."""

import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cluster.search.steps import Gradients, HalfStep, Stores, lane_client, make_steps
from controller.searcher import Lane
from ps.consistency import Consistency
from ps.local import LocalStore
from ps.shard.messages import ShardPush
from ps.store import Ack, Group, Layout, ParameterStore, Push
from tests.cluster.search.test_replica import Killed, Mortal

SHAPES = {"stem": (3,), "left": (2, 2), "right": (4,), "unused": (2,)}
COUNT = 4


def open_store(folder: Path | None, shards: int = 3, interval_s: float = 0.0) -> LocalStore:
    group = Group(name="weights", shapes=SHAPES, optimizer="sgd", options={"lr": 1.0})
    store = LocalStore(Layout(run="run/weights", groups=(group,), shards=shards), folder, interval_s)
    store.initialize({name: torch.zeros(shape) for name, shape in SHAPES.items()})
    return store


class Sums:
    """A step reads the stem and one branch, and pushes minus a power of ten: the sum shows which steps were applied."""

    strengths: Sequence[str] = ()
    rates: Mapping[str, float] = {}

    def __init__(self) -> None:
        self.made: list[int] = []

    def half_steps(self, step: int) -> Sequence[HalfStep]:
        return [WeightsAlone(self, step)]

    def names(self, step: int) -> Sequence[str]:
        return ["stem", "left" if step % 2 else "right"]

    def gradients(self, step: int, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        assert list(weights) == [name for name in SHAPES if name in self.names(step)]
        self.made.append(step)
        return {name: torch.full_like(value, -(10.0**step)) for name, value in weights.items()}


@dataclass(frozen=True)
class WeightsAlone:
    """The one part of a step of `Sums`."""

    rule: Sums
    step: int
    learns: frozenset[str] = frozenset({"weights"})

    def names(self, strengths: Mapping[str, Tensor]) -> Sequence[str]:
        assert not strengths
        return self.rule.names(self.step)

    def gradients(self, weights: Mapping[str, Tensor], strengths: Mapping[str, Tensor]) -> Gradients:
        return Gradients(self.rule.gradients(self.step, weights))


class Halves(Sums):
    """The gradient depends on the weights, so that a step from others gives others."""

    def gradients(self, step: int, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: value / 2 - 1 - step for name, value in weights.items()}


def values(store: ParameterStore) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in store.pull().values.items()}


ONCE = {"stem": [1111.0] * 3, "left": [1010.0] * 4, "right": [101.0] * 4, "unused": [0.0] * 2}
"""The weights after four steps of `Sums`."""


def test_steps_pull_and_push_what_their_path_names() -> None:
    store, rule = open_store(None), Sums()
    make_steps(Stores(store), Lane(0, 0, 0), COUNT, rule)
    assert values(store) == ONCE
    assert rule.made == [0, 1, 2, 3]


def test_a_child_that_is_tried_again_repeats_nothing() -> None:
    store, rule = open_store(None), Sums()
    for _ in range(2):
        make_steps(Stores(store), Lane(0, 0, 0), COUNT, rule)
    assert values(store) == ONCE
    assert rule.made == [0, 1, 2, 3]


def test_the_next_child_of_a_lane_goes_on_counting_and_lanes_do_not_disturb_each_other() -> None:
    store = open_store(None)
    for lane in (Lane(0, 0, 0), Lane(0, 1, 0), Lane(0, 0, COUNT), Lane(1, 0, 0)):
        make_steps(Stores(store), lane, COUNT, Sums())
    assert values(store)["stem"] == [4444.0] * 3
    assert lane_client(12, 3) == "replica-12.3"


def test_a_child_whose_predecessor_ended_early_makes_all_its_steps() -> None:
    store = open_store(None)
    make_steps(Stores(store), Lane(0, 0, 0), 2, Sums())  # of ten, say
    make_steps(Stores(store), Lane(0, 0, 10), COUNT, Sums())
    assert values(store)["stem"] == [1122.0] * 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("rule", [Sums, Halves])
def test_death_at_any_call_ends_at_the_undisturbed_weights_to_the_bit(
    tmp_path: Path, rule: type[Sums], after: bool
) -> None:
    undisturbed = open_store(None)
    make_steps(Stores(undisturbed), Lane(0, 0, 0), COUNT, rule())
    for dies_at in range(2 * COUNT):
        store = open_store(tmp_path / str(dies_at))
        mortal: Any = Mortal(store, itertools.count(), dies_at, after=after)
        with pytest.raises(Killed):
            make_steps(Stores(mortal), Lane(0, 0, 0), COUNT, rule())
        store = open_store(tmp_path / str(dies_at))  # the process with the shards died as well
        make_steps(Stores(store), Lane(0, 0, 0), COUNT, rule())
        assert values(store) == values(undisturbed), f"call {dies_at}"
        assert {status.pushes for status in store.status()} == {COUNT}


class OnlyTheFirst:
    """Shards of which the first alone gets a push, before the process dies."""

    def __init__(self, shards: Any) -> None:
        self._shards = shards

    def push(self, pushes: Mapping[int, ShardPush]) -> None:
        self._shards.push({0: pushes[0]})
        raise Killed


class Cut:
    """A store to which the n-th push comes through to the first shard only; then the process dies."""

    def __init__(self, store: LocalStore, dies_at: int) -> None:
        self._store, self._left = store, dies_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def push(self, push: Push) -> Ack:
        self._left -= 1
        if self._left >= 0:
            return self._store.push(push)
        shards: Any = self._store._shards
        self._store._shards = OnlyTheFirst(shards)  # type: ignore[assignment]
        try:
            return self._store.push(push)
        finally:
            self._store._shards = shards


@pytest.mark.parametrize("dies_at", range(COUNT))
def test_a_push_that_reached_one_shard_is_completed_on_the_others(dies_at: int) -> None:
    store = open_store(None)
    cut: Any = Cut(store, dies_at)
    with pytest.raises(Killed):
        make_steps(Stores(cut), Lane(0, 0, 0), COUNT, Sums())
    assert values(store) != ONCE
    make_steps(Stores(store), Lane(0, 0, 0), COUNT, Sums())
    assert values(store) == ONCE


class Falling:
    """A store whose shards fall back, before the n-th push, to what a copy of their files had."""

    def __init__(self, folder: Path, falls_at: int) -> None:
        self._folder, self._left = folder, falls_at
        self.store = open_store(folder, interval_s=3600.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def push(self, push: Push) -> Ack:
        if self._left == 0:
            self.store = open_store(self._folder, interval_s=3600.0)  # nothing was written since the first values
        self._left -= 1
        return self.store.push(push)


@pytest.mark.parametrize("falls_at", range(COUNT))
def test_steps_that_a_shard_loses_while_a_child_makes_them_are_made_again(tmp_path: Path, falls_at: int) -> None:
    """With periodic snapshots a shard that dies loses acknowledged pushes, and those of earlier children too."""
    open_store(tmp_path, interval_s=3600.0).close()
    falling: Any = Falling(tmp_path, COUNT + falls_at)
    make_steps(Stores(falling), Lane(0, 0, 0), COUNT, Sums())
    make_steps(Stores(falling), Lane(0, 0, COUNT), COUNT, Sums())
    assert values(falling.store) == ONCE


def test_what_must_stop_before_a_step_stops_there_and_goes_on_later() -> None:
    store = open_store(None)

    def before(step: int) -> None:
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        make_steps(Stores(store), Lane(0, 0, 0), COUNT, Sums(), before=before)
    assert values(store)["stem"] == [11.0] * 3
    make_steps(Stores(store), Lane(0, 0, 0), COUNT, Sums())
    assert values(store) == ONCE


class Distances(Sums):
    """The gradient leads to a number that the lane has for each step."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self._place = place

    def names(self, step: int) -> Sequence[str]:
        return list(SHAPES)

    def gradients(self, step: int, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: (value - self._place - step) / 4 for name, value in weights.items()}


@pytest.mark.parametrize("count", [2, 3])
def test_lanes_that_wait_for_each_other_step_on_the_mean_of_their_gradients(count: int) -> None:
    """Lanes in threads under `sync` are one loop over the mean, as one process would make it.

    A shard adds gradients up in the order in which they come. Two give the same bits either way, as a + b is b + a; of
    three, (a + b) + c and a + (b + c) may be rounded differently, by a last bit in each step.
    """
    lanes = range(count)
    members = tuple(lane_client(0, lane) for lane in lanes)
    group = Group(name="weights", shapes=SHAPES, optimizer="sgd", options={"lr": 1.0, "momentum": 0.5})
    layout = Layout(run="r", groups=(group,), shards=3, consistency=Consistency(mode="sync", members=members))
    store = LocalStore(layout)
    first = {name: torch.full(shape, 2.1) for name, shape in SHAPES.items()}
    store.initialize(first)

    def make(lane: int) -> None:
        make_steps(Stores(store), Lane(0, lane, 0), COUNT, Distances(lane), pause=lambda: time.sleep(0.001))

    with ThreadPoolExecutor(len(lanes)) as threads:
        for made in [threads.submit(make, lane) for lane in lanes]:
            made.result(timeout=30)
    plain = {name: value.clone().requires_grad_() for name, value in first.items()}
    optimizer = torch.optim.SGD(plain.values(), 1.0, 0.5, foreach=False)
    for step in range(COUNT):
        present = {name: value.detach().clone() for name, value in plain.items()}
        gradients = [Distances(lane).gradients(step, present) for lane in lanes]
        for name, value in plain.items():
            value.grad = torch.stack([gradient[name] for gradient in gradients]).sum(0) / len(lanes)
        optimizer.step()
    found = store.pull().values
    if count == 2:
        assert all(torch.equal(found[name], plain[name]) for name in SHAPES)
    assert all(torch.allclose(found[name], plain[name], rtol=0, atol=1e-6) for name in SHAPES)
    assert {status.version for status in store.status()} == {COUNT}


def test_a_bound_on_staleness_holds_across_the_death_of_workers_and_shards(tmp_path: Path) -> None:
    """A child that is tried again counts its steps from 0, and the shards' clocks go on where they were."""
    members = tuple(lane_client(0, lane) for lane in range(2))
    rules = Consistency(mode="ssp", bound=2, members=members)
    group = Group(name="weights", shapes=SHAPES, optimizer="sgd", options={"lr": 1.0})

    def begin() -> LocalStore:
        store = LocalStore(Layout(run="r", groups=(group,), shards=3, consistency=rules), tmp_path)
        store.initialize({name: torch.zeros(shape) for name, shape in SHAPES.items()})
        return store

    def must_wait() -> None:
        raise Killed

    for slowest in range(3):  # each time everything has died since the last one
        ahead, behind = Sums(), Sums()
        with pytest.raises(Killed):
            make_steps(Stores(begin()), Lane(0, 0, 0), 10, ahead, pause=must_wait)
        assert ahead.made == ([0, 1, 2] if slowest == 0 else [slowest + 2])

        def before(step: int, last: int = slowest) -> None:
            if step > last:
                raise Killed

        with pytest.raises(Killed):
            make_steps(Stores(begin()), Lane(0, 1, 0), 10, behind, before=before)
        assert behind.made == [slowest]
    assert [begin().pull([], client=member).applied for member in members] == [(5, 5, 5), (3, 3, 3)]


def test_how_stale_a_step_is_counts_across_the_death_of_the_shards(tmp_path: Path) -> None:
    """Versions do not begin again at 0 with the process: a step from before its death is as old as it is."""
    rules = Consistency(stale="drop", max_staleness=1)
    group = Group(name="weights", shapes=SHAPES, optimizer="sgd", options={"lr": 1.0})
    layout = Layout(run="r", groups=(group,), shards=3, consistency=rules)
    store = LocalStore(layout, tmp_path)
    store.initialize({name: torch.zeros(shape) for name, shape in SHAPES.items()})
    make_steps(Stores(store), Lane(0, 0, 0), COUNT, Sums())
    pulled = store.pull(client="late")
    store = LocalStore(layout, tmp_path)
    gradients = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    for number, (client, dropped) in enumerate({"a": False, "b": False, "late": True}.items()):
        ack = store.push(Push(client=client, sequence=1, gradients=gradients, versions=pulled.versions))
        assert (ack.staleness, ack.dropped) == ((number,) * 3, dropped)
