"""`nascluster finish` on real Ray, whose driver is killed in each of its steps: it goes on as if it had not been."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.searches import finish, nascluster
from tests.lengths import LONG
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]

SEARCH = (
    *("launch", "digits", "--searcher", "random", "--replicas", "1", "--children", "3", "--epochs", "1"),
    *("--workers", "2", "--train-fraction", "0.2", "--num-filters", "4", "6", "8", "--max-children", "3"),
    *("--seed", "2", "--name", "search"),
)

FINISH = (
    *("finish", "search", "--top", "2", "--seeds", "2", "--epochs", "6", "--batch-size", "32", "--json"),
    *("--grid", "learning-rate=.1,.02"),
)

FINISHED = "SELECT id, metric, outcome, ended_at FROM children WHERE state = 'finished' ORDER BY id"
ATTEMPTS = "SELECT child, number, worker, started_at FROM attempts ORDER BY child, number"
TESTS = "SELECT key, value FROM run WHERE key LIKE 'test of child %' ORDER BY key"

KILLS = (
    ("search-grid", FINISHED, 1),
    ("search-grid", FINISHED, 3),
    ("search-final", FINISHED, 1),
    ("search-final", FINISHED, 3),
    ("search-final", TESTS, 1),
)
"""The driver is killed when a run's ledger answers with so many rows."""


def rows(storage: Path, run: str, query: str) -> list[tuple[Any, ...]]:
    """Return what a ledger answers; nothing while it is being made."""
    path = storage / run / "ledger.sqlite"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def recorded(storage: Path) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Return what is recorded of finished trainings, with all attempts at them, and of looks at the test data."""
    found: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for run in ("search-grid", "search-final"):
        attempts = rows(storage, run, ATTEMPTS)  # first: what is finished later has none too few
        for child, *training in rows(storage, run, FINISHED):
            if ours := tuple(row for row in attempts if row[0] == child):
                found[run, f"child {child}"] = (*training, ours)
        found |= {(run, key): (value,) for key, value in rows(storage, run, TESTS)}
    return found


@LONG
def test_a_driver_that_is_killed_in_each_step_trains_and_tests_nothing_again(cluster: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(nascluster(*SEARCH, "--storage-path", whole, address=cluster))
    shutil.copytree(whole, killed)
    undisturbed = said(whole, cluster)
    known: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for run, query, count in KILLS:
        driver = nascluster(*FINISH, "--storage-path", killed, address=cluster)
        what = f"the run {run} has {count} rows of: {query}"
        until(lambda r=run, q=query, n=count: len(rows(killed, r, q)) >= n, what, pause_s=0.002)
        before = recorded(killed)
        driver.kill()
        driver.communicate()
        assert {name: before[name] for name in known} == known
        known = before
        print(f"killed with {len(known)} trainings and looks recorded")
    assert said(killed, cluster) == undisturbed
    after = recorded(killed)
    assert {name: after[name] for name in known} == known
    assert sorted(name for _, name in after) == sorted(
        name
        for stage in (1, 2)
        for child in range(1, 5)
        for name in (f"child {child}", f"test of child {child}")[:stage]
    )


def said(storage: Path, address: str) -> dict[str, Any]:
    """Return what the command prints at its end, but for where the exported file is; it must be there."""
    process = nascluster(*FINISH, "--storage-path", storage, address=address)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert Path(result.pop("file")).is_relative_to(storage)
    return result
