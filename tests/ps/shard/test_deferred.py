"""Gradients that wait for the end of a round: their steps come in one order, in whatever order the pushes came."""

import itertools
import json
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ps.consistency import Consistency
from ps.local import LocalStore
from ps.store import Group, Layout, ParameterStore, Push

OWN, COMMON = {"a": (3,), "b": (2, 2)}, {"stem": (4,), "head": (3,)}
ENDS = "r.rounds"
CLIENTS = ("r.0", "r.2", "r.10")
"""In the order in which their steps come."""


def layout(shards: int = 3, optimizer: str = "sgd") -> Layout:
    options = {"lr": 0.1, "momentum": 0.9} if optimizer == "sgd" else {"lr": 0.1}
    groups = (
        Group(name="own", shapes=OWN, optimizer=optimizer, options=options),
        Group(name="common", shapes=COMMON, optimizer=optimizer, options=options, deferred_to=ENDS),
    )
    return Layout(run="r", groups=groups, shards=shards)


def open_store(folder: Path | None = None, shards: int = 3, optimizer: str = "sgd") -> LocalStore:
    store = LocalStore(layout(shards, optimizer), folder)
    shapes = OWN | COMMON
    store.initialize({n: torch.linspace(-1, 1, torch.Size(shapes[n]).numel()).reshape(shapes[n]) for n in shapes})
    return store


def push(store: ParameterStore, client: str, sequence: int, names: tuple[str, ...] = ("stem", "head")) -> None:
    shapes = OWN | COMMON
    generator = torch.Generator().manual_seed(CLIENTS.index(client) + 10 * sequence)
    gradients = {name: torch.randn(shapes[name], generator=generator) for name in names}
    rates = {"common": 0.05 * sequence, "own": 0.2}
    store.push(
        Push(client=client, sequence=sequence, gradients=gradients, versions=store.pull([]).versions, rates=rates)
    )


def end_round(store: ParameterStore, number: int) -> None:
    store.push(Push(client=ENDS, sequence=number, gradients={}, versions=store.pull([]).versions))


def values(store: ParameterStore, names: Container[str] = COMMON) -> list[Tensor]:
    pulled = store.pull().values
    return [pulled[name] for name in OWN | COMMON if name in names]


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_round_ends_with_the_same_bits_in_whatever_order_its_pushes_came(optimizer: str) -> None:
    plain = LocalStore(Layout(run="r", groups=at_once(optimizer), shards=1))
    plain.initialize(open_store(optimizer=optimizer).pull().values)
    for client in CLIENTS:
        for sequence in (1, 2):
            push(plain, client, sequence)
    own_order = [[(client, 1), (client, 2)] for client in CLIENTS]
    orders = [order for order in itertools.permutations(itertools.chain(*own_order)) if _is_possible(order)]
    assert len(orders) == 90
    for shards, order in zip(itertools.cycle((1, 3, 11)), orders[::3], strict=False):
        store = open_store(shards=shards, optimizer=optimizer)
        before = values(store)
        for client, sequence in order:
            push(store, client, sequence)
        assert equal(values(store), before)
        end_round(store, 1)
        assert equal(values(store), values(plain)), order


def at_once(optimizer: str = "sgd") -> tuple[Group, ...]:
    return tuple(replace(group, deferred_to=None) for group in layout(optimizer=optimizer).groups)


def _is_possible(order: tuple[tuple[str, int], ...]) -> bool:
    """Whether each client's pushes come in the order of their numbers."""
    return all([n for c, n in order if c == client] == [1, 2] for client in CLIENTS)


def test_what_is_not_deferred_takes_its_step_at_once() -> None:
    store = open_store()
    before = values(store, OWN)
    push(store, "r.0", 1, ("a", "stem"))
    assert [torch.equal(x, y) for x, y in zip(values(store, OWN), before, strict=True)] == [False, True]
    versions = store.pull([]).versions
    end_round(store, 1)
    assert any(now > then for now, then in zip(store.pull([]).versions, versions, strict=True))


def test_a_push_and_the_end_of_a_round_count_once_however_often_they_come() -> None:
    store, twice = open_store(), open_store()
    for number in (1, 2):
        push(store, "r.0", number)
        end_round(store, number)
        for _ in range(2):
            push(twice, "r.0", number)
        for _ in range(2):
            end_round(twice, number)
    assert equal(values(store), values(twice))


@pytest.mark.parametrize("dies_after", range(5))
def test_an_open_round_survives_the_death_of_its_shards(tmp_path: Path, dies_after: int) -> None:
    undisturbed, store = open_store(), open_store(tmp_path)
    for place, (client, sequence) in enumerate([("r.10", 1), ("r.0", 1), ("r.10", 2), ("r.2", 1)]):
        if place == dies_after:
            store = open_store(tmp_path)
        push(undisturbed, client, sequence, ("a", "stem", "head"))
        push(store, client, sequence, ("a", "stem", "head"))
    if dies_after == 4:
        store = open_store(tmp_path)
    for one in (undisturbed, store):
        end_round(one, 1)
    assert equal(values(store, OWN | COMMON), values(undisturbed, OWN | COMMON))
    assert [status.pushes for status in store.status()] == [status.pushes for status in undisturbed.status()]


def test_the_layout_says_who_ends_rounds_and_an_older_one_keeps_its_fingerprint() -> None:
    deferred = layout()
    assert Layout.from_json(json.loads(json.dumps(deferred.to_json()))) == deferred
    plain = Layout(run="r", groups=at_once(), shards=3)
    assert "deferred_to" not in json.dumps(plain.to_json())
    assert plain.fingerprint != deferred.fingerprint


def test_a_deferred_group_takes_no_step_on_several_pushes() -> None:
    with pytest.raises(ValueError, match="`accumulate` of group 'common' must be 1 with `deferred_to`, got 2"):
        replace(layout().groups[1], accumulate=2)
    with pytest.raises(ValueError, match="`deferred_to` must be left out where `mode` is sync, got one in common"):
        Layout(run="r", groups=layout().groups, shards=1, consistency=Consistency(mode="sync", members=("c",)))
    with pytest.raises(ValueError, match="`client` must be 1 to 200 printable characters, got ''"):
        replace(layout().groups[1], deferred_to="")
