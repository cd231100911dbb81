"""Progress and costs of a ledger's children, aggregated by SQL so that the data read stay bounded."""

import math
from collections.abc import Sequence
from typing import Any

from child_trainer.outcome import Measure
from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.report.facts import COLUMNS, ROWS, ChildPoint, Cloud, Place, ProgressCurve
from cluster.storage.ledger.queries import report_children as queries
from cluster.storage.ledger.queries.usage import mean_gpu_share
from cluster.storage.ledger.reader import LedgerConnection

MAX_DRAWN = 1_500
"""Maximum number of children that are drawn individually."""

MAX_PLACES = 240
"""Maximum number of places in a curve."""

MAX_FRONT = 200
"""Maximum number of children in a Pareto front."""

COSTS = ("parameters", "flops", "latency", "seconds")
"""The kinds of cost of a child, as columns of the ledger."""

MIN_LOG_RATIO = 20
"""Ratio of highest to lowest above which costs and unbounded metrics (perplexities) get a logarithmic axis."""


def read_progress(db: LedgerConnection, name: str, config: RunConfig, window: int) -> ProgressCurve:
    """Read how the search improved.

    Args:
        db: the ledger, after `gather_ended`.
        name: the run's name.
        config: the run's configuration.
        window: minimum number of children in a mean reward; with many children it is a hundredth of them.
    """
    last, at, work = queries.totals(db)
    best = [_place(point) for point in queries.best_metrics(db, lower_is_better=config.measure.lower_is_better)]
    if best and best[-1].children < last and at is not None and work is not None:
        best.append(Place(children=last, seconds=at, work=work, value=best[-1].value))
    window = max(window, last // 100)
    step = max(1, -(-last // MAX_PLACES))
    rewards = [_place(point) for point in queries.mean_rewards(db, window, step, last)]
    return ProgressCurve(
        name=name,
        searcher=config.searcher,
        best=tuple(thinned(best, MAX_PLACES)),
        rewards=tuple(rewards),
        window=window,
        gpus_per_child=_gpus_per_child(db, config),
    )


def _place(point: queries.Point) -> Place:
    return Place(children=point.children, seconds=point.seconds, work=point.work, value=point.value)


def _gpus_per_child(db: LedgerConnection, config: RunConfig) -> float | None:
    """Return the configured GPUs per child, or infer them from the GPU memory that outcomes report (1 or 0).

    Where each child gets a part by what it needs, it is the mean part.
    """
    if config.topology.gpus_per_child == AUTO:
        return mean_gpu_share(db, None)
    if config.topology.gpus_per_child is not None:
        return config.topology.gpus_per_child
    used = queries.used_gpus(db)
    return None if used is None else float(used)


def read_cloud(db: LedgerConnection, cost: str, measure: Measure) -> Cloud | None:
    """Read the finished children by one of `COSTS`; return `None` if that cost is known for no child.

    Args:
        db: the ledger.
        cost: the kind of cost.
        measure: the kind of the children's metric.
    """
    count, low_cost, high_cost, low_metric, high_metric = queries.cost_range(db, cost)
    if not count:
        return None
    log = _by_logarithm(low_cost, high_cost), measure.lower_is_better and _by_logarithm(low_metric, high_metric)
    children, cells = (), {}
    if count <= MAX_DRAWN:
        children = tuple(_child(row) for row in queries.costed_children(db, cost))
    else:
        scales = (math.log10 if log[0] else None, math.log10 if log[1] else None)
        ranges: list[float] = []
        for scale, low, high in zip(scales, (low_cost, low_metric), (high_cost, high_metric), strict=True):
            scaled = scale or float
            ranges += [scaled(low), (scaled(high) - scaled(low)) or 1.0]
        cells = queries.cells(db, cost, scales, ranges, (COLUMNS, ROWS))
    front = [_child(row) for row in queries.pareto_front(db, cost, lower_is_better=measure.lower_is_better)]
    return Cloud(
        cost=cost,
        count=count,
        lowest=(low_cost, low_metric),
        highest=(high_cost, high_metric),
        log=log,
        children=children,
        cells=cells,
        front=tuple(thinned(front, MAX_FRONT)),
    )


def _child(row: queries.CostedChild) -> ChildPoint:
    return ChildPoint(id=row.child_id, cost=row.cost, metric=row.metric)


def _by_logarithm(low: float, high: float) -> bool:
    return low > 0 and high / low > MIN_LOG_RATIO


def thinned(values: Sequence[Any], max_count: int) -> list[Any]:
    """Return at most `max_count` evenly spaced values, always including the first and the last."""
    if len(values) <= max_count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (max_count - 1))] for i in range(max_count)]
