"""What the doctor asks of a ledger: whether the search makes progress."""

import sqlite3
from collections import Counter
from typing import NamedTuple

from cluster.search.records import key_of_all
from cluster.storage.ledger.compact import key_of


class OpenAttempt(NamedTuple):
    """An attempt that has begun, and has not ended; `fused` attempts are made as one, this one among them."""

    child_id: int
    number: int
    worker: str
    started_at: float
    fused: int


def last_attempt_end(db: sqlite3.Connection) -> float | None:
    """Return the Unix time at which an attempt ended last."""
    return db.execute("SELECT max(ended_at) FROM attempts WHERE verdict IS NOT NULL").fetchone()[0]


def last_states(db: sqlite3.Connection, count: int) -> list[str]:
    """Return the states of the last so many children that have ended, the latest first."""
    query = "SELECT state FROM children WHERE completion IS NOT NULL ORDER BY completion DESC LIMIT ?"
    return [state for (state,) in db.execute(query, (count,))]


def num_waiting(db: sqlite3.Connection) -> int:
    """Return how many children were sampled and wait for a worker."""
    return db.execute("SELECT count(*) FROM children WHERE state = 'sampled'").fetchone()[0]


def attempts_by_cause(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many attempts failed, by the cause that was recorded of them."""
    return dict(db.execute("SELECT cause, count(*) FROM attempts WHERE cause IS NOT NULL GROUP BY cause"))


def open_attempts(db: sqlite3.Connection) -> list[OpenAttempt]:
    """Return the attempts that have not ended, the oldest first."""
    query = "SELECT child, number, worker, started_at, key FROM attempts WHERE ended_at IS NULL ORDER BY started_at"
    rows = db.execute(query).fetchall()
    orders = [key_of_all(key_of(child, number, key)) for child, number, _, _, key in rows]
    fused = Counter(orders)
    return [
        OpenAttempt(child, number, worker, started_at, fused[order])
        for (child, number, worker, started_at, _), order in zip(rows, orders, strict=True)
    ]


def last_durations(db: sqlite3.Connection, count: int) -> list[float]:
    """Return the seconds of those so many attempts that gave an outcome and began last, the latest first."""
    query = "SELECT ended_at - started_at FROM attempts WHERE verdict = 'outcome' ORDER BY attempt_id DESC LIMIT ?"
    return [seconds for (seconds,) in db.execute(query, (count,))]
