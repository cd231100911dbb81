"""What several readers ask of a ledger: the run's values, counts, and how far its record has come."""

import json
import sqlite3
from typing import Any

from child_trainer.own_calls import is_finite_number
from cluster.storage.ledger.schema import KEPT_CHANGES


def run_values(db: sqlite3.Connection) -> dict[str, Any]:
    """Return the table `run`, or as much of it as the version that wrote it knew.

    It has the `state`, the `message`, `started_at` and `beat_at` of the last start, `workers`, `versions`, and what
    earlier starts add up to: `seconds_before`; and for ceilings `gpus`, which each child uses in the last start, or
    `gpus_reserved`, which each worker reserves where shares vary, and `attempt_seconds_before`, `gpu_seconds_before`
    and `attempts_before` of the earlier ones.
    """
    return dict(db.execute("SELECT key, value FROM run"))


def program_versions(db: sqlite3.Connection) -> tuple[dict[str, str], ...]:
    """Return the versions, by program, that the run was started with, in the order of its starts."""
    row = db.execute("SELECT value FROM run WHERE key = 'versions'").fetchone()
    return tuple(json.loads(row[0])) if row else ()


def num_children(db: sqlite3.Connection) -> int:
    """Return how many children were sampled."""
    return db.execute("SELECT count(*) FROM children").fetchone()[0]


def last_child(db: sqlite3.Connection) -> int:
    """Return the id of the child that was sampled last, 0 before the first."""
    return db.execute("SELECT coalesce(max(id), 0) FROM children").fetchone()[0]


def last_attempt(db: sqlite3.Connection) -> int:
    """Return the number of the attempt that began last, counted over the run, 0 before the first."""
    return db.execute("SELECT coalesce(max(attempt_id), 0) FROM attempts").fetchone()[0]


def last_completion(db: sqlite3.Connection) -> int:
    """Return how many children have ended."""
    return db.execute("SELECT coalesce(max(completion), 0) FROM children").fetchone()[0]


def last_revision(db: sqlite3.Connection) -> int:
    """Return the number of the record's last change."""
    return db.execute("SELECT coalesce(max(revision), 0) FROM changes").fetchone()[0]


def has_child(db: sqlite3.Connection, child_id: int) -> bool:
    """Return whether such a child was sampled."""
    return db.execute("SELECT 1 FROM children WHERE id = ?", (child_id,)).fetchone() is not None


def last_batches(db: sqlite3.Connection) -> dict[int, int]:
    """Return the number of each replica's last batch."""
    return dict(db.execute("SELECT replica, max(number) FROM batches GROUP BY replica"))


def last_steps(db: sqlite3.Connection, *, ended: bool = False) -> dict[tuple[int, int], int]:
    """Return the number of the last step that each lane's children were given, by the replica and the lane's number.

    With `ended` only children count that have ended well, and so have made all of theirs.
    """
    query = """
    SELECT replica, lane, max(steps_before + json_extract(job, '$.count')) FROM children
    WHERE lane IS NOT NULL AND (state = 'finished' OR NOT ?) GROUP BY replica, lane
    """
    return {(replica, lane): last for replica, lane, last in db.execute(query, (ended,))}


def shard_addresses(db: sqlite3.Connection) -> dict[tuple[str, int], str]:
    """Return where each shard is served, as host:port, by its store and its number."""
    rows = db.execute("SELECT store, shard, address FROM addresses ORDER BY store, shard")
    return {(store, shard): address for store, shard, address in rows}


def knows_changes(db: sqlite3.Connection, since: int) -> bool:
    """Return whether the ledger still has all changes since a revision; the oldest ones are forgotten."""
    return last_revision(db) - since < KEPT_CHANGES


def changed_rows(table: str) -> str:
    """Return the SQL of the row ids in a table that have changed since a revision, which is its one parameter."""
    # The plus keeps SQLite from the index by kind, in which it would look at every row.
    return f"SELECT row FROM changes WHERE +kind = '{table}' AND revision > ?"


def finite_figures(text: str | None) -> dict[str, float]:
    """Return a batch's figures; those that earlier versions recorded and that are no finite numbers are left out."""
    return {name: value for name, value in json.loads(text or "{}").items() if is_finite_number(value)}
