"""Ledgers of earlier versions are brought up to date; later ones are refused."""

import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cluster.config.run_config import RunConfig
from cluster.monitoring.status import read_status
from cluster.storage.ledger import compact, graphs
from cluster.storage.ledger.graphs import GraphTable, pack
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.ledger.schema import MIGRATIONS, RECORDED, TABLES, VERSION, LedgerVersionError, migrate
from cluster.storage.run_folder import RunFolder
from tests.golden_searches.searches import HERE, record

FAILURE = '{"curve": [], "seconds": 1, "parameters": null, "flops": null, "seed": 1,' + (
    ' "failure": {"cause": "crashed", "message": "why"}}'
)


@pytest.fixture
def old(tmp_path: Path) -> RunFolder:
    """A run's folder as version 1 left it: child 1 failed at its second attempt, child 2 was in training."""
    folder = RunFolder(tmp_path / "run")
    folder.create(RunConfig())
    db = sqlite3.connect(folder.ledger, isolation_level=None)
    db.executescript(TABLES + "PRAGMA user_version = 1; PRAGMA journal_mode = WAL;")
    child = (
        "INSERT INTO children (id, replica, batch, tokens, architecture, architecture_id, seed, state, sampled_at,"
        " completion, reward, cause, outcome) VALUES (?, 0, 1, '[]', '{}', '', 1, ?, 0, ?, ?, ?, ?)"
    )
    db.execute(child, (1, "failed", 1, 0.0, "crashed", FAILURE))
    db.execute(child, (2, "running", None, None, None, None))
    db.executemany(
        "INSERT INTO attempts VALUES (?, ?, ?, ?, 1, ?)",
        [(1, 1, "a", "k1", 2), (1, 2, "b", "k2", 3), (2, 1, "c", "k3", None)],
    )
    db.close()
    return folder


def test_a_version_that_there_never_was_is_damage(old: RunFolder) -> None:
    with closing(sqlite3.connect(old.ledger)) as db:
        db.execute("PRAGMA user_version = -1")
    with pytest.raises(LedgerVersionError, match=r"ledger\.sqlite is damaged: it has the ledger version -1"):
        Ledger(old.ledger, 0, 10)
    with pytest.raises(LedgerVersionError, match="is damaged"), reading(old):
        pass


ATTEMPTS = [
    (1, 1, "lost", None, None),
    (1, 2, "outcome", "crashed", "why"),
    (2, 1, None, None, None),
]


def test_a_ledger_of_version_1_is_brought_up_to_date(old: RunFolder) -> None:
    Ledger(old.ledger, 0, 10).close()
    db = sqlite3.connect(old.ledger)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert db.execute("SELECT child, number, verdict, cause, message FROM attempts").fetchall() == ATTEMPTS
    db.close()


def test_a_reader_understands_an_old_ledger_and_leaves_it_as_it_is(old: RunFolder) -> None:
    with reading(old) as db:
        assert db.execute("SELECT child, number, verdict, cause, message FROM attempts").fetchall() == ATTEMPTS
    assert read_status(old, 0.0).failed == 1
    raw = sqlite3.connect(old.ledger)
    assert raw.execute("PRAGMA user_version").fetchone() == (1,)
    raw.close()


def test_a_newer_ledger_is_refused_and_not_touched(old: RunFolder) -> None:
    raw = sqlite3.connect(old.ledger, isolation_level=None)
    raw.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(LedgerVersionError, match=f"version {VERSION + 1}, but this nascluster knows up to {VERSION}"):
        Ledger(old.ledger, 0, 10)
    with pytest.raises(LedgerVersionError, match=f"version {VERSION + 1}, but this"), reading(old) as db:
        db.execute("SELECT graph FROM children")  # which version 1 does not have: what a newer one has is not known
    assert raw.execute("SELECT count(*) FROM attempts").fetchone() == (3,)
    raw.close()


