from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.runners.on_ray.replica_store import ReplicaStore
from ps.errors import LostPushes
from ps.store import Ack, Layout, Push, Snapshot
from tests.contracts.consistency import DurableConsistencyContract
from tests.contracts.parameter_store import DurableStoreContract, OpenStore
from tests.ps.test_stores import grpc_stores

PUSH = Push(client="replica-0", sequence=1, gradients={}, versions=(0,))


class TestReplicaStore(DurableStoreContract, DurableConsistencyContract):
    """It follows the rules of every store."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        with grpc_stores(tmp_path) as open_grpc_store:

            def open_store(layout: Layout, **options: Any) -> ReplicaStore:
                store: Any = open_grpc_store(layout, **options)
                return ReplicaStore(store)

            yield open_store


class Called:
    """A store that counts calls; each call has a version of its own."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answers = True
        self.fails = False

    def _snapshot(self) -> Snapshot:
        version = self.calls.total()
        return Snapshot({"x": torch.tensor(float(version))}, (version,), (1,), (1,))

    def pull(self, names: Any = None, *, client: str | None = None) -> Snapshot:
        self.calls["pull"] += 1
        return self._snapshot()

    def push_and_pull(self, push: Push) -> tuple[Ack, Snapshot | None]:
        self.calls["push"] += 1
        if self.fails:
            raise LostPushes("a shard fell back")
        return Ack((push.sequence,), (1,), (0,), duplicate=False), self._snapshot() if self.answers else None

    def leave(self, client: str) -> None:
        self.calls["leave"] += 1


@pytest.fixture
def called() -> Called:
    return Called()


@pytest.fixture
def store(called: Any) -> ReplicaStore:
    return ReplicaStore(called)


def test_the_pull_after_a_push_needs_no_call_and_the_next_one_does(store: ReplicaStore, called: Called):
    assert store.pull(client="replica-0").versions == (1,)
    for sequence in (1, 2):
        called.calls.clear()
        store.push(replace(PUSH, sequence=sequence))
        assert store.pull(client="replica-0").versions == (1,)
        assert called.calls == {"push": 1}
        assert store.pull(client="replica-0").versions == (2,)


@pytest.mark.parametrize(
    ("names", "client"), [(None, "replica-1"), (None, None), (["x"], "replica-0")], ids=["another", "nobody", "a part"]
)
def test_a_pull_by_another_or_of_a_part_is_a_call_and_drops_what_was_known(
    store: ReplicaStore, called: Called, names: Any, client: Any
):
    store.push(PUSH)
    store.pull(names, client=client)
    store.pull(client="replica-0")
    assert called.calls == {"push": 1, "pull": 2}


def test_a_push_that_brought_nothing_or_failed_leaves_the_pull_to_be_made(store: ReplicaStore, called: Called):
    store.push(PUSH)
    called.answers = False
    store.push(replace(PUSH, sequence=2))
    assert store.pull(client="replica-0").versions == (3,)
    called.answers, called.fails = True, False
    store.push(replace(PUSH, sequence=3))
    called.fails = True
    with pytest.raises(LostPushes):
        store.push(replace(PUSH, sequence=4))
    store.pull(client="replica-0")
    assert called.calls == {"push": 4, "pull": 2}


def test_a_replica_that_has_left_gets_no_values_from_before(store: ReplicaStore, called: Called):
    store.push(PUSH)
    store.leave("replica-0")
    store.pull(client="replica-0")
    assert called.calls == {"push": 1, "leave": 1, "pull": 1}
