"""Wherever the machine is lost, the object store has the weights that its copy of the ledger may need."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from shutil import rmtree
from typing import Any, BinaryIO

import pytest

import cluster.storage.object_store.mirror
from child_trainer.outcome import Outcome
from cluster.pool.child_weights import WeightsFolder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.object_store.ledger_segments import export
from cluster.storage.object_store.mirror import Mirror
from cluster.storage.object_store.restore import restore
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.cluster.storage.object_store.test_mirror import CONFIG, Died, Objects

CHILDREN, NEEDED, CHECKSUM = 40, 2, "0123456789abcdef"
"""Children of the search; how many of those that ended last others may begin with; the checksum of all."""

NETWORK = CONFIG.search_space.decode((0, 0, 0))


def needed(ledger: Path) -> list[int]:
    with closing(sqlite3.connect(ledger)) as db:
        query = "SELECT id FROM children WHERE completion IS NOT NULL ORDER BY completion DESC LIMIT ?"
        return [child for (child,) in db.execute(query, (NEEDED,))]


def unneeded(folder: RunFolder) -> frozenset[int]:
    with closing(sqlite3.connect(folder.ledger)) as db:
        ended = {child for (child,) in db.execute("SELECT id FROM children WHERE completion IS NOT NULL")}
    return frozenset(ended - set(needed(folder.ledger)))


class Live:
    """A search that goes on by one write at each call of `go_on`."""

    def __init__(self, path: Path) -> None:
        rmtree(path, ignore_errors=True)
        self.folder = RunFolder(path)
        self.folder.create(CONFIG)
        self.ledger = Ledger(self.folder.ledger, CONFIG.seed, CHILDREN, clock=lambda: 1000.0)
        self.ledger.begin(workers=1)
        self._steps = self._search()

    def _search(self) -> Iterator[None]:
        weights = WeightsFolder(self.folder.child_weights)
        for child in range(1, CHILDREN + 1):
            keeps = needed(self.folder.ledger)
            self.ledger.admit(0, child, [Proposal(tokens=(0, 0, 0), architecture=NETWORK)], (0,))
            yield
            weights.forget(set(range(1, child)) - set(keeps))
            yield
            weights.save(child, CHECKSUM, b"%d" % child)
            yield
            outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0, weights=CHECKSUM)
            self.ledger.finish(child, outcome, 0.5)
            yield

    def go_on(self, steps: int = 1) -> None:
        for _ in range(steps):
            next(self._steps, None)


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Live]]:
    """Begins the search anew; it also goes on when its ledger has been read, at times by a whole child and more.

    At other times no weights are removed meanwhile: then the ledger need not be read again.
    """
    searches: list[Live] = []
    steps: list[Iterator[int]] = []

    def begin() -> Live:
        for search in searches:
            search.ledger.close()
        searches[:], steps[:] = [Live(tmp_path / "run")], [cycle((5, 1, 2, 1))]
        searches[0].go_on(3)
        return searches[0]

    def moving_export(folder: RunFolder, after: int | None) -> Any:
        result = export(folder, after)
        searches[0].go_on(next(steps[0]))
        return result

    monkeypatch.setattr(cluster.storage.object_store.mirror, "export", moving_export)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    yield begin
    searches[0].ledger.close()


def mirror_of(search: Live, storage: Objects, merge_after: int = 3) -> Mirror:
    storage.on_call = search.go_on
    find = partial(unneeded, search.folder)
    return Mirror(storage, search.folder, 1, lambda: None, find, merge_after=merge_after)


def num_whole(objects: dict[str, bytes], path: Path) -> int:
    """How many children have the weights that the restored ledger needs: all of those it needs."""
    folder = RunFolder(path)
    rmtree(folder.path, ignore_errors=True)
    restore(Objects(objects), folder, with_files=True)
    if not folder.ledger.exists():
        return 0
    weights = WeightsFolder(folder.child_weights)
    for child in needed(folder.ledger):
        assert weights.load(child, CHECKSUM) == b"%d" % child, f"the weights of child {child} are lost"
    return len(needed(folder.ledger))


def test_no_weights_are_lost_at_any_call(live: Callable[[], Live], tmp_path: Path) -> None:
    found: list[int] = []
    for bad_call in range(1, 60, 3):
        storage = Objects(bad_call=bad_call, after=bad_call % 8 == 1)
        mirror = mirror_of(live(), storage)
        with suppress(Died):
            for _ in range(6):
                mirror.round()
        found.append(num_whole(storage.objects, tmp_path / "new"))
    assert found.count(NEEDED) > 5
    # The store does not keep what the search has removed.
    assert len([name for name in storage.objects if name.startswith("child-weights")]) <= 2 * NEEDED + 2


class Calls(Objects):
    """Tells what was written, also in calls that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def write(self, name: str, content: bytes) -> None:
        self.told.append(name)
        super().write(name, content)

    def write_file(self, name: str, file: BinaryIO) -> None:
        self.told.append(name)
        super().write_file(name, file)

    def dies_at(self, name: str, *, after: bool = False) -> None:
        """Have the call that writes this object fail, before it has an effect or after it."""
        act = self._call

        def call(effect: Callable[[], Any]) -> Any:
            dies = bool(self.told) and self.told[-1] == name
            if dies:
                self._call = act
            if dies and not after:
                raise Died
            result = act(effect)
            if dies:
                raise Died
            return result

        self._call = call


