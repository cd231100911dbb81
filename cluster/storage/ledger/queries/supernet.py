"""What the displays ask of a ledger about weights that children share: their training, and their shards' traffic."""

import sqlite3
from typing import NamedTuple

from cluster.storage.ledger.rows import ON_SHARED_WEIGHTS

RECENT_S = 60.0
"""Seconds before the last child's end over which bytes and calls are counted."""

_MEASURED = "json_extract(outcome, '$.measurements.{}')"

_BYTES = f"coalesce({_MEASURED.format('pulled_bytes')}, 0) + coalesce({_MEASURED.format('pushed_bytes')}, 0)"

_CALLS = f"coalesce({_MEASURED.format('pulls')}, 0) + coalesce({_MEASURED.format('pushes')}, 0)"

_TRAINED = "lane IS NOT NULL AND state = 'finished'"
"""The children that made steps on the weights."""

_SCORED = f"{ON_SHARED_WEIGHTS} AND metric IS NOT NULL"
"""The children whose path was scored with the weights."""


class SupernetTraining(NamedTuple):
    """The training of shared weights.

    Attributes:
        steps: how many the children that finished made.
        loss, accuracy, staleness: means over the last of these children: of the training, and of their pushes in
            versions; `None` where the ledger does not say.
        path_accuracy: mean validation accuracy of the last paths that were scored, if there are any.
        bytes_per_s, calls_per_s: what the children that ended lately pulled and pushed.
    """

    steps: int
    loss: float | None
    accuracy: float | None
    staleness: float | None
    path_accuracy: float | None
    bytes_per_s: float
    calls_per_s: float


class SupernetSlice(NamedTuple):
    """Of the children with a job on shared weights that ended one after another: their means, `None` where unknown.

    Attributes:
        seconds: when the last of them ended, since the zero.
        loss, accuracy, staleness, path_accuracy: as in `SupernetTraining`.
        moved_bytes, calls: what all of them pulled and pushed.
    """

    seconds: float
    loss: float | None
    accuracy: float | None
    staleness: float | None
    path_accuracy: float | None
    moved_bytes: float
    calls: float


def supernet_training(db: sqlite3.Connection, last: int) -> SupernetTraining | None:
    """Return what the jobs on shared weights have given, with means over the last so many children.

    Returns:
        `None` if no child has made steps.
    """
    (steps,) = db.execute(f"SELECT sum(json_extract(job, '$.count')) FROM children WHERE {_TRAINED}").fetchone()
    if steps is None:
        return None
    means = f"""
    SELECT {", ".join(f"avg({_MEASURED.format(name)})" for name in ("loss", "accuracy", "staleness"))}
    FROM (SELECT outcome FROM children WHERE {_TRAINED} ORDER BY completion DESC LIMIT ?)
    """
    paths = f"""
    SELECT avg(metric) FROM (SELECT metric FROM children WHERE {_SCORED} ORDER BY completion DESC LIMIT ?)
    """
    traffic = f"""
    WITH newest AS (SELECT max(ended_at) AS at FROM children WHERE {ON_SHARED_WEIGHTS})
    SELECT total({_BYTES}), total({_CALLS}), max(0.001, min({RECENT_S}, at - (SELECT min(sampled_at) FROM children)))
    FROM children, newest WHERE {ON_SHARED_WEIGHTS} AND ended_at > at - {RECENT_S}
    """
    moved, calls, seconds = db.execute(traffic).fetchone()
    return SupernetTraining(
        steps,
        *db.execute(means, (last,)).fetchone(),
        *db.execute(paths, (last,)).fetchone(),
        bytes_per_s=moved / seconds,
        calls_per_s=calls / seconds,
    )


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
