"""What a report asks of a ledger beside the children's progress: the best, batches by slice, tokens, busy workers."""

import itertools
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple

from cluster.storage.ledger.queries.run import last_child
from cluster.storage.ledger.queries.status import BEST_COLUMNS, Best, best_child
from cluster.storage.ledger.rows import IS_OTHER, RECORD_COLUMNS, all_records
from cluster.storage.ledger.totals import totals
from controller.searcher import ChildRecord

Wait = Literal["pull_seconds", "push_seconds"]


class SliceFigures(NamedTuple):
    """Of the batches of a slice: seconds since the zero, and the mean of each figure of the searcher."""

    slice: int
    seconds: float
    figures: dict[str, float]


class AttemptTotals(NamedTuple):
    """How many attempts there are, the seconds of those that gave a metric, and the last time recorded of any."""

    attempts: int
    useful_seconds: float
    last_at: float | None


def num_architectures(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many different networks were sampled, by their canonical ids, and among how many children with one."""
    query = "SELECT count(DISTINCT architecture_id), count(*) FROM children WHERE graph IS NOT NULL"
    distinct, children = db.execute(query).fetchone()
    return distinct, children


def best_architectures(db: sqlite3.Connection, count: int) -> list[Best]:
    """Return the best child of each of so many different networks, the best first."""
    # The rows are wide: narrow columns settle who the best are.
    query = f"""
    SELECT {BEST_COLUMNS} FROM children WHERE id IN (
        SELECT id FROM (
            SELECT id, reward, row_number() OVER (PARTITION BY architecture_id ORDER BY reward DESC, id) AS place
            FROM children WHERE state = 'finished' AND metric IS NOT NULL
        ) WHERE place = 1 ORDER BY reward DESC, id LIMIT ?
    ) ORDER BY reward DESC, id
    """
    return [best_child(*row) for row in db.execute(query, (count,))]


def ended_records(db: sqlite3.Connection) -> list[ChildRecord]:
    """Return the children that have ended as a searcher sees them, in completion order."""
    query = f"SELECT {RECORD_COLUMNS} FROM children WHERE completion IS NOT NULL ORDER BY completion"
    return all_records(db.execute(query))


def open_records(db: sqlite3.Connection) -> list[ChildRecord]:
    """Return the children that have not ended as a searcher sees them."""
    query = f"SELECT {RECORD_COLUMNS} FROM children WHERE completion IS NULL ORDER BY id"
    return all_records(db.execute(query))


def gather_batches(db: sqlite3.Connection, slices: int, zero: float) -> int:
    """Make the table of the batches that were learnt from, in at most so many slices; return how many there are.

    Args:
        db: the ledger.
        slices: equal parts of the batches, in the order in which they were learnt from.
        zero: Unix time that a slice's seconds count from.
    """
    (batches,) = db.execute("SELECT count(*) FROM batches WHERE learned_at IS NOT NULL").fetchone()
    if batches:
        db.execute(f"""
        CREATE TEMP TABLE learned AS
        SELECT (row_number() OVER (ORDER BY learned_at, replica, number) - 1) * {min(slices, batches):d}
                / count(*) OVER () AS slice,
            learned_at - {zero} AS at, CASE WHEN pushed = 1 THEN staleness END AS staleness,
            figures, pull_seconds, push_seconds
        FROM batches WHERE learned_at IS NOT NULL
        """)
    return batches


def slice_figures(db: sqlite3.Connection) -> list[SliceFigures]:
    """Return what the batches of each slice have learnt, in the order of the slices."""
    # Earlier versions recorded NaN, which is no JSON, and texts.
    known = "json_each(iif(json_valid(learned.figures), learned.figures, '{}')) AS figure"
    numbers = "figure.type IN ('integer', 'real')"
    query = f"SELECT slice, key, avg(value) FROM learned, {known} WHERE {numbers} GROUP BY slice, key"
    means: dict[int, dict[str, float]] = defaultdict(dict)
    for index, figure, mean in db.execute(query):
        means[index][figure] = mean
    ends = db.execute("SELECT slice, max(at) FROM learned GROUP BY slice ORDER BY slice")
    return [SliceFigures(index, at, means[index]) for index, at in ends]


def slice_waits(db: sqlite3.Connection, wait: Wait) -> dict[int, tuple[float, float]]:
    """Return the median and the 95th percentile of a wait in each slice, in seconds."""
    query = f"""
    SELECT slice, max(CASE WHEN place = (many + 1) / 2 THEN value END),
        max(CASE WHEN place = (many * 95 + 99) / 100 THEN value END)
    FROM (
        SELECT slice, {wait} AS value, row_number() OVER (PARTITION BY slice ORDER BY {wait}) AS place,
            count(*) OVER (PARTITION BY slice) AS many FROM learned WHERE {wait} IS NOT NULL
    ) GROUP BY slice
    """
    return {index: (half, most) for index, half, most in db.execute(query)}


def slice_staleness(db: sqlite3.Connection) -> dict[int, tuple[float, int]]:
    """Return the mean and the largest staleness of the pushes in each slice, in versions."""
    query = "SELECT slice, avg(s.value), max(s.value) FROM learned, json_each(learned.staleness) AS s GROUP BY slice"
    return {index: (mean, worst) for index, mean, worst in db.execute(query)}


def num_sampled(db: sqlite3.Connection) -> int:
    """Return how many children with an architecture were sampled."""
    return db.execute("SELECT count(*) FROM children WHERE graph IS NOT NULL").fetchone()[0]


def sampled_tokens(db: sqlite3.Connection, stride: int) -> Iterator[tuple[int, ...]]:
    """Yield the tokens of the first and then each `stride`-th child with an architecture, in the order of sampling."""
    if num_sampled(db) == last_child(db):  # their ids count them
        rows = db.execute("SELECT tokens FROM children WHERE (id - 1) % ? = 0 ORDER BY id", (stride,))
    else:
        every = db.execute("SELECT tokens FROM children WHERE graph IS NOT NULL ORDER BY id")
        rows = itertools.islice(every, 0, None, stride)
    known: dict[str, tuple[int, ...]] = {}
    for (text,) in rows:
        if text not in known:
            known[text] = tuple(json.loads(text))
        yield known[text]


def attempt_totals(db: sqlite3.Connection) -> AttemptTotals:
    """Return what all attempts add up to."""
    query = """
    SELECT count(*), total(CASE WHEN verdict = 'outcome' AND cause IS NULL THEN ended_at - started_at END),
        max(coalesce(ended_at, started_at)) FROM attempts
    """
    return AttemptTotals(*db.execute(query).fetchone())


def attempt_seconds(db: sqlite3.Connection, now: float | None) -> float:
    """Return the seconds of all attempts. One that has not ended lasts up to `now`; without that it counts nothing."""
    query = f"SELECT total(max(0, {_end(now)} - started_at)) FROM attempts WHERE ended_at IS NULL AND NOT {IS_OTHER}"
    return totals(db).attempt_seconds + db.execute(query).fetchone()[0]


def busy_edges(
    db: sqlite3.Connection, slices: int, width: float, zero: float, now: float | None
) -> dict[int, tuple[float, int]]:
    """Return what attempts add to the busy time of the slice in which they begin or end, and to each later slice.

    Args:
        db: the ledger.
        slices: of time, so many.
        width: seconds of a slice.
        zero: Unix time at which the first slice begins.
        now: see `attempt_seconds`.

    Returns:
        by slice: seconds within it, and the change of the number of busy workers from then on.
    """
    query = f"""
    SELECT slice, sum(sign * ((slice + 1) * {width} - at)), sum(sign) FROM (
        SELECT at, sign, max(0, min({slices:d} - 1, CAST(at / {width} AS INTEGER))) AS slice FROM (
            SELECT started_at - {zero} AS at, 1 AS sign FROM attempts
            WHERE ended_at IS NOT NULL OR NOT {IS_OTHER}
            UNION ALL SELECT max(started_at, coalesce(ended_at, {_end(now)})) - {zero}, -1 FROM attempts
            WHERE ended_at IS NOT NULL OR NOT {IS_OTHER}
        )
    ) GROUP BY slice
    """
    return {index: (part, count) for index, part, count in db.execute(query)}


def _end(now: float | None) -> str:
    return "started_at" if now is None else repr(now)
