"""Summarises a comparison: curves of the best so far, and each searcher's figures at the end. Pure."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from child_trainer.outcome import Measure
from cluster.compare.plan import Plan
from cluster.compare.search_result import ResultError, SearchResult
from cluster.monitoring.benchmark_results import describe_coverage
from controller.statistics import (
    Interval,
    bootstrap_band,
    bootstrap_draws,
    bootstrap_interval,
    incumbents,
    step_function,
)

NUM_POINTS = 100
"""Intervals into which curves divide the budget."""

FIRST_SHARE = 0.1
"""Share of the budget at which curves begin: the steep start would flatten the rest."""

DRAWS_SEED = 0
"""Seed of the bootstrap's draws, so that one comparison has one set of intervals."""

Values = Callable[[SearchResult], Sequence[float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best of a table, and how many of its times are measured.

    Attributes:
        metric: best validation metric.
        test: best test metric, if the table has any.
        measured, known: number of architectures with measured seconds, and of all.
    """

    metric: float
    test: float | None
    measured: int = 0
    known: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One metric of a searcher, in the unit of the table.

    Attributes:
        at_end: the mean over seeds at the end of the budget.
        deviation: the sample's standard deviation.
        regret: distance of the mean to the best of the table, where that is known.
        ahead: how much better than random search with the same seed; `None` for random search itself.
        curve: mean over seeds at each point of the grid; `None` before the first metric.
    """

    at_end: Interval
    deviation: float
    regret: Interval | None
    ahead: Interval | None
    curve: Sequence[Interval | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The figures of one searcher.

    Attributes:
        label: the user's name for it.
        children: children that ended within the budget, the mean over seeds.
        metric: validation metric of the best child.
        test: test metric of that child; `None` where unknown.
        hypervolume: of all children, as a share of the table's; `None` if only the metric counts.
        found: points of the table's front that were found, the mean over seeds.
    """

    label: str
    children: float
    metric: Figure
    test: Figure | None
    hypervolume: Figure | None = None
    found: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The summary of a comparison.

    Attributes:
        plan: what was compared.
        measure: what the metric is.
        best: the best of the table, for a tabular task.
        grid: points of the curves, in children or in seconds of the budget.
        standings: one per searcher, in the plan's order.
    """

    plan: Plan
    measure: Measure
    best: Best | None
    grid: Sequence[float]
    standings: Sequence[Standing]

    @property
    def estimation_note(self) -> list[str]:
        """A note on estimated times, if the budget is in seconds and some are estimated."""
        if self.best is None or self.plan.limit.seconds is None:
            return []
        note = describe_coverage(self.best.measured, self.best.known)
        return [note] if note else []


def summarize(plan: Plan, results: Mapping[str, Sequence[SearchResult]], best: Best | None) -> Summary:
    """Summarise the results.

    Args:
        plan: what was compared.
        results: results by the searchers' labels, in the order of the plan's seeds.
        best: the best of the table, for a tabular task.

    Raises:
        ResultError: a search has no child with a metric.
    """
    measure, draws = plan.config.measure, bootstrap_draws(len(plan.seeds), DRAWS_SEED)
    grid = _grid(plan)

    def figure(label: str, values: Values, optimum: float | None, *, lower_is_better: bool) -> Figure:
        ends = _ends(label, results[label], values)
        sign = -1 if lower_is_better else 1
        others = _ends(plan.baseline.label, results[plan.baseline.label], values)
        ahead = [sign * (ours - theirs) for ours, theirs in zip(ends, others, strict=True)]
        curves = [step_function(_costs(plan, result), values(result), grid) for result in results[label]]
        return Figure(
            at_end=bootstrap_interval(ends, draws),
            deviation=statistics.stdev(ends),
            regret=None if optimum is None else bootstrap_interval([sign * (optimum - end) for end in ends], draws),
            ahead=None if label == plan.baseline.label else bootstrap_interval(ahead, draws),
            curve=bootstrap_band(curves, draws),
        )

    def of_best(column: Callable[[SearchResult], Sequence[float | None]]) -> Values:
        def values(result: SearchResult) -> Sequence[float | None]:
            leading = incumbents(result.metrics, lower_is_better=measure.lower_is_better)
            return [None if place is None else column(result)[place] for place in leading]

        return values

    metrics, tests = of_best(lambda result: result.metrics), of_best(lambda result: result.tests)
    front, lower = plan.front, measure.lower_is_better
    # Of one result they are asked for several times.
    known = {id(result): front.shares(result.points) for several in results.values() for result in several if front}

    def shares(result: SearchResult) -> Sequence[float]:
        return known[id(result)]

    standings = [
        Standing(
            label=label,
            children=statistics.fmean(len(result.metrics) for result in ours),
            metric=figure(label, metrics, best and best.metric, lower_is_better=lower),
            test=figure(label, tests, best.test, lower_is_better=lower) if best and best.test is not None else None,
            hypervolume=figure(label, shares, None, lower_is_better=False) if front else None,
            found=statistics.fmean(front.found(result.points) for result in ours) if front else 0.0,
        )
        for label, ours in ((entrant.label, results[entrant.label]) for entrant in plan.entrants)
    ]
    return Summary(plan=plan, measure=measure, best=best, grid=grid, standings=standings)


def _ends(label: str, results: Sequence[SearchResult], values: Values) -> list[float]:
    ends: list[float] = []
    for result in results:
        best_so_far = values(result)
        if not best_so_far or best_so_far[-1] is None:
            raise ResultError(f"{label} with seed {result.seed} has no child with a metric within its budget")
        ends.append(best_so_far[-1])
    return ends


def _costs(plan: Plan, result: SearchResult) -> Sequence[float]:
    """Return the part of the budget that is used after each child, in children or seconds."""
    return range(1, len(result.metrics) + 1) if plan.limit.children else list(accumulate(result.seconds))


def _grid(plan: Plan) -> list[float]:
    """Return the points of the curves, from `FIRST_SHARE` of the budget to its end."""
    if (children := plan.limit.children) is not None:
        first = max(1, round(FIRST_SHARE * children))
        return sorted({float(first + round((children - first) * step / NUM_POINTS)) for step in range(NUM_POINTS + 1)})
    seconds = plan.limit.seconds or 0.0
    return [seconds * (FIRST_SHARE + (1 - FIRST_SHARE) * step / NUM_POINTS) for step in range(NUM_POINTS + 1)]
