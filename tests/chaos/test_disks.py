"""Disks that are full or read-only in the middle of things: real ones, mounted for the test."""

import itertools
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from child_trainer.outcome import Cause, Failure, Outcome
from cluster.search.records import BatchResult
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Proposal
from controller.spaces.convolutional import ConvolutionalSpace
from ps.errors import NotDurable
from ps.local import LocalStore
from ps.store import Push
from tests.chaos.script import assert_each_applied_once, pushes_of
from tests.clock import Clock
from tests.contracts.parameter_store import sgd_layout

PAGE = 4096
"""What a tmpfs gives out at a time, in bytes."""

MOUNT = shutil.which("mount")


@dataclass
class Disk:
    """A small file system of its own."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, pages_left: int = 0) -> None:
        """Take all of its space but a few pages."""
        self.free()
        until_done(lambda: self._allocate(pages_left), OSError)  # a writer may take some of the room before this does

    def _allocate(self, pages_left: int) -> None:
        room = os.statvfs(self.path).f_bavail * PAGE - pages_left * PAGE
        if room > 0:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, room)

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if MOUNT is None:
        pytest.skip("there is no program `mount` to make a small disk with")
    command = [MOUNT, "-t", "tmpfs", "-o", "size=8m", "tmpfs", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here (it takes root): {done.stderr.partition(chr(10))[0]}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


def image(folder: Path, to: Path) -> Path:
    """Copy what a crash at this moment would leave."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("ballast"))
    return to


LAYOUT = sgd_layout(elements=6_000, shards=2)


class Shards:
    """A store on the disk, and what a crash would leave of it after every push."""

    def __init__(self, disk: Disk, spare: Path) -> None:
        self._folder = disk.path / "shards"
        self._spare = spare
        self.store = LocalStore(LAYOUT, self._folder)
        self.store.initialize({"x": torch.zeros(6_000)})
        self.acked = 0

    def push(self, push: Push) -> None:
        self.store.push(push)
        self.acked = push.sequence
        self.assert_exactly_acked()

    def assert_exactly_acked(self) -> None:
        crashed = LocalStore(LAYOUT, image(self._folder, self._spare))
        assert_each_applied_once(crashed, LAYOUT, {"a": self.acked})
        assert_each_applied_once(self.store, LAYOUT, {"a": self.acked})


@pytest.mark.parametrize("pages_left", range(0, 4))
def test_a_disk_that_fills_up_under_a_shard(disk: Disk, tmp_path: Path, pages_left: int) -> None:
    """With a page or three left, a snapshot of four is cut in the middle."""
    shards = Shards(disk, tmp_path / "image")
    pushes = pushes_of(LAYOUT, "a", range(1, 9))
    for push in itertools.islice(pushes, 3):
        shards.push(push)
    disk.fill(pages_left)
    refused = next(pushes)
    for _ in range(2):
        with pytest.raises(
            NotDurable, match=rf"shard 0 could not write {disk.path}/shards/shard-000.safeten.*No space"
        ):
            shards.push(refused)
        shards.assert_exactly_acked()
    with pytest.raises(NotDurable, match=rf"cannot start from {disk.path}/shards/shard-000.safetensors: .*No space"):
        LocalStore(LAYOUT, disk.path / "shards")
    disk.free()
    for push in (refused, *pushes):
        shards.push(push)
    assert shards.acked == 8


def test_a_disk_with_room_for_one_shard_only(disk: Disk, tmp_path: Path) -> None:
    """The push is on the first shard and not on the second; sent again, it is applied where it is missing."""
    shards = Shards(disk, tmp_path / "image")
    first, second = pushes_of(LAYOUT, "a", range(1, 3))
    shards.push(first)
    (disk.path / "shards" / "shard-001.tmp").mkdir()  # in the way of the second shard's snapshot only
    with pytest.raises(NotDurable, match="shard 1 could not write"):
        shards.push(second)
    assert [status.pushes for status in shards.store.status()] == [2, 1]
    (disk.path / "shards" / "shard-001.tmp").rmdir()
    shards.push(second)


def test_a_disk_that_becomes_read_only_under_a_shard(disk: Disk, tmp_path: Path) -> None:
    shards = Shards(disk, tmp_path / "image")
    pushes = pushes_of(LAYOUT, "a", range(1, 7))
    for push in itertools.islice(pushes, 3):
        shards.push(push)
    disk.remount("ro")
    refused = next(pushes)
    for _ in range(2):
        with pytest.raises(NotDurable, match=rf"shard 0 could not write {disk.path}/shards/shard-000.*Read-only file"):
            shards.push(refused)
        shards.assert_exactly_acked()
    with pytest.raises(NotDurable, match=rf"cannot start from {disk.path}/shards/shard-000.*Read-only file system"):
        LocalStore(LAYOUT, disk.path / "shards")
    disk.remount("rw")
    for push in (refused, *pushes):
        shards.push(push)
    assert shards.acked == 6


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_bad_disk_under_shards_that_write_now_and_then(disk: Disk, how: str) -> None:
    """With an interval, pushes are acked before they are written, but not between a failed write and a good one."""
    folder = disk.path / "shards"
    store = LocalStore(LAYOUT, folder, snapshot_interval_s=0.02)
    store.initialize({"x": torch.zeros(6_000)})
    pushes = pushes_of(LAYOUT, "a", range(1, 10_000))
    for push in itertools.islice(pushes, 3):
        store.push(push)
    disk.fill() if how == "full" else until_done(lambda: disk.remount("ro"), subprocess.CalledProcessError)
    refused: list[Push] = []

    def push_on() -> None:
        for push in pushes:
            refused[:] = [push]
            store.push(push)
            time.sleep(0.002)

    with pytest.raises(
        NotDurable, match=r"could not write .*shards/shard-00\d.safetensors: .*(No space|Read-only file)"
    ):
        push_on()
    disk.free() if how == "full" else disk.remount("rw")
    until_done(lambda: store.push(refused[0]), NotDurable)
    sent = {"a": refused[0].sequence}
    assert_each_applied_once(store, LAYOUT, sent)
    store.close()
    assert_each_applied_once(LocalStore(LAYOUT, folder), LAYOUT, sent)


