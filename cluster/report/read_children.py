"""What the ledger says of its children, added up by SQL so that as much is read however many there are."""

import math
from collections.abc import Sequence
from typing import Any

from child_trainer.outcome import Measure
from cluster.config.run_config import RunConfig
from cluster.report.facts import COLUMNS, ROWS, Child, Cloud, Place, Progress
from cluster.storage.ledger.queries import report_children as queries
from cluster.storage.ledger.reader import LedgerConnection

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


def read_progress(db: LedgerConnection, name: str, config: RunConfig, window: int) -> Progress:
    """How the search got better.

    Args:
        db: after `gather_ended`.
        name, config: the run's.
        window: children that a mean reward is of, where they are few; else it is a hundredth of them.
    """
    last, at, work = queries.totals(db)
    best = [_place(point) for point in queries.best_metrics(db, lower_is_better=config.measure.lower_is_better)]
    if best and best[-1].children < last and at is not None and work is not None:
        best.append(Place(children=last, seconds=at, work=work, value=best[-1].value))
    window = max(window, last // 100)
    step = max(1, -(-last // MOST_PLACES))
    rewards = [_place(point) for point in queries.mean_rewards(db, window, step, last)]
    return Progress(
        name=name,
        searcher=config.searcher,
        best=tuple(thinned(best, MOST_PLACES)),
        rewards=tuple(rewards),
        window=window,
        gpus_per_child=_gpus_per_child(db, config),
    )


def _place(point: queries.Point) -> Place:
    return Place(children=point.children, seconds=point.seconds, work=point.work, value=point.value)


def _gpus_per_child(db: LedgerConnection, config: RunConfig) -> float | None:
    """What was left to the machine (1 where it has a GPU) is told by what outcomes say of a GPU's memory."""
    if config.topology.gpus_per_child is not None:
        return config.topology.gpus_per_child
    used = queries.used_gpus(db)
    return None if used is None else float(used)


def read_cloud(db: LedgerConnection, cost: str, measure: Measure) -> Cloud | None:
    """The finished children, whose metric is such a measure, by one of `COSTS`; `None` where it is known of none."""
    count, least, most, bottom, top = queries.cost_range(db, cost)
    if not count:
        return None
    log = _by_logarithm(least, most), measure.lower_is_better and _by_logarithm(bottom, top)
    children, cells = (), {}
    if count <= MOST_DRAWN:
        children = tuple(_child(row) for row in queries.costed_children(db, cost))
    else:
        scales = (math.log10 if log[0] else float, math.log10 if log[1] else float)
        ranges: list[float] = []
        for scale, low, high in zip(scales, (least, bottom), (most, top), strict=True):
            ranges += [scale(low), (scale(high) - scale(low)) or 1.0]
        cells = queries.cells(db, cost, scales, ranges, (COLUMNS, ROWS))
    front = [_child(row) for row in queries.pareto_front(db, cost, lower_is_better=measure.lower_is_better)]
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


def _child(row: queries.CostedChild) -> Child:
    return Child(id=row.child_id, cost=row.cost, metric=row.metric)


def _by_logarithm(least: float, most: float) -> bool:
    return least > 0 and most / least > LOG_FROM


def thinned(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
