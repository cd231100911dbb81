"""Storage paths that cannot be meant, and runs that lie where they cannot be read as usual."""

import sqlite3
from pathlib import Path

import pytest

from cluster.config.locations import local_folder
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import existing_run, run_folder
from cluster.storage.ledger import reader


@pytest.mark.parametrize("path", ["", "  ", "gs:/bucket/runs", "s3:/x", "file:/tmp/runs", "~no-such-user-here/runs"])
def test_a_storage_path_that_cannot_be_meant_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="`storage_path` must be"):
        run_folder(path, "r")


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    assert local_folder(tmp_path / "at 12:30") == tmp_path / "at 12:30"


def test_downloaded_objects_are_named_with_the_url_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "down" / "r" / "ledger").mkdir(parents=True)
    (tmp_path / "down" / "r" / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match=f"--storage-path file://{tmp_path}/down"):
        existing_run(tmp_path / "down", "r")


@pytest.mark.parametrize("logged", [False, True])
def test_a_ledger_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    db = sqlite3.connect(ledger, isolation_level=None)
    db.execute("PRAGMA journal_mode = wal")
    db.execute("CREATE TABLE t (x)")
    db.execute("INSERT INTO t VALUES (7)")
    if not logged:
        db.close()
    connect = sqlite3.connect

    def refuse(place: object, **options: bool) -> sqlite3.Connection:
        if str(place).endswith("mode=ro"):  # root may write anywhere: this fails in the same way
            return connect(f"{(tmp_path / 'none').as_uri()}?mode=ro", uri=True)
        return connect(str(place), **options)

    monkeypatch.setattr(reader.sqlite3, "connect", refuse)
    with reader._connected(ledger) as found:
        assert found.execute("SELECT x FROM t").fetchall() == [(7,)]
