"""What the metrics ask of a ledger: rows that are new or have changed, so that a poll costs what has happened since."""

import json
import sqlite3
from typing import NamedTuple

from cluster.storage.ledger.queries.run import changed_rows, finite_figures
from cluster.storage.ledger.rows import IS_OTHER, ON_SHARED_WEIGHTS


class EndedChild(NamedTuple):
    """A child that has ended.

    Attributes:
        completion, state, cause, reward, metric, seconds, gpu_bytes, ended_at: of the child.
        epochs: the length of its curve.
        job: the kind of its job on shared weights; `None` if it was trained on its own.
        steps: how many steps its job has; `None` without steps.
        measurements: further numbers of its outcome, by name.
        stopped: whether its own training was stopped early; not of one that took the outcome of another.
    """

    completion: int
    state: str
    cause: str | None
    reward: float | None
    metric: float | None
    seconds: float
    epochs: int | None
    gpu_bytes: int | None
    ended_at: float
    job: str | None
    steps: int | None
    measurements: dict[str, float]
    stopped: bool


class AttemptTimes(NamedTuple):
    """An attempt, and when its child was sampled; `row` counts the attempts of the run from 1."""

    row: int
    number: int
    sampled_at: float
    started_at: float
    ended_at: float | None
    verdict: str | None
    cause: str | None
    is_other: bool
    """Whether it is made as one with another attempt, which is counted for all of them."""


class LearnedBatch(NamedTuple):
    """A batch that was learnt from."""

    learned_at: float
    pushed: bool
    staleness: list[int]
    figures: dict[str, float]
    pull_seconds: float | None
    push_seconds: float | None


class Recent(NamedTuple):
    """Means over the children that ended last: reward, share of distinct architectures, operations without joins."""

    reward: float | None
    distinct_ratio: float | None
    nodes: float | None


def ended_children(db: sqlite3.Connection, after: int) -> list[EndedChild]:
    """Return the children that ended after the one with this completion number, in the order of their ends."""
    query = f"""
    SELECT completion, state, cause, reward, metric, seconds,
        coalesce(json_array_length(outcome, '$.curve'), metric IS NOT NULL),
        json_extract(outcome, '$.gpu_bytes'), ended_at,
        iif({ON_SHARED_WEIGHTS}, json_extract(job, '$.kind'), NULL), json_extract(job, '$.count'),
        json_extract(outcome, '$.measurements'),
        same_as IS NULL AND json_extract(outcome, '$.stopped.epoch') IS NOT NULL
    FROM children WHERE completion > ? ORDER BY completion
    """
    return [
        EndedChild._make((*row, json.loads(measured or "{}"), bool(stopped)))
        for *row, measured, stopped in db.execute(query, (after,))
    ]


def changed_attempts(db: sqlite3.Connection, since: int | None) -> list[AttemptTimes]:
    """Return the attempts that have changed since a revision, in the order of their rows; all without a revision.

    Rows of a ledger of an earlier version are not among its changes.
    """
    where, values = _changed("attempts", since)
    query = f"""
    SELECT attempts.rowid, number, sampled_at, started_at, attempts.ended_at, verdict, attempts.cause, {IS_OTHER}
    FROM attempts JOIN children ON id = child WHERE {where} ORDER BY attempts.rowid
    """
    return [AttemptTimes(*row) for row in db.execute(query, values)]


def changed_batches(db: sqlite3.Connection, since: int | None) -> list[LearnedBatch]:
    """Return the learnt batches that have changed since a revision, the earliest first; all without a revision."""
    where, values = _changed("batches", since)
    query = f"""
    SELECT learned_at, pushed, staleness, figures, pull_seconds, push_seconds FROM batches
    WHERE learned_at IS NOT NULL AND {where} ORDER BY learned_at
    """
    return [
        LearnedBatch(at, bool(pushed), json.loads(stale or "null") or [], finite_figures(figures), *seconds)
        for at, pushed, stale, figures, *seconds in db.execute(query, values)
    ]


def recent_children(db: sqlite3.Connection, count: int) -> Recent:
    """Return means over the last so many children with an architecture that have ended."""
    query = """
    SELECT avg(reward), count(DISTINCT architecture_id) * 1.0 / count(*), avg(nodes)
    FROM (SELECT reward, architecture_id, nodes
        FROM children LEFT JOIN architectures ON graph_id = children.graph
        WHERE completion IS NOT NULL AND children.graph IS NOT NULL ORDER BY completion DESC LIMIT ?)
    """
    return Recent(*db.execute(query, (count,)).fetchone())


def _changed(table: str, since: int | None) -> tuple[str, tuple[int, ...]]:
    return ("TRUE", ()) if since is None else (f"{table}.rowid IN ({changed_rows(table)})", (since,))
