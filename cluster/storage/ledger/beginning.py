"""Writes the ledger of a run that goes on from the beginning of another one: a copy of that one's rows until then."""

import errno
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage.ledger.queries.continued import KEY, Continued, stored
from cluster.storage.ledger.queries.run import last_attempt, run_values
from cluster.storage.ledger.queries.status import first_sampled_at
from cluster.storage.ledger.rows import put
from cluster.storage.ledger.schema import migrate
from cluster.storage.run_folder import mark_begun

OF_OUTCOME = ("ended_at", "completion", "reward", "metric", "parameters", "flops", "seconds", "outcome", "cause")
"""What a child has only since it has ended, besides its state and the `batch_size` of its attempt."""

OF_LEARNING = ("learned_at", "pushed", "staleness", "figures", "pull_seconds", "push_seconds")
"""What a batch has only since it was learnt from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstRows:
    """The rows with which a run begins.

    Attributes:
        until: how many children had ended.
        batch_of: the batch's number of each child, by id; 0 if it is in none.
        batches: by replica and number.
        learned: those of the batches that were learnt from.
        continues: the runs that the new one goes on from.
        message: why the new run stands still until it is started.
    """

    until: int
    batch_of: Mapping[int, int]
    batches: Collection[tuple[int, int]]
    learned: Collection[tuple[int, int]]
    continues: tuple[Continued, ...]
    message: str


def write_beginning(path: Path, source: sqlite3.Connection, rows: FirstRows) -> None:
    """Write a new ledger, durably: the run in it has been stopped at the end of its beginning.

    A child that had not ended has no outcome and no attempts: it is trained in the new run.

    Args:
        path: of the new ledger.
        source: the other run's ledger.
        rows: of it.

    Raises:
        OSError: the new ledger cannot be written.
    """
    try:
        _write(path, source, rows)
    except sqlite3.OperationalError as error:  # not of the source, which was just read as a whole
        raise OSError(errno.EIO, str(error)) from error
    mark_begun(path)


def _write(path: Path, source: sqlite3.Connection, rows: FirstRows) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        migrate(db, str(path))
        db.execute("BEGIN IMMEDIATE")
        children = list(_children(source, rows))
        graphs = {child["graph"] for child in children}
        ended = {child["id"] for child in children if child["completion"] is not None}
        _insert(db, "architectures", (row for row in _rows(source, "architectures") if row["graph_id"] in graphs))
        _insert(db, "children", children)
        _insert(db, "attempts", (row for row in _rows(source, "attempts") if row["child"] in ended))
        _insert(db, "batches", _batches(source, rows))
        put(db, **_values(source, db, rows))
        db.execute("COMMIT")


def _rows(db: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    found = db.execute(f"SELECT * FROM {table} ORDER BY rowid")
    names = [column[0] for column in found.description]
    return (dict(zip(names, row, strict=True)) for row in found)


def _insert(db: sqlite3.Connection, table: str, rows: Collection[dict[str, Any]] | Iterator[dict[str, Any]]) -> None:
    names = [column[0] for column in db.execute(f"SELECT * FROM {table} LIMIT 0").description]
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    db.executemany(insert, ([row[name] for name in names] for row in rows))


def _children(source: sqlite3.Connection, rows: FirstRows) -> Iterator[dict[str, Any]]:
    for row in _rows(source, "children"):
        if row["id"] not in rows.batch_of:
            continue
        has_ended = row["completion"] is not None and row["completion"] <= rows.until
        open_again = {} if has_ended else dict.fromkeys((*OF_OUTCOME, "batch_size")) | {"state": "sampled"}
        yield row | open_again | {"batch": rows.batch_of[row["id"]]}


def _batches(source: sqlite3.Connection, rows: FirstRows) -> Iterator[dict[str, Any]]:
    for row in _rows(source, "batches"):
        place = row["replica"], row["number"]
        if place in rows.batches:
            yield row if place in rows.learned else row | dict.fromkeys(OF_LEARNING)


def _values(source: sqlite3.Connection, db: sqlite3.Connection, rows: FirstRows) -> dict[str, float | str]:
    """Return the new run's values: it has used the time until the last of the children had ended."""
    values = run_values(source)
    (now,) = db.execute("SELECT ended_at FROM children WHERE completion = ?", (rows.until,)).fetchone()
    before = values.get("seconds_before", 0.0)
    if now >= values["started_at"]:
        seconds = before + now - values["started_at"]
    else:  # of an earlier start: how long it paused before is not recorded
        seconds = min(before, now - (first_sampled_at(db) or now))
    kept = {name: values[name] for name in ("workers", "versions", "gpus") if name in values}
    return kept | {
        "state": "stopped",
        "message": rows.message,
        "started_at": now,
        "beat_at": now,
        "seconds_before": max(0.0, seconds),
        "attempts_before": last_attempt(db),
        KEY: stored(rows.continues),
    }