@pytest.mark.parametrize("after", [False, True])
def test_a_merged_segment_is_not_ahead_of_weights(live: Callable[[], Live], tmp_path: Path, after: bool) -> None:
    """Every round merges, and children end between the segment and the merged one; it dies at each call of a merge."""
    storage = Calls()
    mirror, rounds = mirror_of(live(), storage, merge_after=1), 3
    merges: list[range] = []
    for _ in range(rounds):
        mirror.round()
        written = [number for number, name in enumerate(storage.told) if name.startswith("ledger")]
        if len(written) > 1:  # the base is not merged
            merges.append(range(written[-2] + 1, written[-1] + 1))
    calls = [call for merge in merges for call in merge]
    assert sum(storage.told[call].startswith("child-weights") for call in calls) >= 2
    for call in calls:
        dying = Calls()
        mirror = mirror_of(live(), dying, merge_after=1)
        dying.dies_at(storage.told[call], after=after)
        with pytest.raises(Died):
            for _ in range(rounds):
                mirror.round()
        assert num_whole(dying.objects, tmp_path / "new") == NEEDED


def ended(live: Live, children: int, begin: int = 1) -> list[str]:
    """A search of which so many children have ended with weights, none of which were removed."""
    weights = WeightsFolder(live.folder.child_weights)
    for child in range(begin, children + 1):
        live.ledger.admit(0, child, [Proposal(tokens=(0, 0, 0), architecture=NETWORK)], (0,))
        weights.save(child, CHECKSUM, b"%d" % child)
        outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0, weights=CHECKSUM)
        live.ledger.finish(child, outcome, 0.5)
    return sorted(file.name for file in live.folder.child_weights.glob("child-*"))


def stored(storage: Objects) -> list[str]:
    return sorted(name.rpartition("/")[2] for name in storage.objects if name.startswith("child-weights"))


def test_only_weights_that_a_child_may_begin_with_are_written_and_each_once(tmp_path: Path) -> None:
    live, storage = Live(tmp_path / "run"), Calls()
    files = ended(live, 6)
    mirror = mirror_of(live, storage)
    storage.on_call = lambda: None
    storage.dies_at("ledger/000001/00000000.base.sqlite.gz")
    with pytest.raises(Died):
        mirror.round()
    assert stored(storage) == files[-NEEDED:]
    mirror.round()  # its name has another number
    mirror.round()
    assert [name.rpartition("/")[2] for name in storage.told if "child-weights" in name] == files[-NEEDED:]
    live.ledger.close()


@pytest.mark.parametrize("removed", [True, False])
def test_others_are_needed_when_the_ledger_has_been_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    live, storage, exports = Live(tmp_path / "run"), Objects(), 0
    ended(live, 3)

    def moving_export(folder: RunFolder, after: int | None) -> Any:
        nonlocal exports
        result, exports = export(folder, after), exports + 1
        if exports == 1:
            ended(live, 5, begin=4)
            WeightsFolder(folder.child_weights).forget({1, 2, 3} if removed else ())
        return result

    monkeypatch.setattr(cluster.storage.object_store.mirror, "export", moving_export)
    mirror = mirror_of(live, storage)
    storage.on_call = lambda: None
    mirror.round()
    assert exports == (2 if removed else 1)
    assert num_whole(storage.objects, tmp_path / "new") == NEEDED
    live.ledger.close()


def test_weights_that_are_lost_on_this_machine_stay_in_the_store(tmp_path: Path) -> None:
    live, storage = Live(tmp_path / "run"), Objects()
    files = ended(live, 3)
    mirror = mirror_of(live, storage)
    storage.on_call = lambda: None
    mirror.round()
    assert stored(storage) == files[-NEEDED:]
    (live.folder.child_weights / files[-1]).unlink()
    WeightsFolder(live.folder.child_weights).forget({2})
    for _ in range(3):
        mirror.round()
    assert stored(storage) == files[-NEEDED:]  # the ledger still needs both
    live.ledger.admit(0, 4, [Proposal(tokens=(0, 0, 0), architecture=NETWORK)], (0,))
    failed = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)
    live.ledger.finish(4, failed, 0.0)
    mirror.round()
    assert stored(storage) == files[-1:]
    live.ledger.close()


def test_more_weights_than_files_may_be_open_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.storage.object_store.mirror, "MAX_OPEN", 2)
    live, storage = Live(tmp_path / "run"), Calls()
    files = ended(live, 5)
    Mirror(storage, live.folder, 1, lambda: None).round()
    assert stored(storage) == files
    assert storage.told[-1].startswith("ledger")
    live.ledger.close()
