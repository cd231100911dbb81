"""Several shards of one process: each answers for itself, and small ones share a journal."""

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch

from ps.errors import NotDurable, ShapeMismatch, StoreUnavailable
from ps.shard import file_updates
from ps.shard.durable_shard import DurableShard
from ps.shard.journal import Content, Journal, journals, records
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.shard.shard import Shard
from ps.shard.shards import Shards
from ps.shard.snapshot import SnapshotFile
from tests.contracts.parameter_store import sgd_layout
from tests.waiting import until

LAYOUT = sgd_layout(shards=3, elements=9)

Start = Callable[..., Shards]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start shards, whose files are updated only when the test does it; one that is abandoned is as good as killed."""
    monkeypatch.setattr(file_updates, "INTERVAL_S", 3600.0)
    started: list[Shards] = []

    def start(directory: Path | None, interval_s: float = 0.0, *, journal: bool = True) -> Shards:
        shards = Shards(LAYOUT, range(3), directory, interval_s, journal=journal)
        for shard in shards.values():
            shard.initialize({"x": torch.zeros(3)})
        started.append(shards)
        return shards

    yield start
    for shards in started:
        if shards._file_updates is not None:
            shards._file_updates._closed.set()


def update_files(shards: Shards) -> None:
    assert shards._file_updates is not None
    shards._file_updates.update()


def pushes(client: str = "a", sequence: int = 1) -> dict[int, ShardPush]:
    push = ShardPush(client=client, sequence=sequence, gradients={"x": torch.ones(3)}, seen_version=0)
    return dict.fromkeys(range(3), push)


def versions(shards: Shards) -> list[int]:
    return [values.version for values in shards.pull(dict.fromkeys(shards)).values() if isinstance(values, ShardValues)]


def duplicates(acks: dict[int, Any]) -> list[bool]:
    return [ack.duplicate for ack in acks.values()]


class Disk:
    """Replaces `Journal.append`: records the shards of each write, can hold writes up, and can be full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.writes: list[list[int]] = []
        self.waits = threading.Event()
        self.open = threading.Event()
        self.open.set()
        real = Journal.append

        def append(journal: Journal, contents: Iterable[tuple[int, Content]]) -> None:
            written = list(contents)
            self.waits.set()
            assert self.open.wait(10)
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(journal, written)
            self.writes.append([shard for shard, _ in written])

        monkeypatch.setattr(Journal, "append", append)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_push_is_one_write_and_pushes_that_wait_share_the_next(tmp_path: Path, start: Start, disk: Disk):
    shards = start(tmp_path)
    disk.writes.clear()
    disk.open.clear()
    disk.waits.clear()
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(shards.push, pushes("first"))
        assert disk.waits.wait(10)
        others = [threads.submit(shards.push, pushes(f"c{number}")) for number in range(8)]
        reader = threads.submit(versions, shards)
        until(lambda: all(len(shard._queue) == 8 for shard in shards.values()), "all wait", timeout_s=10)
        assert not any(one.done() for one in (first, reader, *others))
        disk.open.set()
        wait([first, reader, *others], timeout=10)
    assert disk.writes == [[0, 1, 2]] * 2
    assert versions(shards) == [9, 9, 9]
    assert set(reader.result()) <= {1, 9}, "a reader sees a written state, never one in between"


def pulled(answer: tuple[Any, dict[int, Any] | None]) -> list[tuple[int, tuple[int, ...], float]]:
    """Return what each shard has given with its ack: its version, what it has applied, and its value."""
    return [(one.version, one.applied, one.values["x"][0].item()) for one in (answer[1] or {}).values()]


