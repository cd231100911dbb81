"""The ledger in segments, and made anew of them."""

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Outcome
from cluster.config.run_config import RunConfig
from cluster.search.records import BatchResult
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.schema import RECORDED, TABLES, VERSION, LedgerVersionError
from cluster.storage.object_store.ledger_segments import export, rebuild
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.contracts.evaluator import architecture
from tests.golden_searches.searches import HERE, record, recorded


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create(RunConfig())
    return folder


@pytest.fixture
def ledger(folder: RunFolder) -> Iterator[Ledger]:
    ledger = Ledger(folder.ledger, 0, 1000)
    ledger.begin(workers=1)
    yield ledger
    ledger.close()


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that is recorded, with the rows' ids."""
    with closing(sqlite3.connect(path)) as db:
        return {table: db.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall() for table in RECORDED}


def work(ledger: Ledger, batch: int) -> None:
    """Two children from sampling to learning."""
    proposals = [Proposal(tokens=(1, 2, 3), architecture=architecture(), log_prob=-0.1 / 3)] * 2
    admitted = ledger.admit(0, batch, proposals, (batch, batch))
    assert admitted is not None
    for child in admitted.children:
        ledger.start(child.id, "worker", key=f"key-{child.id}")
        ledger.finish(child.id, Outcome(curve=(0.1, 0.2), seconds=1 / 3, parameters=7, flops=9, seed=1), 0.2)
    ledger.learned(0, batch, BatchResult(staleness=(0, 1), figures={"baseline": 0.3}))


def history(folder: RunFolder, ledger: Ledger, batches: int) -> list[bytes]:
    """A base, and a segment for each batch."""
    base = export(folder, None)
    contents, upto = [base.content], base.upto
    for batch in range(1, batches + 1):
        work(ledger, batch)
        segment = export(folder, upto)
        contents.append(segment.content)
        upto = segment.upto
    return contents


def test_segments_rebuild_the_ledger(folder: RunFolder, ledger: Ledger, tmp_path: Path) -> None:
    contents = history(folder, ledger, 5)
    assert rebuild(tmp_path / "new.sqlite", contents) == 6
    assert rows(tmp_path / "new.sqlite") == rows(folder.ledger)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.sqlite", "run"]


def test_a_rebuilt_ledger_can_be_continued_and_exported(folder: RunFolder, ledger: Ledger, tmp_path: Path) -> None:
    again = RunFolder(tmp_path / "again")
    again.create(RunConfig())
    rebuild(again.ledger, history(folder, ledger, 2))
    successor = Ledger(again.ledger, 0, 1000)
    base = export(again, None)
    work(successor, 3)
    segment = export(again, base.upto)
    assert rebuild(tmp_path / "third.sqlite", [base.content, segment.content]) == 2
    assert rows(tmp_path / "third.sqlite") == rows(again.ledger)
    assert len(rows(again.ledger)["children"]) == 6
    successor.close()


def test_a_segment_has_the_changed_rows_only(folder: RunFolder, ledger: Ledger) -> None:
    base = export(folder, None)
    assert export(folder, base.upto).rows == 0
    ledger.beat()
    assert export(folder, base.upto).rows == 1
    work(ledger, 1)
    assert export(folder, base.upto).rows == 1 + 2 + 2 + 1 + 1  # the beat, children, attempts, a batch, their graph


def test_segments_after_a_missing_one_are_ignored(folder: RunFolder, ledger: Ledger, tmp_path: Path) -> None:
    contents = history(folder, ledger, 4)
    expected = tmp_path / "expected.sqlite"
    rebuild(expected, contents[:3])
    assert rebuild(tmp_path / "gap.sqlite", contents[:3] + contents[4:]) == 3
    assert rows(tmp_path / "gap.sqlite") == rows(expected)


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-1], lambda c: b"x" + c])
def test_segments_after_a_torn_one_are_ignored(damage: Any, folder: RunFolder, ledger: Ledger, tmp_path: Path) -> None:
    contents = history(folder, ledger, 4)
    expected = tmp_path / "expected.sqlite"
    rebuild(expected, contents[:3])
    contents[3] = damage(contents[3])
    assert rebuild(tmp_path / "torn.sqlite", contents) == 3
    assert rows(tmp_path / "torn.sqlite") == rows(expected)


