"""What the run's log asks of a ledger: what has changed since it was read last."""

import json
import sqlite3
from typing import NamedTuple

from cluster.storage.ledger.queries.run import changed_rows


class AttemptEvent(NamedTuple):
    """An attempt that began or ended."""

    child: int
    replica: int
    number: int
    worker: str
    slot: int | None
    started_at: float
    ended_at: float | None
    verdict: str | None
    cause: str | None
    message: str | None


class ChildEvent(NamedTuple):
    """A child that ended."""

    child: int
    replica: int
    ended_at: float
    completion: int
    reward: float | None
    metric: float | None
    seconds: float | None
    cause: str | None
    message: str | None
    stopped: int | None
    reason: str | None


class PushEvent(NamedTuple):
    """A batch whose gradient was pushed; `staleness` is by shard, in versions."""

    replica: int
    batch: int
    learned_at: float
    staleness: list[int]
    seconds: float | None


def changed_attempts(db: sqlite3.Connection, since: int) -> list[AttemptEvent]:
    """Return the attempts that have changed since a revision, in the order in which they began."""
    query = f"""
    SELECT child, replica, number, worker, slot, started_at, attempts.ended_at, verdict, attempts.cause, message
    FROM attempts JOIN children ON id = child WHERE attempts.rowid IN ({changed_rows("attempts")}) ORDER BY started_at
    """
    return [AttemptEvent(*row) for row in db.execute(query, (since,))]


def ended_children(db: sqlite3.Connection, after: int) -> list[ChildEvent]:
    """Return the children that ended after the one with this completion number, in the order of their ends."""
    query = """
    SELECT id, replica, ended_at, completion, reward, metric, seconds, cause,
        json_extract(outcome, '$.failure.message'),
        json_extract(outcome, '$.stopped.epoch'), json_extract(outcome, '$.stopped.reason')
    FROM children WHERE completion > ? ORDER BY completion
    """
    return [ChildEvent(*row) for row in db.execute(query, (after,))]


def changed_pushes(db: sqlite3.Connection, since: int) -> list[PushEvent]:
    """Return the pushed batches that have changed since a revision, in the order in which they were learnt from."""
    query = f"""
    SELECT replica, number, learned_at, staleness, push_seconds FROM batches
    WHERE pushed = 1 AND staleness <> '[]' AND learned_at IS NOT NULL AND rowid IN ({changed_rows("batches")})
    ORDER BY learned_at
    """
    return [
        PushEvent(replica, number, learned_at, json.loads(staleness or "null") or [], seconds)
        for replica, number, learned_at, staleness, seconds in db.execute(query, (since,))
    ]