@pytest.mark.parametrize("leader", ["pulls", "does not pull"])
def test_pushes_that_share_a_commit_share_the_pull_after_it(
    tmp_path: Path, start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, leader: str
):
    shards = start(tmp_path)
    shards.push(pushes("c3", sequence=1))
    disk.writes.clear()
    disk.open.clear()
    disk.waits.clear()
    pulls: list[Any] = []
    pull = Shards._pull
    monkeypatch.setattr(
        Shards,
        "_pull",
        lambda self, names, clients, **more: pulls.append(clients) or pull(self, names, clients, **more),
    )
    with ThreadPoolExecutor(10) as threads:
        first: Any = (
            threads.submit(shards.push_and_pull, pushes("first"), "first")
            if leader == "pulls"
            else threads.submit(shards.push, pushes("first"))
        )
        assert disk.waits.wait(10)
        others = [threads.submit(shards.push_and_pull, pushes(f"c{n}", sequence=n), f"c{n}") for n in range(1, 9)]
        until(lambda: all(len(shard._queue) == 8 for shard in shards.values()), "all wait", timeout_s=10)
        assert not any(one.done() for one in (first, *others))
        disk.open.set()
        wait([first, *others], timeout=10)
    assert disk.writes == [[0, 1, 2]] * 2
    if leader == "pulls":
        assert pulled(first.result()) == [(2, (1,), -2.0)] * 3
        assert pulls.pop(0) == ["first"]
    assert [sorted(clients) for clients in pulls] == [[f"c{n}" for n in range(1, 9)]]
    for number, one in enumerate(others, start=1):
        assert len({ack.version for ack in one.result()[0].values()}) == 1
        assert pulled(one.result()) == [(10, (number,), -10.0)] * 3
    assert shards._pulling == []


def test_a_push_that_is_a_duplicate_or_failed_brings_no_values_and_nobody_waits_for_them(
    tmp_path: Path, start: Start, disk: Disk
):
    shards = start(tmp_path)
    assert pulled(shards.push_and_pull(pushes(), "a")) == [(1, (1,), -1.0)] * 3
    acks, values = shards.push_and_pull(pushes(), "a")
    assert (duplicates(acks), values) == ([True] * 3, None)
    mixed = pushes(sequence=2) | {1: ShardPush(client="a", sequence=2, gradients={"x": torch.ones(4)}, seen_version=0)}
    acks, values = shards.push_and_pull(mixed, "a")
    assert (type(acks[1]), values) == (ShapeMismatch, None)
    disk.full = True
    acks, values = shards.push_and_pull(pushes(sequence=3), "a")
    assert ([type(ack) for ack in acks.values()], values) == ([NotDurable] * 3, None)
    disk.full = False
    assert pulled(shards.push_and_pull(pushes(sequence=3), "a")) == [(3, (3,), -3.0), (2, (3,), -2.0), (3, (3,), -3.0)]
    assert shards._pulling == []


def test_an_error_that_is_not_the_shards_own_keeps_no_other_push_waiting(
    tmp_path: Path, start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
):
    shards = start(tmp_path)
    disk.open.clear()
    disk.waits.clear()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched, ThreadPoolExecutor(3) as threads:
        patched.setattr(Shards, "_pull", broken)
        first = threads.submit(shards.push_and_pull, pushes("first"), "first")
        assert disk.waits.wait(10)
        others = [threads.submit(shards.push_and_pull, pushes(client), client) for client in "ab"]
        until(lambda: all(len(shard._queue) == 2 for shard in shards.values()), "all wait", timeout_s=10)
        disk.open.set()
        wait([first, *others], timeout=10)
    assert isinstance(first.exception(), RuntimeError)
    failed = [one for one in others if one.exception()]
    assert len(failed) == 1
    assert all(pulled(one.result()) == [] for one in others if one not in failed)
    assert versions(shards) == [3, 3, 3]
    assert shards._pulling == []


def test_a_push_that_could_not_be_written_is_undone_on_all_shards(tmp_path: Path, start: Start, disk: Disk):
    shards = start(tmp_path)
    shards.push(pushes(sequence=1))
    disk.full = True
    for _ in range(2):
        refusals = shards.push(pushes(sequence=2)).values()
        assert [type(refusal) for refusal in refusals] == [NotDurable] * 3
        assert "shard 0 could not write" in str(next(iter(refusals)))
    assert versions(shards) == [1, 1, 1]
    disk.full = False
    assert duplicates(shards.push(pushes(sequence=2))) == [False] * 3
    assert versions(shards) == [2, 2, 2]
    resumed = start(tmp_path)
    assert versions(resumed) == [2, 2, 2]
    assert duplicates(resumed.push(pushes(sequence=2))) == [True] * 3