def test_a_torn_segment_that_the_next_one_repeats_loses_nothing(
    folder: RunFolder, ledger: Ledger, tmp_path: Path
) -> None:
    """An upload that failed half-way is followed by one that holds its rows, too."""
    base = export(folder, None)
    work(ledger, 1)
    failed = export(folder, base.upto)
    work(ledger, 2)
    again = export(folder, base.upto)
    for first in (failed.content[:100], failed.content):
        path = tmp_path / f"{len(first)}.sqlite"
        assert rebuild(path, [base.content, first, again.content]) == 3
        assert rows(path) == rows(folder.ledger)


@pytest.mark.parametrize("content", [b"", b"torn", gzip.compress(b"no database", mtime=0)])
def test_without_a_whole_base_there_is_no_ledger(
    content: bytes, folder: RunFolder, ledger: Ledger, tmp_path: Path
) -> None:
    contents = history(folder, ledger, 2)
    assert rebuild(tmp_path / "new.sqlite", [content, *contents[1:]]) == 0
    assert rebuild(tmp_path / "other.sqlite", contents[1:]) == 0


def test_a_run_that_has_no_ledger_yet_has_a_base(folder: RunFolder, tmp_path: Path) -> None:
    base = export(folder, None)
    assert base.rows == 0
    ledger = Ledger(folder.ledger, 0, 1000)
    work(ledger, 1)
    segment = export(folder, base.upto)
    assert rebuild(tmp_path / "new.sqlite", [base.content, segment.content]) == 2
    assert rows(tmp_path / "new.sqlite") == rows(folder.ledger)
    ledger.close()


def test_a_ledger_of_an_earlier_version_is_exported_migrated(folder: RunFolder, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        db.executescript(TABLES + "PRAGMA user_version = 1; INSERT INTO run VALUES ('state', 'stopped');")
    base = export(folder, None)
    ledger = Ledger(folder.ledger, 0, 1000)
    work(ledger, 1)
    segment = export(folder, base.upto)
    assert rebuild(tmp_path / "new.sqlite", [base.content, segment.content]) == 2
    assert rows(tmp_path / "new.sqlite") == rows(folder.ledger)
    ledger.close()


def made_by(version: int, content: bytes, path: Path) -> bytes:
    """A segment as another version of this program would have marked it."""
    path.write_bytes(gzip.decompress(content))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE segment SET version = ?", (version,))
    return gzip.compress(path.read_bytes())


def test_a_segment_of_a_later_version_is_rejected(folder: RunFolder, ledger: Ledger, tmp_path: Path) -> None:
    later = made_by(VERSION + 1, export(folder, None).content, tmp_path / "later.sqlite")
    with pytest.raises(LedgerVersionError, match=f"the version {VERSION + 1}, but this nascluster reads at most"):
        rebuild(tmp_path / "new.sqlite", [later])


def test_a_base_of_an_earlier_version_is_migrated(tmp_path: Path) -> None:
    """As a newer program finds the objects that this one, or an older one, has written."""
    file = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.executescript(
            "CREATE TABLE run (row_, key, value); INSERT INTO run VALUES (3, 'state', 'stopped');"
            "CREATE TABLE attempts (row_, child, number, worker, key, started_at, ended_at);"
            "INSERT INTO attempts VALUES (5, 1, 1, 'a', 'k', 1, 2);"
            "CREATE TABLE segment (format, version, after, upto);"
            "INSERT INTO segment VALUES ('nascluster-ledger-1', 1, NULL, 0);"
        )
    assert rebuild(tmp_path / "new.sqlite", [gzip.compress(file.read_bytes())]) == 1
    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert db.execute("SELECT rowid, verdict FROM attempts").fetchall() == [(5, "lost")]
        assert db.execute("SELECT rowid, key, value FROM run").fetchall() == [(3, "state", "stopped")]


@pytest.mark.parametrize("name", ["synthetic-stream", "text-rnn"])
def test_a_base_with_the_graphs_in_the_childrens_rows_becomes_one_of_this_version(name: str, tmp_path: Path) -> None:
    ledger, file = HERE / "version-4" / name / "ledger.sqlite", tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("ATTACH ? AS run", (f"file:{ledger}?mode=ro",))
        for table in ("run", "children", "attempts", "batches"):
            db.execute(f"CREATE TABLE main.{table} AS SELECT rowid AS row_, * FROM run.{table}")
        db.execute("CREATE TABLE segment (format, version, after, upto)")
        db.execute("INSERT INTO segment VALUES ('nascluster-ledger-1', 4, NULL, 0)")
    (tmp_path / "new").mkdir()
    assert rebuild(tmp_path / "new" / "ledger.sqlite", [gzip.compress(file.read_bytes())]) == 1
    assert record(tmp_path / "new") in recorded(name)
