"""Small searches of digits that are finished, and what is in their folders."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from cluster.storage.ledger.queries.final_tests import final_tests
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from tests.command_line import nascluster

SEARCH = (
    *("launch", "digits", "--local", "--searcher", "random", "--replicas", "1", "--children", "3", "--epochs", "1"),
    *("--train-fraction", "0.2", "--num-filters", "4", "6", "8", "--max-children", "3", "--seed", "2"),
    *("--max-hours", "1", "--child-timeout", "60s", "--name", "search"),
)


WORDS = (
    *("--top", "2", "--seeds", "2", "--epochs", "2", "--batch-size", "128"),
    *("--grid", "learning-rate=.1,.02", "norm-epsilon=1e-3"),
)


class Interrupted:
    """A function whose calls of these numbers are interrupted, as by Ctrl-C."""

    def __init__(self, function: Callable[..., Any], at: tuple[int, ...]) -> None:
        self._function, self._at, self.calls = function, at, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls in self._at:
            raise KeyboardInterrupt
        return self._function(*arguments, **options)


def finish(place: Path, *words: object) -> int:
    return nascluster("finish", "search", "--storage-path", place, *(words or WORDS))


def rows(place: Path, name: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / name / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


def count(place: Path, name: str) -> list[tuple[Any, ...]]:
    return rows(place, name, "SELECT count(*) FROM children WHERE state = 'finished'")


def recorded_tests(place: Path) -> list[float]:
    with reading(RunFolder(place / "search-final")) as db:
        return [test.metric for test in final_tests(db).values()]


def change(place: Path, name: str, statement: str) -> None:
    with closing(sqlite3.connect(place / name / "ledger.sqlite")) as db, db:
        db.execute(statement)


def copied(finished: Path, place: Path) -> RunFolder:
    """Copy the finished search into a folder, and return its run of final trainings."""
    shutil.copytree(finished, place, dirs_exist_ok=True)
    return RunFolder(place / "search-final")


def without_tests(folder: RunFolder) -> RunFolder:
    """Forget the looks at the test images; return the folder."""
    with closing(sqlite3.connect(folder.ledger)) as db, db:
        db.execute("DELETE FROM run WHERE key LIKE 'test of child %'")
    return folder
