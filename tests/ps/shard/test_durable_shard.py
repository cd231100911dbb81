import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import torch

from ps.errors import NotDurable, ShapeMismatch, StoreUnavailable
from ps.shard.durable_shard import DurableShard
from ps.shard.shard import ShardPush, ShardState
from ps.shard.snapshot import SnapshotFile
from tests.contracts.parameter_store import sgd_layout
from tests.waiting import until

LAYOUT = sgd_layout(shards=1)


class Disk:
    """Replaces `SnapshotFile.write`: records writes, can block one, and can be full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.written: list[ShardState] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self.open.set()
        real = SnapshotFile.write

        def write(file: SnapshotFile, state: ShardState) -> None:
            self.entered.set()
            assert self.open.wait(10)
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(file, state)
            self.written.append(state)

        monkeypatch.setattr(SnapshotFile, "write", write)

    def hold(self) -> None:
        self.open.clear()
        self.entered.clear()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def started(directory: Path | None, interval_s: float = 0.0) -> DurableShard:
    shard = DurableShard(LAYOUT, 0, directory, interval_s)
    shard.initialize({"x": torch.zeros(10)})
    return shard


def push(client: str = "a", sequence: int = 1, size: int = 10) -> ShardPush:
    return ShardPush(client=client, sequence=sequence, gradients={"x": torch.ones(size)}, seen_version=0)


def value(shard: DurableShard) -> float:
    return shard.pull().values["x"][0].item()


def test_queued_pushes_share_one_write_and_none_is_acked_before_it(tmp_path: Path, disk: Disk):
    shard = started(tmp_path)
    before = len(disk.written)
    disk.hold()
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(shard.push, push("first"))
        assert disk.entered.wait(10)
        others = [pool.submit(shard.push, push(f"c{n}")) for n in range(8)]
        bad = pool.submit(shard.push, push("bad", size=3))
        reader = pool.submit(value, shard)
        until(lambda: len(shard._queue) == 9, timeout_s=10)
        time.sleep(0.05)
        assert not any(future.done() for future in [first, bad, reader, *others])
        disk.open.set()
        wait([first, bad, reader, *others], timeout=10)
        assert [future.result().duplicate for future in [first, *others]] == [False] * 9
        with pytest.raises(ShapeMismatch):
            bad.result()
    assert len(disk.written) == before + 2
    assert disk.written[-1].metadata["pushes"] == 9
    assert reader.result() in (-1.0, -9.0), "a reader sees a written state, never one in between"
    assert shard.status().writes == len(disk.written)


def test_a_duplicate_is_acked_without_a_write(tmp_path: Path, disk: Disk):
    shard = started(tmp_path)
    shard.push(push())
    written = len(disk.written)
    assert shard.push(push()).duplicate
    assert len(disk.written) == written


def test_a_push_that_could_not_be_written_is_undone(tmp_path: Path, disk: Disk):
    shard = started(tmp_path)
    shard.push(push(sequence=1))
    disk.full = True
    for _ in range(2):
        with pytest.raises(NotDurable, match=r"shard 0 could not write .*shard-000.safetensors: .*No space left"):
            shard.push(push(sequence=2))
    assert value(shard) == -1.0
    assert shard.status().pushes == 1
    disk.full = False
    assert not shard.push(push(sequence=2)).duplicate
    assert value(shard) == -2.0
    resumed = DurableShard(LAYOUT, 0, tmp_path)
    assert value(resumed) == -2.0
    assert resumed.push(push(sequence=2)).duplicate


def test_a_failed_write_fails_the_whole_batch(tmp_path: Path, disk: Disk):
    shard = started(tmp_path)
    disk.hold()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(shard.push, push("first"))
        assert disk.entered.wait(10)
        others = [pool.submit(shard.push, push(f"c{n}")) for n in range(4)]
        until(lambda: len(shard._queue) == 4, timeout_s=10)
        disk.full = True
        disk.open.set()
        for future in [first, *others]:
            with pytest.raises(NotDurable):
                future.result(10)
    assert value(shard) == 0.0


def test_a_push_whose_write_failed_late_is_not_applied_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shard = started(tmp_path)
    real = SnapshotFile.write

    def fails_late(file: SnapshotFile, state: ShardState) -> None:
        real(file, state)
        raise OSError(errno.EIO, "directory sync failed")

    monkeypatch.setattr(SnapshotFile, "write", fails_late)
    with pytest.raises(NotDurable, match="directory sync failed"):
        shard.push(push())
    assert value(shard) == 0.0
    monkeypatch.setattr(SnapshotFile, "write", real)
    resumed = DurableShard(LAYOUT, 0, tmp_path)
    assert resumed.push(push()).duplicate
    assert value(resumed) == -1.0


def test_a_failed_initialize_leaves_the_shard_without_values(tmp_path: Path, disk: Disk):
    shard = DurableShard(LAYOUT, 0, tmp_path)
    disk.full = True
    with pytest.raises(NotDurable):
        shard.initialize({"x": torch.zeros(10)})
    assert not shard.status().initialized
    disk.full = False
    shard.initialize({"x": torch.ones(10)})
    assert value(shard) == 1.0


def test_an_unwritable_directory_is_reported_at_the_start(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotDurable, match="cannot start from"):
        DurableShard(LAYOUT, 0, tmp_path / "file" / "below")


def test_an_unexpected_error_leaves_no_push_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shard = started(tmp_path)
    monkeypatch.setattr(SnapshotFile, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shard.push(push())
    monkeypatch.undo()
    assert not shard.push(push()).duplicate
    assert value(shard) == -1.0


def test_an_interval_acks_at_once_and_writes_later(tmp_path: Path, disk: Disk):
    shard = started(tmp_path, interval_s=3600)
    for sequence in range(1, 6):
        shard.push(push(sequence=sequence))
    assert len(disk.written) == 1, "only the start was written"
    assert DurableShard(LAYOUT, 0, tmp_path).status().pushes == 0
    shard.close()
    assert disk.written[-1].metadata["pushes"] == 5


def test_an_interval_writes_by_itself(tmp_path: Path, disk: Disk):
    shard = started(tmp_path, interval_s=0.02)
    shard.push(push())
    until(lambda: disk.written[-1].metadata["pushes"] == 1, timeout_s=10)
    written = len(disk.written)
    time.sleep(0.1)
    assert len(disk.written) == written, "nothing has changed, so nothing is written"
    shard.close()


def test_an_interval_that_cannot_be_kept_refuses_pushes_until_a_write_succeeds(tmp_path: Path, disk: Disk):
    shard = started(tmp_path, interval_s=0.02)
    until(lambda: len(disk.written) == 2, timeout_s=10)
    disk.full = True
    shard.push(push(sequence=1))  # acked, and to be written within the interval
    until(lambda: shard._failure is not None, timeout_s=10)
    with pytest.raises(NotDurable, match="No space left"):
        shard.push(push(sequence=2))
    disk.full = False
    until(lambda: shard._failure is None, timeout_s=10)
    assert disk.written[-1].metadata["pushes"] == 1
    assert not shard.push(push(sequence=2)).duplicate
    shard.close()


def test_close_raises_if_the_last_write_failed(tmp_path: Path, disk: Disk):
    shard = started(tmp_path, interval_s=3600)
    disk.full = True
    with pytest.raises(NotDurable, match="No space left"):
        shard.close()
    with pytest.raises(StoreUnavailable, match="shard 0 is closed"):
        shard.push(push())


@pytest.mark.parametrize("interval_s", [-1.0, float("nan")])
def test_an_interval_must_be_a_time(interval_s: float):
    with pytest.raises(ValueError, match="`snapshot_interval_s` must be 0 or more"):
        DurableShard(LAYOUT, 0, None, interval_s)