@pytest.mark.parametrize("start", range(VERSION))
def test_every_earlier_version_ends_with_the_same_tables(start: int) -> None:
    def tables(db: sqlite3.Connection) -> list[tuple[str, str]]:
        return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()

    new, old = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    migrate(new, "new")
    graphs.define_functions(old)
    compact.define_functions(old)
    for number in range(start):
        old.executescript(MIGRATIONS[number] + f"; PRAGMA user_version = {number + 1};")
    migrate(old, "old")
    assert tables(old) == tables(new)
    new.close()
    old.close()


def test_each_row_has_its_newest_change_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", 0, 10, clock=lambda: 0.0)
    ledger.begin(workers=1)
    for _ in range(3):
        ledger.beat()
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    found = db.execute("SELECT kind, row, count(*) FROM changes GROUP BY kind, row").fetchall()
    assert {kind for kind, _, _ in found} == {"run"}
    assert {times for _, _, times in found} == {1}
    assert len(found) == db.execute("SELECT count(*) FROM run").fetchone()[0]
    assert set(RECORDED) >= {kind for kind, _, _ in found}
    db.close()
    ledger.close()


VERSION_4 = HERE / "version-4"


@pytest.fixture(params=["synthetic-stream", "text-rnn", "digits-stopped"])
def version_4(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A run's folder with a ledger that has the graphs in the children's rows."""
    shutil.copytree(VERSION_4 / request.param, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_version_5_keeps_all_and_has_each_graph_once(version_4: RunFolder) -> None:
    before = record(version_4.path)
    Ledger(version_4.ledger, 0, 10).close()
    assert record(version_4.path) == before
    with closing(sqlite3.connect(version_4.ledger)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(children)")]
        keys = dict(db.execute("SELECT digest, graph_id FROM architectures").fetchall())
        assert "architecture" not in columns
        assert sorted(keys.values()) == [
            row[0] for row in db.execute("SELECT DISTINCT graph FROM children ORDER BY graph")
        ]
        for digest, nodes in db.execute("SELECT digest, nodes FROM architectures").fetchall():
            table = GraphTable(db)
            architecture = table.get(keys[digest])
            assert table.add(architecture) == keys[digest]  # what is sampled later is the same graph
            assert nodes == sum(node.op not in ("add", "concat") for node in architecture.nodes)
        assert len(keys) == db.execute("SELECT count(*) FROM architectures").fetchone()[0]


@pytest.mark.parametrize("dies_at", [1, 3])
def test_a_migration_that_dies_half_way_changes_nothing_and_is_done_by_the_next(
    dies_at: int, version_4: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = record(version_4.path), itertools.count(1)

    def dying(columns: str) -> bytes:
        if next(calls) == dies_at:
            raise ValueError("killed")
        return pack(columns)

    with monkeypatch.context() as patch:
        patch.setattr(graphs, "pack", dying)
        with closing(sqlite3.connect(version_4.ledger, isolation_level=None)) as db, pytest.raises(sqlite3.Error):
            migrate(db, "killed")
    with closing(sqlite3.connect(version_4.ledger)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (4,)
        assert "architecture" in [row[1] for row in db.execute("PRAGMA table_info(children)")]
    assert record(version_4.path) == before
    Ledger(version_4.ledger, 0, 10).close()
    assert record(version_4.path) == before


def test_a_file_of_version_4_that_may_not_be_written_is_read(version_4: RunFolder) -> None:
    content = version_4.ledger.read_bytes()
    version_4.ledger.chmod(0o444)
    version_4.path.chmod(0o555)
    try:
        status = read_status(version_4, 0.0)
        assert status.best is not None
        best = next(child for child in record(version_4.path)["children"] if child["id"] == status.best.child_id)
        assert status.best.architecture.id == best["architecture_id"]
    finally:
        version_4.path.chmod(0o755)
    assert version_4.ledger.read_bytes() == content
