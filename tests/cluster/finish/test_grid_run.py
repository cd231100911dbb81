"""A grid search as a run: every combination once, over three replicas, also after a kill."""

import itertools
import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Proposal
from tests.command_line import nascluster

GRID = (
    *("launch", "synthetic", "--local", "--space", "settings", "--searcher", "grid", "--replicas", "3"),
    *("--children", "4", "--max-children", "100", "--name", "grid"),
)
"""3 x 3 x 2 x 2 combinations, and room for more."""

ALL = sorted(itertools.product([0], range(3), range(3), range(2), range(2), [0]))


def samples(place: Path) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(place / "grid" / "ledger.sqlite")) as db:
        return [tuple(json.loads(row[0])) for row in db.execute("SELECT tokens FROM children WHERE state = 'finished'")]


@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_each_combination_is_tried_once_and_a_kill_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batching: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    name = "admit" if batching == "barrier" else "add_children"
    method, recorded = getattr(Ledger, name), []

    def counting(self: Ledger, replica: int, *words: Any, **options: Any) -> Any:
        proposals: Sequence[Proposal] = next(word for word in words if isinstance(word, list))
        recorded.extend(proposals)
        if len(recorded) >= 17 and not killed.exists():  # as SIGKILL would leave it
            shutil.copytree(whole, killed)
        return method(self, replica, *words, **options)

    monkeypatch.setattr(Ledger, name, counting)
    assert nascluster(*GRID, "--batching", batching, "--storage-path", whole) == 0
    assert sorted(samples(whole)) == ALL
    assert 0 < len(samples(killed)) < 20
    assert nascluster("resume", "grid", "--storage-path", killed) == 0
    assert sorted(samples(killed)) == ALL
