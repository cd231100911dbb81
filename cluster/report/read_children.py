"""What the ledger says of its children, added up by SQL so that as much is read however many there are."""

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from child_trainer.outcome import Measure
from cluster.config.run_config import RunConfig
from cluster.report.facts import COLUMNS, ROWS, Child, Cloud, Place, Progress

MOST_DRAWN = 1_500
"""Children that are drawn one by one."""

MOST_PLACES = 240
"""Places of a curve."""

MOST_FRONT = 200
"""Children of a Pareto front."""

COSTS = ("parameters", "flops", "seconds")
"""What a child may cost, as the ledger's columns."""

LOG_FROM = 20
"""Costs, and metrics that have no end such as perplexities, are plotted by their logarithm if they differ by more."""

# One pass over the children, whose rows are wide; all else is asked of this narrow table, of this connection's own.
ENDED = """
CREATE TEMP TABLE ended (
    completion INTEGER PRIMARY KEY, id, state, cause, reward, metric, parameters, flops, seconds, at, work
);
INSERT INTO ended
SELECT completion, id, state, children.cause, reward, metric, parameters, flops, seconds, ended_at - {zero},
    sum(coalesce(spent, 0)) OVER (ORDER BY completion)
FROM children LEFT JOIN (
    SELECT child, sum(max(0, ended_at - started_at)) AS spent FROM attempts WHERE ended_at IS NOT NULL GROUP BY child
) ON child = id
WHERE completion IS NOT NULL ORDER BY completion;
"""

RECORDS = """
SELECT min(completion), min(at), min(work), best FROM (
    SELECT completion, at, work, {best}(metric) OVER (ORDER BY completion) AS best FROM ended
) WHERE best IS NOT NULL GROUP BY best ORDER BY 1
"""

REWARDS = """
SELECT completion, at, work, mean FROM (
    SELECT completion, at, work, avg(reward) OVER (ORDER BY completion ROWS {before} PRECEDING) AS mean FROM ended
) WHERE mean IS NOT NULL AND (completion % {step} = 0 OR completion = {last}) ORDER BY completion
"""

# A child is on the front if it is better than every child that costs no more.
FRONT = """
SELECT id, cost, metric FROM (
    SELECT id, {cost} AS cost, metric, {best}(metric) OVER (
        ORDER BY {cost}, metric {order}, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS cheaper FROM ended WHERE state = 'finished' AND {cost} IS NOT NULL
) WHERE cheaper IS NULL OR metric {better} cheaper ORDER BY cost
"""

CELLS = """
SELECT min({columns} - 1, CAST((scaled({cost}) - ?) / ? * {columns} AS INTEGER)) AS c,
    min({rows} - 1, CAST((levelled(metric) - ?) / ? * {rows} AS INTEGER)) AS r, count(*)
FROM ended WHERE state = 'finished' AND {cost} IS NOT NULL GROUP BY c, r
"""


def gather(db: sqlite3.Connection) -> float | None:
    """Make this connection's table `ended`; the Unix time at which the first child was sampled, if one was."""
    (zero,) = db.execute("SELECT min(sampled_at) FROM children").fetchone()
    # Not `executescript`, which would end the transaction in which the ledger stands still.
    for statement in ENDED.format(zero=float(zero or 0)).split(";\n"):
        db.execute(statement)
    return zero


def _ranking(measure: Measure) -> dict[str, str]:
    """How SQL says which of two metrics is the better one."""
    if measure.lower_is_better:
        return {"best": "min", "order": "ASC", "better": "<"}
    return {"best": "max", "order": "DESC", "better": ">"}


def read_progress(db: sqlite3.Connection, name: str, config: RunConfig, window: int) -> Progress:
    """How the search got better.

    Args:
        db: after `gather`.
        name, config: the run's.
        window: children that a mean reward is of, where they are few; else it is a hundredth of them.
    """
    last, at, work = db.execute("SELECT coalesce(max(completion), 0), max(at), max(work) FROM ended").fetchone()
    best = [
        Place(children=c, seconds=s, work=w, value=v)
        for c, s, w, v in db.execute(RECORDS.format(**_ranking(config.measure)))
    ]
    if best and best[-1].children < last:
        best.append(Place(children=last, seconds=at, work=work, value=best[-1].value))
    window = max(window, last // 100)
    query = REWARDS.format(before=window - 1, step=max(1, -(-last // MOST_PLACES)), last=last)
    rewards = [Place(children=c, seconds=s, work=w, value=v) for c, s, w, v in db.execute(query)]
    return Progress(
        name=name,
        searcher=config.searcher,
        best=tuple(thinned(best, MOST_PLACES)),
        rewards=tuple(rewards),
        window=window,
        gpus_per_child=_gpus_per_child(db, config),
    )


def _gpus_per_child(db: sqlite3.Connection, config: RunConfig) -> float | None:
    """What was left to the machine (1 where it has a GPU) is told by what outcomes say of a GPU's memory."""
    if config.topology.gpus_per_child is not None:
        return config.topology.gpus_per_child
    used = "SELECT json_extract(outcome, '$.gpu_bytes') IS NOT NULL AS used FROM children WHERE state = 'finished'"
    row = db.execute(f"{used} ORDER BY used DESC LIMIT 1").fetchone()
    return None if row is None else float(row[0])


def read_cloud(db: sqlite3.Connection, cost: str, measure: Measure) -> Cloud | None:
    """The finished children, whose metric is such a measure, by one of `COSTS`; `None` where it is known of none."""
    count, least, most, bottom, top = db.execute(
        f"SELECT count(*), min({cost}), max({cost}), min(metric), max(metric) FROM ended"
        f" WHERE state = 'finished' AND {cost} IS NOT NULL"
    ).fetchone()
    if not count:
        return None
    log = _by_logarithm(least, most), measure.lower_is_better and _by_logarithm(bottom, top)
    children, cells = (), {}
    if count <= MOST_DRAWN:
        query = f"SELECT id, {cost}, metric FROM ended WHERE state = 'finished' AND {cost} IS NOT NULL"
        children = tuple(Child(id=i, cost=c, metric=m) for i, c, m in db.execute(query))
    else:
        ranges: list[float] = []
        for name, by, low, high in zip(("scaled", "levelled"), log, (least, bottom), (most, top), strict=True):
            scale = math.log10 if by else float
            db.create_function(name, 1, scale, deterministic=True)
            ranges += [scale(low), (scale(high) - scale(low)) or 1.0]
        rows = db.execute(CELLS.format(cost=cost, columns=COLUMNS, rows=ROWS), ranges)
        cells = {(c, r): number for c, r, number in rows}
    front = [Child(id=i, cost=c, metric=m) for i, c, m in db.execute(FRONT.format(cost=cost, **_ranking(measure)))]
    return Cloud(
        cost=cost,
        count=count,
        lowest=(least, bottom),
        highest=(most, top),
        log=log,
        children=children,
        cells=cells,
        front=tuple(thinned(front, MOST_FRONT)),
    )


def _by_logarithm(least: float, most: float) -> bool:
    return least > 0 and most / least > LOG_FROM


def thinned(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
