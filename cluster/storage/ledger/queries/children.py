"""What a listing asks of a ledger: every child, one after another however many there are."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cluster.storage.ledger.queries.front import COST_COLUMNS
from cluster.storage.ledger.queries.run import last_child


class ChildRow(NamedTuple):
    """One child as data.

    Attributes:
        child_id, state, replica, batch: of the child; batch 0 is none yet.
        reward, metric, parameters, flops, seconds: of its outcome.
        attempts: how many were begun.
        started_at: Unix time at which the first of them began.
        sampled_at, ended_at: Unix times.
        architecture_id: the canonical id; empty if it has no architecture.
        tokens: the decisions behind it, JSON.
        parent, other_parent: the children that it came from.
        change: what was changed in its parent.
        source: where its architecture is from, if that is another run.
        same_as: the child whose outcome it took.
        weights_of: the child with whose weights its training began.
        job: the kind of its job, if it was not trained from scratch.
        cause, message: why it failed.
        stopped, stop_reason, predicted: the epoch at which it was stopped early, why, and the metric predicted for its
            end; `None` if it was not.
        seed: of its training.
        latency_ms: of its network, if it was measured or is in a table.
    """

    child_id: int
    state: str
    replica: int
    batch: int
    reward: float | None
    metric: float | None
    parameters: int | None
    flops: int | None
    seconds: float | None
    attempts: int
    started_at: float | None
    sampled_at: float
    ended_at: float | None
    architecture_id: str
    tokens: str
    parent: int | None
    other_parent: int | None
    change: str | None
    source: str | None
    same_as: int | None
    weights_of: int | None
    job: str | None
    cause: str | None
    message: str | None
    stopped: int | None
    stop_reason: str | None
    predicted: float | None
    seed: int
    latency_ms: float | None


PAGE = 200
"""Children that are read at once."""


def all_children(db: sqlite3.Connection, between: Callable[[], object] = lambda: None) -> Iterator[ChildRow]:
    """Yield the children that there are now, in the order of sampling; few are in memory at once.

    Args:
        db: the ledger.
        between: called when some were read, before they are yielded: no query is open then.
    """
    query = """
    SELECT id, state, replica, batch, reward, metric, parameters, flops, seconds,
        (SELECT count(*) FROM attempts WHERE child = id), (SELECT min(started_at) FROM attempts WHERE child = id),
        sampled_at, ended_at, architecture_id, tokens,
        json_extract(notes, '$.parent'), json_extract(notes, '$.other_parent'), json_extract(notes, '$.change'),
        json_extract(notes, '$.source'), same_as, json_extract(job, '$.parent'), json_extract(job, '$.kind'),
        cause, iif(cause IS NULL, NULL, json_extract(outcome, '$.failure.message')),
        json_extract(outcome, '$.stopped.epoch'), json_extract(outcome, '$.stopped.reason'),
        json_extract(outcome, '$.stopped.predicted'), seed,
        {latency}
    FROM children WHERE id > ? AND id <= ? ORDER BY id LIMIT ?
    """.format(latency=COST_COLUMNS["latency"])
    last, after = last_child(db), 0
    while after < last:
        rows = db.execute(query, (after, last, PAGE)).fetchall()
        between()
        if not rows:
            return
        yield from (ChildRow(*row) for row in rows)
        after = rows[-1][0]