def test_without_a_journal_a_shard_that_could_not_be_written_refuses_alone(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
):
    shards = start(tmp_path, journal=False)
    assert not list(tmp_path.glob("*.journal"))
    shards.push(pushes(sequence=1))
    real, full = SnapshotFile.write, shards[1].disk

    def write(file: SnapshotFile, state: ShardState) -> None:
        if full is not None and file is full._file:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, state)

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotFile, "write", write)
        replies = shards.push(pushes(sequence=2))
    assert [type(reply) for reply in replies.values()] == [ShardAck, NotDurable, ShardAck]
    assert versions(shards) == [2, 1, 2]
    assert duplicates(shards.push(pushes(sequence=2))) == [True, False, True]
    assert versions(start(tmp_path, journal=False)) == [2, 2, 2]


def test_an_interrupt_at_the_close_of_one_shard_leaves_none_locked_and_nobody_waiting(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
):
    shards = start(tmp_path, journal=False)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DurableShard, "_record_order", interrupted)
        queued = shards._submit(pushes())
        with pytest.raises(KeyboardInterrupt):
            shards._handle_queues()
    assert [type(reply.exception(timeout=0)) for reply in queued.values()] == [NotDurable] * 3
    assert duplicates(shards.push(pushes())) == [True] * 3  # what was written stays written
    shards.close()


@pytest.mark.parametrize("journal", [True, False])
def test_an_error_in_a_step_refuses_the_push_on_all_shards_and_is_raised(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, *, journal: bool
):
    shards = start(tmp_path, journal=journal)

    def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "take_steps", staticmethod(fails))
        with pytest.raises(RuntimeError, match="a bug"):
            shards.push(pushes(sequence=1))
    assert versions(shards) == [0, 0, 0]
    assert duplicates(shards.push(pushes(sequence=1))) == [False] * 3


def test_a_bad_push_of_a_batch_is_refused_alone(tmp_path: Path, start: Start):
    shards = start(tmp_path)
    mixed = pushes() | {1: ShardPush(client="a", sequence=1, gradients={"x": torch.ones(4)}, seen_version=0)}
    acks = shards.push(mixed)
    assert [type(ack) for ack in acks.values()] == [ShardAck, ShapeMismatch, ShardAck]
    assert versions(shards) == versions(start(tmp_path)) == [1, 0, 1]


@pytest.mark.parametrize("updates", [(), (2,), (1, 3), (1, 2, 3, 4)])
def test_a_kill_loses_nothing_whenever_the_files_were_updated(tmp_path: Path, start: Start, updates: tuple[int, ...]):
    shards = start(tmp_path)
    for sequence in range(1, 5):
        shards.push(pushes(sequence=sequence))
        if sequence in updates:
            update_files(shards)
    shards[1].push(pushes(sequence=9)[1])  # to one of them alone
    resumed = start(tmp_path)
    assert versions(resumed) == [4, 5, 4]
    assert [status.incarnation for status in (shard.status() for shard in resumed.values())] == [2, 2, 2]
    assert duplicates(resumed.push(pushes(sequence=4))) == [True] * 3
    resumed.close()
    assert not list(tmp_path.glob("*.journal"))
    without = start(tmp_path, journal=False)
    assert versions(without) == [4, 5, 4]


@pytest.mark.parametrize("updated", [False, True])
def test_a_kill_within_an_update_of_the_files_loses_nothing(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, updated: bool
):
    """Shard 1's file could not be written: the journal keeps what it has, and takes what comes meanwhile."""
    shards = start(tmp_path)
    shards.push(pushes(sequence=1))
    real = SnapshotFile.write

    def write(file: SnapshotFile, state: ShardState) -> None:
        if file.path.stem == "shard-001":
            raise OSError(errno.EIO, "Input/output error")
        real(file, state)

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotFile, "write", write)
        for sequence in (2, 3):
            with pytest.raises(OSError, match="Input/output error"):
                update_files(shards)
            shards.push(pushes(sequence=sequence))
    if updated:
        update_files(shards)
        update_files(shards)
    assert versions(start(tmp_path)) == [3, 3, 3]


def test_a_file_is_written_by_one_thread_at_a_time_though_another_file_fails(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
):
    shards = start(tmp_path)
    shards.push(pushes())
    is_open, writing = threading.Event(), 0
    most: list[int] = []
    real = SnapshotFile.write

    def write(file: SnapshotFile, state: ShardState) -> None:
        nonlocal writing
        if file.path.stem == "shard-000":
            raise OSError(errno.EIO, "Input/output error")
        if file.path.stem == "shard-001":
            writing += 1
            most.append(writing)
            is_open.wait(10)
            writing -= 1
        real(file, state)

    monkeypatch.setattr(SnapshotFile, "write", write)
    opening = threading.Timer(0.5, is_open.set)
    opening.start()
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            update_files(shards)
    opening.join()
    assert max(most) == 1


