"""What callbacks ask of a ledger: children that have ended since, and those in training."""

import sqlite3
from typing import Any, NamedTuple

from cluster.storage.ledger.compact import OUTCOME_COLUMNS, whole_outcome
from cluster.storage.ledger.graphs import unpack

COLUMNS = "id, replica, batch, architectures.graph, architecture_id, completion, sampled_at, ended_at, cause"
CHILDREN = "children JOIN architectures ON graph_id = children.graph"
"""Those with an architecture: callbacks do not see steps on shared weights."""


class TrialRow(NamedTuple):
    """A child in training or ended; `architecture` is the graph as JSON."""

    child_id: int
    replica: int
    batch: int
    architecture: dict[str, Any]
    architecture_id: str
    completion: int | None
    sampled_at: float
    ended_at: float | None
    cause: str | None


class ResultRow(NamedTuple):
    """What a child gave that has ended; `outcome` is that of `Outcome.to_json`."""

    reward: float | None
    metric: float | None
    parameters: int | None
    flops: int | None
    seconds: float
    outcome: dict[str, Any]


def next_ended(db: sqlite3.Connection, after: int, limit: int) -> list[tuple[TrialRow, ResultRow]]:
    """Return the next children, at most so many, that ended after the one with this completion number."""
    query = f"""
    SELECT {COLUMNS}, reward, metric, parameters, flops, seconds, {OUTCOME_COLUMNS}
    FROM {CHILDREN} WHERE completion > ? ORDER BY completion LIMIT ?
    """
    rows = db.execute(query, (after, limit))
    return [(_trial(row[:9]), ResultRow._make((*row[9:14], whole_outcome(*row[14:])))) for row in rows]


def in_training(db: sqlite3.Connection) -> list[TrialRow]:
    """Return the children that are in training, in the order of sampling."""
    return [_trial(row) for row in db.execute(f"SELECT {COLUMNS} FROM {CHILDREN} WHERE state = 'running' ORDER BY id")]


def _trial(row: Any) -> TrialRow:
    child_id, replica, batch, graph, *rest = row
    return TrialRow(child_id, replica, batch, unpack(graph), *rest)