def until_done(act: Callable[[], object], refusal: type[Exception]) -> None:
    """Again and again, until it is not refused."""
    give_up = time.monotonic() + 10
    while True:
        try:
            act()
            return
        except refusal:
            assert time.monotonic() < give_up
            time.sleep(0.005)


SPACE = ConvolutionalSpace(initial_depth=1)

Operation = Callable[[Ledger], object]


def operations(batches: int) -> Iterator[Operation]:
    """Yield what one replica and its workers record: some thirty transactions a batch, small and large."""
    tokens = (0, 0, 0)
    proposals = [Proposal(tokens=tokens, architecture=SPACE.decode(tokens), log_prob=-1.5)] * 8
    for number in range(1, batches + 1):
        yield lambda ledger, number=number: ledger.admit(0, number, proposals, (number, number))
        for child in range(8 * number - 7, 8 * number + 1):
            yield lambda ledger, child=child: ledger.start(child, "worker-0", f"key-{child}")
            yield lambda ledger, child=child: ledger.finish(child, outcome(child), 0.125)
            yield lambda ledger: ledger.beat()
        yield lambda ledger, number=number: ledger.learned(0, number, BatchResult(staleness=(0, 1), figures={"b": 0.5}))


def outcome(child: int) -> Outcome:
    failure = Failure(cause=Cause.CRASHED, message="why " * 200) if child % 3 == 0 else None
    return Outcome(curve=(0.5,) * 20, seconds=2.0, parameters=10, flops=20, seed=child, failure=failure)


@dataclass
class Twins:
    """A ledger on the small disk, and one elsewhere that gets only what the first has recorded."""

    disk: Disk
    elsewhere: Path
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._path = self.disk.path / "run" / "ledger.sqlite"
        self._path.parent.mkdir()
        self.elsewhere.mkdir()
        self._twin = Ledger(self.elsewhere / "twin.sqlite", 3, 10_000, self.clock)
        self.open()
        self.do(lambda ledger: ledger.begin(workers=1))

    def open(self) -> None:
        self.ledger = Ledger(self._path, 3, 10_000, self.clock)

    def close(self) -> None:
        self.ledger.close()
        self._twin.close()

    def do(self, operation: Operation) -> None:
        self.clock.now += 1
        assert operation(self.ledger) == operation(self._twin)

    def assert_exactly_recorded(self) -> None:
        """A ledger opened after a crash, like the running one, has all calls that have returned, and nothing else."""
        crashed = image(self._path.parent, self.elsewhere / "image") / "ledger.sqlite"
        Ledger(crashed, 3, 10_000, self.clock).close()
        assert rows(crashed) == rows(self.elsewhere / "twin.sqlite")
        assert self.ledger.history() == self._twin.history()
        assert self.ledger.pending() == self._twin.pending()


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    db = sqlite3.connect(path)
    found = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    db.close()
    return found


TABLES = ("run", "children", "attempts", "batches")


@pytest.fixture
def twins(disk: Disk, tmp_path: Path) -> Iterator[Twins]:
    twins = Twins(disk, tmp_path / "elsewhere")
    yield twins
    twins.close()


@pytest.mark.parametrize("pages_left", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("before", [1, 9, 27])
def test_a_disk_that_fills_up_under_the_ledger(twins: Twins, pages_left: int, before: int) -> None:
    """Twice, and it goes on each time."""
    stream = operations(batches=12)
    for operation in itertools.islice(stream, before):
        twins.do(operation)
    for _ in range(2):
        twins.disk.fill(pages_left)
        refused = until_refused(twins, stream)
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match=r"database or disk is full|disk I/O error"):
                twins.do(refused)
        twins.assert_exactly_recorded()
        twins.disk.free()
        twins.do(refused)
        twins.assert_exactly_recorded()
    for operation in stream:
        twins.do(operation)
    twins.assert_exactly_recorded()


def until_refused(twins: Twins, stream: Iterator[Operation]) -> Operation:
    """Find the first operation for which there is no room any more."""
    for operation in stream:
        try:
            twins.do(operation)
        except sqlite3.OperationalError:
            twins.assert_exactly_recorded()
            return operation
    raise AssertionError("the disk never filled up")


def test_a_ledger_on_a_read_only_disk(twins: Twins) -> None:
    """`mount` refuses while a file on the disk is open for writing, so this is what a restart meets."""
    stream = operations(batches=2)
    for operation in itertools.islice(stream, 20):
        twins.do(operation)
    twins.ledger.close()
    twins.disk.remount("ro")
    with pytest.raises(sqlite3.OperationalError, match=r"readonly database|unable to open database file"):
        twins.open()
    twins.disk.remount("rw")
    twins.open()
    twins.assert_exactly_recorded()
    for operation in stream:
        twins.do(operation)
    twins.assert_exactly_recorded()
