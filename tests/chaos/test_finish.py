"""`nascluster finish` is killed again and again, and gives what it gives undisturbed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import nascluster
from tests.lengths import LONG

SEARCH = (
    *("launch", "digits", "--local", "--searcher", "random", "--replicas", "1", "--children", "3", "--epochs", "1"),
    *("--train-fraction", "0.2", "--num-filters", "4", "6", "8", "--max-children", "3", "--name", "search"),
)

FINISH = (
    *("finish", "search", "--top", "2", "--seeds", "2", "--epochs", "4", "--json"),
    *("--grid", "learning-rate=.1,.02"),
)

FIRST_S, STEP_S = 4.0, 0.3
"""Seconds to the first kill, and how much later each further start is killed."""

PATIENCE_S = 300.0


def attempt(place: Path, seconds: float) -> dict[str, Any] | None:
    """Return what the command prints but for its file's place, or `None` if it was killed after so many seconds."""
    words = [sys.executable, "-m", "cluster", *FINISH, "--storage-path", str(place)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    assert process.returncode == 0, err
    result = json.loads(out)
    assert Path(result.pop("file")).is_relative_to(place)
    return result


@pytest.mark.timeout(600)
@LONG
def test_a_finish_that_is_killed_again_and_again_gives_the_same(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert nascluster(*SEARCH, "--storage-path", whole) == 0
    shutil.copytree(whole, killed)
    undisturbed = attempt(whole, PATIENCE_S)
    kills, found = 0, None
    while found is None:
        found = attempt(killed, FIRST_S + STEP_S * kills)
        kills += 1
    print(f"{kills - 1} kills")
    assert kills > 3
    assert found == undisturbed
    for stage, children in (("grid", 4), ("final", 4)):
        with closing(sqlite3.connect(killed / f"search-{stage}" / "ledger.sqlite")) as db:
            query = "SELECT count(*), count(DISTINCT tokens), sum(state = 'finished') FROM children"
            assert db.execute(query).fetchall() == [(children, children, children)]
