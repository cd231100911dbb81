"""What is asked of a ledger about attempts: those that failed, and those at one child."""

import sqlite3
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

# A child that crashes its process each time leaves attempts without a result: the last one stands for them.
FAILED = """
SELECT child, number, cause, coalesce(message, '') AS message, worker, started_at, ended_at, verdict
FROM attempts WHERE cause IS NOT NULL
UNION ALL
SELECT id, number, children.cause, json_extract(children.outcome, '$.failure.message'), worker,
    attempts.started_at, attempts.ended_at, 'outcome'
FROM children JOIN attempts ON child = id AND number = (SELECT max(number) FROM attempts WHERE child = id)
WHERE state = 'failed' AND NOT EXISTS (SELECT 1 FROM attempts WHERE child = id AND verdict = 'outcome')
"""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt that gave no metric.

    Attributes:
        child_id: the child.
        number: the attempt's number among those of the child, from 1.
        cause: a value of `child_trainer.outcome.Cause`.
        message: the error's complete text.
        worker: the process that trained the child.
        started_at, ended_at: Unix time.
        verdict: the consequence for the child, a value of `cluster.search.records.Verdict`.
    """

    child_id: int
    number: int
    cause: str
    message: str
    worker: str
    started_at: float
    ended_at: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


class ChildAttempt(NamedTuple):
    """An attempt at a known child; `ended_at` and `verdict` are `None` while it runs."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    verdict: str | None
    cause: str | None
    message: str | None


def failed_attempts(db: sqlite3.Connection, child_id: int | None = None, limit: int = -1) -> list[FailedAttempt]:
    """Return the failed attempts, the latest first: all, those at one child, or the latest so many."""
    one = "TRUE" if child_id is None else "child = :child"
    query = f"SELECT * FROM ({FAILED}) WHERE {one} ORDER BY ended_at DESC, child DESC, number DESC LIMIT :limit"
    return [FailedAttempt(*row) for row in db.execute(query, {"child": child_id, "limit": limit})]


def failed_attempts_by_cause(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many attempts failed, by cause, the most frequent one first."""
    return dict(db.execute(f"SELECT cause, count(*) FROM ({FAILED}) GROUP BY cause ORDER BY 2 DESC, 1"))


def attempts_by_verdict(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many attempts have ended, by verdict, the most frequent one first."""
    query = "SELECT verdict, count(*) FROM attempts WHERE verdict IS NOT NULL GROUP BY verdict ORDER BY 2 DESC"
    return dict(db.execute(query))


def attempts_at(db: sqlite3.Connection, child_id: int) -> list[ChildAttempt]:
    """Return the attempts at a child, the oldest first."""
    columns = "number, worker, started_at, ended_at, verdict, cause, message"
    rows = db.execute(f"SELECT {columns} FROM attempts WHERE child = ? ORDER BY number", (child_id,))
    return [ChildAttempt(*row) for row in rows]
