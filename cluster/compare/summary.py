"""What a comparison says: curves of the best so far, and how each searcher stands at the end. Pure."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from child_trainer.outcome import Measure
from cluster.compare.plan import Plan
from cluster.compare.results import Result, ResultError
from cluster.monitoring.benchmark_results import told_measured
from controller.statistics import (
    Interval,
    bootstrap_band,
    bootstrap_draws,
    bootstrap_interval,
    incumbents,
    step_function,
)

POINTS = 100
"""Places at which curves are told."""

EARLIEST = 0.1
"""Share of the budget before which curves are not told: what they rise from would flatten all the rest."""

DRAWS_SEED = 0
"""Of the bootstrap's draws, so that one comparison has one set of intervals."""

Values = Callable[[Result], Sequence[float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """What a table has: its best, and how well its seconds are known.

    Attributes:
        metric: of what the searchers are told.
        test: of what is told after the search, if anything is.
        measured, known: for how many of how many architectures its seconds were measured.
    """

    metric: float
    test: float | None
    measured: int = 0
    known: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number of each search, in the unit of the table.

    Attributes:
        at_end: the mean over seeds.
        deviation: the sample's standard deviation.
        regret: how far the mean is from the best of the table, where that is known; 0 is none.
        ahead: how much better than random search with the same seed; `None` of random search itself.
        curve: by place of the grid.
    """

    at_end: Interval
    deviation: float
    regret: Interval | None
    ahead: Interval | None
    curve: Sequence[Interval | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One searcher.

    Attributes:
        label: as the user named it.
        children: that ended within the budget, the mean over seeds.
        metric: of the best child.
        test: of that same child; `None` where nothing tells it.
    """

    label: str
    children: float
    metric: Figure
    test: Figure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The whole comparison.

    Attributes:
        plan: what was compared.
        measure: what the metric is.
        best: of the table, where the task is one.
        grid: children, or seconds of the budget, at which the curves are told.
        standings: in the plan's order.
    """

    plan: Plan
    measure: Measure
    best: Best | None
    grid: Sequence[float]
    standings: Sequence[Standing]

    @property
    def about_seconds(self) -> list[str]:
        """What a budget in seconds rests on, if some of them are estimated."""
        if self.best is None or self.plan.limit.seconds is None:
            return []
        said = told_measured(self.best.measured, self.best.known)
        return [said] if said else []


def summarize(plan: Plan, results: Mapping[str, Sequence[Result]], best: Best | None) -> Summary:
    """What the results say.

    Args:
        plan: what was compared.
        results: by the searchers' labels, in the order of the plan's seeds.
        best: of the table, where the task is one.

    Raises:
        ResultError: a search has no child with a metric.
    """
    measure, draws = plan.config.measure, bootstrap_draws(len(plan.seeds), DRAWS_SEED)
    grid = _grid(plan)

    def figure(label: str, values: Values, optimum: float | None) -> Figure:
        ends = _ends(label, results[label], values)
        sign = -1 if measure.lower_is_better else 1
        others = _ends(plan.baseline.label, results[plan.baseline.label], values)
        ahead = [sign * (ours - theirs) for ours, theirs in zip(ends, others, strict=True)]
        curves = [step_function(_costs(plan, found), values(found), grid) for found in results[label]]
        return Figure(
            at_end=bootstrap_interval(ends, draws),
            deviation=statistics.stdev(ends),
            regret=None if optimum is None else bootstrap_interval([sign * (optimum - end) for end in ends], draws),
            ahead=None if label == plan.baseline.label else bootstrap_interval(ahead, draws),
            curve=bootstrap_band(curves, draws),
        )

    def of_best(column: Callable[[Result], Sequence[float | None]]) -> Values:
        def values(found: Result) -> Sequence[float | None]:
            places = incumbents(found.metrics, lower_is_better=measure.lower_is_better)
            return [None if place is None else column(found)[place] for place in places]

        return values

    metrics, tests = of_best(lambda found: found.metrics), of_best(lambda found: found.tests)
    standings = [
        Standing(
            label=entrant.label,
            children=statistics.fmean(len(found.metrics) for found in results[entrant.label]),
            metric=figure(entrant.label, metrics, best and best.metric),
            test=figure(entrant.label, tests, best.test) if best and best.test is not None else None,
        )
        for entrant in plan.entrants
    ]
    return Summary(plan=plan, measure=measure, best=best, grid=grid, standings=standings)


def _ends(label: str, results: Sequence[Result], values: Values) -> list[float]:
    ends: list[float] = []
    for found in results:
        course = values(found)
        if not course or course[-1] is None:
            raise ResultError(f"{label} with seed {found.seed} has no child with a metric within its budget")
        ends.append(course[-1])
    return ends


def _costs(plan: Plan, found: Result) -> Sequence[float]:
    """How much of the budget is used up when each child has ended."""
    return range(1, len(found.metrics) + 1) if plan.limit.children else list(accumulate(found.seconds))


def _grid(plan: Plan) -> list[float]:
    """From the earliest place of the budget to its end."""
    if (children := plan.limit.children) is not None:
        first = max(1, round(EARLIEST * children))
        return sorted({float(first + round((children - first) * step / POINTS)) for step in range(POINTS + 1)})
    whole = plan.limit.seconds or 0.0
    return [whole * (EARLIEST + (1 - EARLIEST) * step / POINTS) for step in range(POINTS + 1)]
