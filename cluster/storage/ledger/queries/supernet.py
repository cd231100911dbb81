"""What the displays ask of a ledger about weights that children share: their training, and their shards' traffic."""

import sqlite3
from typing import NamedTuple

from cluster.storage.ledger.rows import ON_SHARED_WEIGHTS

RECENT_S = 60.0
"""Seconds before the last child's end over which bytes and calls are counted."""

_MEASURED = "json_extract(outcome, '$.measurements.{}')"

_BYTES = f"coalesce({_MEASURED.format('pulled_bytes')}, 0) + coalesce({_MEASURED.format('pushed_bytes')}, 0)"

_CALLS = f"coalesce({_MEASURED.format('pulls')}, 0) + coalesce({_MEASURED.format('pushes')}, 0)"


class SupernetTraining(NamedTuple):
    """The training of shared weights.

    Attributes:
        steps: how many the children that finished made.
        loss, accuracy, staleness: means over the last of these children: of the training, and of their pushes in
            versions; `None` where the ledger does not say.
        path_metric: mean validation accuracy, or perplexity, of the last paths that were scored, if there are any.
        bytes_per_s, calls_per_s: what the children that ended lately pulled and pushed.
    """

    steps: int
    loss: float | None
    accuracy: float | None
    staleness: float | None
    path_metric: float | None
    bytes_per_s: float
    calls_per_s: float


class SupernetSlice(NamedTuple):
    """Of the children with a job on shared weights that ended one after another: their means, `None` where unknown.

    Attributes:
        seconds: when the last of them ended, since the zero.
        loss, accuracy, staleness, path_metric: as in `SupernetTraining`.
        moved_bytes, calls: what all of them pulled and pushed.
    """

    seconds: float
    loss: float | None
    accuracy: float | None
    staleness: float | None
    path_metric: float | None
    moved_bytes: float
    calls: float


def supernet_training(db: sqlite3.Connection, last: int) -> SupernetTraining | None:
    """Return what the jobs on shared weights have given, with means over the last so many children.

    Returns:
        `None` if no child has made steps.
    """
    steps = _steps(db)
    if not steps:
        return None
    # By the index of `completion`: the last children are found without a look at all others.
    last_ended = "completion IS NOT NULL ORDER BY completion DESC"
    means = f"""
    SELECT {", ".join(f"avg({_MEASURED.format(name)})" for name in ("loss", "accuracy", "staleness"))}
    FROM (SELECT outcome FROM children WHERE lane IS NOT NULL AND +state = 'finished' AND {last_ended} LIMIT ?)
    """
    paths = f"""
    SELECT avg(metric)
    FROM (SELECT metric FROM children WHERE metric IS NOT NULL AND {ON_SHARED_WEIGHTS} AND {last_ended} LIMIT ?)
    """
    traffic = f"SELECT ended_at, {_BYTES}, {_CALLS} FROM children WHERE {ON_SHARED_WEIGHTS} AND {last_ended}"
    (began,) = db.execute("SELECT sampled_at FROM children ORDER BY id LIMIT 1").fetchone()
    newest = moved = calls = 0.0
    for ended_at, child_bytes, child_calls in db.execute(traffic):
        newest = newest or ended_at
        if ended_at <= newest - RECENT_S:
            break
        moved, calls = moved + child_bytes, calls + child_calls
    seconds = max(0.001, min(RECENT_S, newest - began))
    return SupernetTraining(
        steps,
        *db.execute(means, (last,)).fetchone(),
        *db.execute(paths, (last,)).fetchone(),
        bytes_per_s=moved / seconds,
        calls_per_s=calls / seconds,
    )


def _steps(db: sqlite3.Connection) -> int:
    """Return how many steps the children that finished made: all that were given, less those of the others."""
    given = """
    SELECT total(steps_before + json_extract(job, '$.count')) FROM children
    WHERE id IN (SELECT max(id) FROM children WHERE lane IS NOT NULL GROUP BY replica, lane)
    """
    others = """
    SELECT total(json_extract(job, '$.count')) FROM children
    WHERE state IN ('sampled', 'running', 'failed') AND lane IS NOT NULL
    """
    return int(db.execute(f"SELECT ({given}) - ({others})").fetchone()[0])


def supernet_slices(db: sqlite3.Connection, slices: int, zero: float) -> list[SupernetSlice]:
    """Return the ended children with a job on shared weights in at most so many equal slices, in completion order.

    Args:
        db: the ledger.
        slices: how many.
        zero: Unix time that a slice's seconds count from.
    """
    query = f"""
    SELECT max(ended_at) - {zero}, {
        ", ".join(
            f"avg(iif(lane IS NULL, NULL, {_MEASURED.format(name)}))" for name in ("loss", "accuracy", "staleness")
        )
    }, avg(iif(lane IS NULL, metric, NULL)), total({_BYTES}), total({_CALLS})
    FROM (
        SELECT *, (row_number() OVER (ORDER BY completion) - 1) * ? / max(?, count(*) OVER ()) AS slice
        FROM children WHERE {ON_SHARED_WEIGHTS} AND completion IS NOT NULL
    ) GROUP BY slice ORDER BY slice
    """
    return [SupernetSlice(*row) for row in db.execute(query, (slices, slices))]
