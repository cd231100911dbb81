"""Several shards of one process: each answers for itself."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import torch

from ps.errors import NotDurable, StoreUnavailable
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.shard.shards import Shards
from ps.shard.snapshot import SnapshotFile
from tests.contracts.parameter_store import sgd_layout
from tests.waiting import until

LAYOUT = sgd_layout(shards=3, elements=9)


class Disk:
    """Replaces `SnapshotFile.write`: counts the writes of each shard, and can be full or hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full: set[str] = set()
        self.writes: list[str] = []
        self.waiting: set[str] = set()
        self.open = threading.Event()
        self.open.set()
        real = SnapshotFile.write

        def write(file: SnapshotFile, state: ShardState) -> None:
            self.waiting.add(file.path.stem)
            assert self.open.wait(10)
            self.waiting.discard(file.path.stem)
            if file.path.stem in self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(file, state)
            self.writes.append(file.path.stem)

        monkeypatch.setattr(SnapshotFile, "write", write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def started(directory: Path | None, interval_s: float = 0.0) -> Shards:
    shards = Shards(LAYOUT, range(3), directory, interval_s)
    for shard in shards.values():
        shard.initialize({"x": torch.zeros(3)})
    return shards


def pushes(client: str = "a", sequence: int = 1) -> dict[int, ShardPush]:
    push = ShardPush(client=client, sequence=sequence, gradients={"x": torch.ones(3)}, seen_version=0)
    return dict.fromkeys(range(3), push)


def versions(shards: Shards) -> list[int]:
    return [values.version for values in shards.pull(dict.fromkeys(shards)).values() if isinstance(values, ShardValues)]


def test_one_shards_full_disk_is_its_own(tmp_path: Path, disk: Disk):
    shards = started(tmp_path)
    disk.full = {"shard-001"}
    acks = shards.push(pushes())
    assert [type(ack) for ack in acks.values()] == [ShardAck, NotDurable, ShardAck]
    assert versions(shards) == [1, 0, 1]
    disk.full = set()
    acks = shards.push(pushes())
    assert [ack.duplicate for ack in acks.values() if isinstance(ack, ShardAck)] == [True, False, True]
    assert versions(shards) == [1, 1, 1]
    shards.close()


def test_shards_write_at_the_same_time_and_pushes_that_wait_share_each_write(tmp_path: Path, disk: Disk):
    shards = started(tmp_path)
    disk.writes.clear()
    disk.open.clear()
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(shards.push, pushes("first"))
        until(lambda: len(disk.waiting) == 3, "all shards write", timeout_s=10)
        others = [threads.submit(shards.push, pushes(f"c{number}")) for number in range(8)]
        until(lambda: all(len(shard._queue) == 8 for shard in shards.values()), "all wait", timeout_s=10)
        assert not first.done()
        disk.open.set()
        wait([first, *others], timeout=10)
    assert sorted(disk.writes) == sorted(f"shard-00{index}" for index in range(3) for _ in range(2))
    assert versions(shards) == [9, 9, 9]
    shards.close()


def test_a_push_may_be_for_some_of_the_shards(tmp_path: Path):
    shards = started(tmp_path)
    some = {index: push for index, push in pushes().items() if index != 1}
    assert list(shards.push(some)) == [0, 2]
    assert versions(shards) == [1, 0, 1]
    shards.close()


def test_close_closes_every_shard_despite_a_failure(tmp_path: Path, disk: Disk):
    shards = started(tmp_path, interval_s=3600)
    disk.full = {"shard-000", "shard-001", "shard-002"}
    with pytest.raises(NotDurable):
        shards.close()
    for shard in shards.values():
        with pytest.raises(StoreUnavailable):
            shard.status()
    assert all(isinstance(ack, StoreUnavailable) for ack in shards.push(pushes()).values())
