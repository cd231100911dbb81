"""Wherever the machine is lost, the object store has the weights that its copy of the ledger may need."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

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

CHILDREN, NEEDED, CHECKSUM = 14, 2, "0123456789abcdef"
"""Children of the search; how many of those that ended last others may begin with; the checksum of all."""

NETWORK = CONFIG.search_space.decode((0, 0, 0))


def needed(ledger: Path) -> list[int]:
    with closing(sqlite3.connect(ledger)) as db:
        query = "SELECT id FROM children WHERE completion IS NOT NULL ORDER BY completion DESC LIMIT ?"
        return [child for (child,) in db.execute(query, (NEEDED,))]


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


def test_no_weights_are_lost_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search also goes on, by a whole child and more, between the reading of its ledger and of its weights."""
    live = Live(tmp_path / "run")

    def moving_export(folder: RunFolder, after: int | None) -> Any:
        result = export(folder, after)
        live.go_on(5)
        return result

    monkeypatch.setattr(cluster.storage.object_store.mirror, "export", moving_export)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    found: list[int] = []
    for bad_call in range(1, 60, 3):
        live.ledger.close()
        live = Live(tmp_path / "run")
        live.go_on(3)
        storage = Objects(bad_call=bad_call, after=bad_call % 8 == 1)
        storage.on_call = live.go_on
        mirror = Mirror(storage, live.folder, 1, lambda: None, merge_after=3)
        with suppress(Died):
            for _ in range(6):
                mirror.round()
        folder = RunFolder(tmp_path / "new")
        rmtree(folder.path, ignore_errors=True)
        restore(Objects(storage.objects), folder, with_files=True)
        if not folder.ledger.exists():
            continue
        weights = WeightsFolder(folder.child_weights)
        for child in needed(folder.ledger):
            assert weights.load(child, CHECKSUM) == b"%d" % child, f"the weights of child {child} are lost"
        found.append(len(needed(folder.ledger)))
    live.ledger.close()
    assert found.count(NEEDED) > 5
    # The store does not keep what the search has removed.
    assert len([name for name in storage.objects if name.startswith("child-weights")]) <= 2 * NEEDED + 2
