"""What a report asks of the children, added up by SQL so that as much is read however many there are."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cluster.storage.ledger.queries.front import COST_COLUMNS

# One pass over the children, whose rows are wide; all other queries read this narrow table of the connection's own.
ENDED = """
CREATE TEMP TABLE ended (
    completion INTEGER PRIMARY KEY, id, state, cause, reward, metric, parameters, flops, seconds, at, work, predicted,
    latency
);
INSERT INTO ended
SELECT completion, id, state, children.cause, reward, metric, parameters, flops, seconds, ended_at - {zero},
    sum(coalesce(spent, 0)) OVER (ORDER BY completion), json_extract(notes, '$.predicted'), {latency}
FROM children LEFT JOIN (
    SELECT child, sum(max(0, ended_at - started_at)) AS spent FROM attempts WHERE ended_at IS NOT NULL GROUP BY child
) ON child = id
WHERE completion IS NOT NULL ORDER BY completion;
"""


class Point(NamedTuple):
    """A value after so many children, seconds since the first was sampled, and seconds of attempts."""

    children: int
    seconds: float
    work: float
    value: float


class Totals(NamedTuple):
    """The number, the seconds since the first was sampled and the seconds of attempts of the children that ended."""

    children: int
    seconds: float | None
    work: float | None


class CostRange(NamedTuple):
    """How many children with a metric have a cost, the range of that, and the range of their metrics."""

    children: int
    lowest_cost: float
    highest_cost: float
    lowest_metric: float
    highest_metric: float


class CostedChild(NamedTuple):
    """A child with a metric."""

    child_id: int
    cost: float
    metric: float


def gather_ended(db: sqlite3.Connection) -> float | None:
    """Make the table that the other queries read; return the Unix time at which the first child was sampled, if any."""
    (zero,) = db.execute("SELECT min(sampled_at) FROM children").fetchone()
    # Not `executescript`, which would end the transaction in which the ledger stands still.
    for statement in ENDED.format(zero=float(zero or 0), latency=COST_COLUMNS["latency"]).split(";\n"):
        db.execute(statement)
    return zero


def totals(db: sqlite3.Connection) -> Totals:
    """Return what the children that have ended add up to."""
    return Totals(*db.execute("SELECT coalesce(max(completion), 0), max(at), max(work) FROM ended").fetchone())


def best_metrics(db: sqlite3.Connection, *, lower_is_better: bool) -> list[Point]:
    """Return the best metric so far, at each child that improved on it."""
    query = f"""
    SELECT min(completion), min(at), min(work), best FROM (
        SELECT completion, at, work, {_best(lower_is_better)}(metric) OVER (ORDER BY completion) AS best FROM ended
    ) WHERE best IS NOT NULL GROUP BY best ORDER BY 1
    """
    return [Point(*row) for row in db.execute(query)]


def mean_rewards(db: sqlite3.Connection, window: int, step: int, last: int) -> list[Point]:
    """Return the mean reward of the last `window` children, at each `step`-th child and at the `last`."""
    query = f"""
    SELECT completion, at, work, mean FROM (
        SELECT completion, at, work,
            avg(reward) OVER (ORDER BY completion ROWS {window - 1:d} PRECEDING) AS mean FROM ended
    ) WHERE mean IS NOT NULL AND (completion % ? = 0 OR completion = ?) ORDER BY completion
    """
    return [Point(*row) for row in db.execute(query, (step, last))]


def used_gpus(db: sqlite3.Connection) -> bool | None:
    """Return whether a finished child was trained on a GPU; `None` if no child has finished."""
    used = "SELECT json_extract(outcome, '$.gpu_bytes') IS NOT NULL AS used FROM children WHERE state = 'finished'"
    row = db.execute(f"{used} ORDER BY used DESC LIMIT 1").fetchone()
    return None if row is None else bool(row[0])


class Prediction(NamedTuple):
    """The reward that the searcher predicted for a child, and the one that it got."""

    child_id: int
    predicted: float
    reward: float


def predictions(db: sqlite3.Connection) -> list[Prediction]:
    """Return the predictions for the children that have a reward, in completion order."""
    query = """
    SELECT id, predicted, reward FROM ended
    WHERE typeof(predicted) IN ('integer', 'real') AND reward IS NOT NULL ORDER BY completion
    """
    return [Prediction(*row) for row in db.execute(query)]


def cost_range(db: sqlite3.Connection, cost: str) -> CostRange:
    """Return the ranges of the children with a metric whose cost, a column, is known."""
    query = f"""
    SELECT count(*), min({cost}), max({cost}), min(metric), max(metric) FROM ended
    WHERE state = 'finished' AND metric IS NOT NULL AND {cost} IS NOT NULL
    """
    return CostRange(*db.execute(query).fetchone())


def costed_children(db: sqlite3.Connection, cost: str) -> list[CostedChild]:
    """Return the children with a metric whose cost, a column, is known."""
    query = (
        f"SELECT id, {cost}, metric FROM ended WHERE state = 'finished' AND metric IS NOT NULL AND {cost} IS NOT NULL"
    )
    return [CostedChild(*row) for row in db.execute(query)]


def cells(
    db: sqlite3.Connection,
    cost: str,
    scales: tuple[Callable[[float], float] | None, Callable[[float], float] | None],
    ranges: Sequence[float],
    grid: tuple[int, int],
) -> dict[tuple[int, int], int]:
    """Return how many children with a metric are in each cell of a grid of cost and metric.

    Args:
        db: after `gather_ended`.
        cost: a column.
        scales: of the cost, and of the metric; `None`: as they are.
        ranges: the lowest scaled cost and the width of its range, and those of the metric.
        grid: columns (of the cost) and rows (of the metric).
    """
    scaled = []
    for column, name, scale in zip((cost, "metric"), ("scaled", "levelled"), scales, strict=True):
        if scale is not None:
            db.create_function(name, 1, scale, deterministic=True)
        scaled.append(f"CAST({column} AS REAL)" if scale is None else f"{name}({column})")
    columns, rows = grid
    query = f"""
    SELECT min({columns:d} - 1, CAST(({scaled[0]} - ?) / ? * {columns:d} AS INTEGER)) AS c,
        min({rows:d} - 1, CAST(({scaled[1]} - ?) / ? * {rows:d} AS INTEGER)) AS r, count(*)
    FROM ended WHERE state = 'finished' AND metric IS NOT NULL AND {cost} IS NOT NULL GROUP BY c, r
    """
    return {(column, row): count for column, row, count in db.execute(query, ranges)}


def pareto_front(db: sqlite3.Connection, cost: str, *, lower_is_better: bool) -> list[CostedChild]:
    """Return the children that are better than every child that costs no more, by rising cost."""
    order, better = ("ASC", "<") if lower_is_better else ("DESC", ">")
    query = f"""
    SELECT id, cost, metric FROM (
        SELECT id, {cost} AS cost, metric, {_best(lower_is_better)}(metric) OVER (
            ORDER BY {cost}, metric {order}, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS cheaper FROM ended WHERE state = 'finished' AND metric IS NOT NULL AND {cost} IS NOT NULL
    ) WHERE cheaper IS NULL OR metric {better} cheaper ORDER BY cost
    """
    return [CostedChild(*row) for row in db.execute(query)]


def _best(lower_is_better: bool) -> str:
    return "min" if lower_is_better else "max"