def test_what_a_torn_write_left_is_no_state(tmp_path: Path, start: Start):
    shards = start(tmp_path)
    for sequence in (1, 2):
        shards.push(pushes(sequence=sequence))
    (path,) = [path for path in tmp_path.glob("*.journal") if path.stat().st_size]
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) * 3 // 4, 10, 0):
        path.write_bytes(whole[:size])
        states = [SnapshotFile(tmp_path, LAYOUT, index).read_all() for index in range(3)]
        known = [max(state.metadata["pushes"] for state in each.values()) for each in states]  # pyright: ignore
        assert known[2] == (1 if size > len(whole) / 2 else 0)
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert versions(start(tmp_path)) == [2, 2, 1]


def test_a_journal_replaces_a_corrupt_file(tmp_path: Path, start: Start):
    shards = start(tmp_path)
    shards.push(pushes(sequence=1))
    update_files(shards)
    shards.push(pushes(sequence=2))
    for path in tmp_path.glob("shard-000*.safetensors"):
        path.write_bytes(b"")
    resumed = start(tmp_path)
    assert versions(resumed) == [2, 2, 2]
    assert resumed[0].status().incarnation == 3, "the corrupt file may have been of an incarnation that is not known"


def test_an_old_journal_of_other_hosts_is_no_news(tmp_path: Path, start: Start):
    shards = start(tmp_path)
    shards.push(pushes(sequence=1))
    (path,) = [path for path in tmp_path.glob("*.journal") if path.stat().st_size]
    (tmp_path / "shards-002.a.journal").write_bytes(path.read_bytes())
    resumed = start(tmp_path)
    resumed.push(pushes(sequence=2))
    update_files(resumed)
    assert versions(start(tmp_path)) == [2, 2, 2]


def test_a_shorter_record_over_a_failed_one_hides_nothing(tmp_path: Path):
    journal = Journal(tmp_path, 0)
    journal.append([(0, [b"first"])])
    real, failing = os.fdatasync, True

    def fdatasync(file: int) -> None:
        if failing:
            raise OSError(errno.EIO, "Input/output error")
        real(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(OSError, match="Input/output"):
            journal.append([(0, [b"a long record that was refused"]), (1, [b"and another"])])
        failing = False
        journal.append([(1, [b"se", memoryview(b"cond")])])
    path = journals(tmp_path)[0]
    assert [list(records(path, shard)) for shard in (0, 1)] == [[b"first"], [b"second"]]
    journal.close(remove=True)
    assert journals(tmp_path) == []


def test_large_shards_and_shards_with_an_interval_have_no_journal(tmp_path: Path, start: Start):
    start(tmp_path / "interval", interval_s=3600).close()
    assert not list((tmp_path / "interval").glob("*.journal"))
    large = Shards(sgd_layout(shards=2, elements=5 * 2**20), range(2), tmp_path / "large", journal=True)
    assert not list((tmp_path / "large").glob("*.journal"))
    large.close()


def test_a_push_may_be_for_some_of_the_shards(tmp_path: Path, start: Start):
    shards = start(tmp_path)
    some = {index: push for index, push in pushes().items() if index != 1}
    assert list(shards.push(some)) == [0, 2]
    assert versions(shards) == [1, 0, 1]


def test_close_closes_every_shard_despite_a_failure(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch):
    shards = start(tmp_path, interval_s=3600)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SnapshotFile, "write", full)
    with pytest.raises(NotDurable):
        shards.close()
    for shard in shards.values():
        with pytest.raises(StoreUnavailable):
            shard.status()
    assert all(isinstance(ack, StoreUnavailable) for ack in shards.push(pushes()).values())


def test_closing_twice_is_allowed_and_later_pushes_are_refused(tmp_path: Path, start: Start):
    shards = start(tmp_path)
    shards.close()
    shards.close()
    assert all(isinstance(ack, StoreUnavailable) for ack in shards.push(pushes()).values())
