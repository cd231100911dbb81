"""Leases of silent members, on one durable shard with a fake clock."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ps.consistency import Consistency
from ps.errors import NotDurable, StoreUnavailable, TooFarAhead
from ps.local import LocalStore
from ps.shard.durable_shard import DurableShard
from ps.shard.messages import ShardPush
from ps.shard.snapshot import SnapshotFile
from ps.store import Layout
from tests.clock import Clock
from tests.contracts.parameter_store import sgd_layout


def layout(mode: Any) -> Layout:
    return replace(sgd_layout(shards=1), consistency=Consistency(mode=mode, members=("a", "b"), lease_s=10))


def started(mode: str, clock: Clock, directory: Path | None, interval_s: float = 0.0) -> DurableShard:
    shard = DurableShard(layout(mode), 0, directory, interval_s, clock=clock)
    shard.initialize({"x": torch.zeros(10)})
    return shard


def push(shard: DurableShard, client: str, sequence: int = 1) -> int:
    part = ShardPush(client=client, sequence=sequence, gradients={"x": torch.ones(10)}, seen_version=0)
    return shard.push(part).version


def held_back(shard: DurableShard, client: str) -> bool:
    try:
        shard.pull([], [client])
    except TooFarAhead:
        return True
    return False


def test_a_silent_member_is_waited_for_until_its_lease_expires(tmp_path: Path):
    clock = Clock()
    shard = started("ssp", clock, tmp_path)
    push(shard, "a")
    clock.now += 9
    assert held_back(shard, "a")
    clock.now += 1
    assert not held_back(shard, "a")
    shard.renew_leases(["b", "stranger"])
    assert held_back(shard, "a"), "b has renewed its lease"
    for _ in range(5):
        clock.now += 8
        shard.renew_leases(["b"])
        assert held_back(shard, "a")
    clock.now += 10
    assert not held_back(shard, "b"), "a pull renews it, too"
    assert held_back(shard, "a")


def test_a_heartbeat_does_not_make_a_member_rejoin(tmp_path: Path):
    shard = started("ssp", Clock(), tmp_path)
    push(shard, "a")
    shard.leave("b")
    shard.renew_leases(["b"])
    assert not held_back(shard, "a")


def test_a_restart_renews_every_lease(tmp_path: Path):
    clock = Clock()
    shard = started("ssp", clock, tmp_path)
    push(shard, "a")
    clock.now += 10
    assert not held_back(shard, "a")
    shard = DurableShard(layout("ssp"), 0, tmp_path, clock=clock)
    assert held_back(shard, "a")
    clock.now += 10
    assert not held_back(shard, "a")


@pytest.mark.parametrize("client", ["a", None])
def test_a_round_that_ends_by_a_lease_is_on_disk_before_it_is_visible(tmp_path: Path, client: str | None):
    clock = Clock()
    shard = started("sync", clock, tmp_path)
    assert push(shard, "a") == 0
    clock.now += 10
    assert shard.pull(clients=[client]).version == 1
    resumed = DurableShard(layout("sync"), 0, tmp_path, clock=clock)
    assert resumed.pull().version == 1
    assert resumed.pull().values["x"][0] == -1


def test_a_round_whose_end_cannot_be_written_has_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    shard = started("sync", clock, tmp_path)
    push(shard, "a")
    clock.now += 10

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotFile, "write", full)
        with pytest.raises(NotDurable, match="No space left"):
            shard.pull(clients=["a"])
        with pytest.raises(NotDurable, match="No space left"):
            shard.leave("b")
        assert shard.status().version == 0
    assert shard.pull(clients=["a"]).version == 1
    assert push(shard, "b") == 1


def test_pulls_write_only_what_has_changed(tmp_path: Path):
    shard = started("ssp", Clock(), tmp_path)
    push(shard, "a")
    shard.leave("b")
    before = shard.status().writes
    for _ in range(3):
        shard.leave("b")
        shard.pull(clients=["a"])
        shard.renew_leases("ab")
    assert shard.status().writes == before
    shard.pull(clients=["b"])
    assert shard.status().writes == before + 1


def test_a_closed_shard_refuses_all_calls():
    shard = started("ssp", Clock(), None)
    shard.close()
    for call in (lambda: shard.renew_leases(["a"]), lambda: shard.leave("a"), lambda: shard.pull(clients=["a"])):
        with pytest.raises(StoreUnavailable, match="shard 0 is closed"):
            call()


def test_close_writes_membership_with_an_interval(tmp_path: Path):
    shard = started("ssp", Clock(), tmp_path, interval_s=3600)
    push(shard, "a")
    shard.leave("b")
    shard.close()
    resumed = DurableShard(layout("ssp"), 0, tmp_path, 3600, clock=Clock())
    assert not held_back(resumed, "a")
    resumed.close()


def test_while_writes_fail_reading_works_and_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    shard = started("sync", clock, tmp_path, interval_s=3600)
    push(shard, "a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotFile, "write", full)
        shard._write_if_dirty()
        clock.now += 10
        assert shard.pull().version == 0
        with pytest.raises(NotDurable, match="No space left"):
            shard.leave("b")
    shard._write_if_dirty()
    assert shard.pull().version == 1
    shard.close()


def test_leases_never_expire_in_a_local_store(monkeypatch: pytest.MonkeyPatch):
    short = replace(layout("ssp"), consistency=replace(layout("ssp").consistency, lease_s=1e-9))
    store = LocalStore(short)
    store.initialize({"x": torch.zeros(10)})
    push(store._shards[0], "a")
    with pytest.raises(TooFarAhead, match=r"waiting for 'b' \(0\)"):
        store.pull(client="a")
