"""The result of a simulation as text and as plain data. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from cluster.config.run_config import RunConfig
from cluster.formatting import counted, duration
from cluster.pool.failure_policy import MAX_PREEMPTIONS
from cluster.simulation.estimate import HOUR_S, Estimate, Figures, StepFigures
from cluster.simulation.simulator import workers_of

MIN_GAIN = 0.005
"""Relative gain below which a change is not advised: less is chance."""

FAILED_SHARE_TOLERANCE = 0.01
"""Difference of two shares of failed children that is put down to chance."""

MAX_FAILED_SHARE = 0.1
"""Share of failed children above which time and cost are no basis for advice."""


LEDGER_CHILDREN_PER_S = 80.0
"""Children a second that a run has recorded on the machine of docs/design/scale.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TriedVariant:
    """A variant of the search and its estimate.

    Attributes:
        flags: flags that make the change.
        estimate: estimate for the requested number of children.
    """

    flags: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationReport:
    """The result of a simulation.

    Attributes:
        recipe: name of the recipe.
        config: the simulated run.
        times: distribution of the children's times, in words.
        figures: figures of the search.
        price: price of one GPU for an hour, or `None` if unknown.
        unchanged: estimate without a change, from as many children as the variants had.
        tried: the variants; empty if none were simulated.
        tried_children: number of children with which each variant was simulated.
    """

    recipe: str
    config: RunConfig
    times: str
    figures: Figures
    price: float | None
    unchanged: Estimate | None = None
    tried: Sequence[TriedVariant] = ()
    tried_children: int = 0

    @property
    def shortest(self) -> TriedVariant | None:
        """The variant that shortens the search most, or `None` if none does or advice is unsound."""
        return self._best(lambda estimate: estimate.hours)

    @property
    def cheapest(self) -> TriedVariant | None:
        """The variant that cuts the cost most, or `None` if none does or advice is unsound."""
        return self._best(lambda estimate: estimate.gpu_hours)

    @property
    def fewest_failures(self) -> TriedVariant | None:
        """The variant with the fewest failed children, or `None` if none has fewer."""
        if not self.tried or self.unchanged is None:
            return None
        best = min(self.tried, key=lambda tried: tried.estimate.failed_share)
        return best if best.estimate.failed_share < self.unchanged.failed_share - FAILED_SHARE_TOLERANCE else None

    @property
    def is_unsound(self) -> bool:
        """Whether too many children fail for any advice on time and cost."""
        return self.unchanged is not None and self.unchanged.failed_share > MAX_FAILED_SHARE

    def _best(self, measure: Callable[[Estimate], float]) -> TriedVariant | None:
        if self.unchanged is None or self.is_unsound:
            return None
        # A search whose children fail early is fast for the wrong reason.
        limit = self.unchanged.failed_share + FAILED_SHARE_TOLERANCE
        sound = [tried for tried in self.tried if tried.estimate.failed_share <= limit]
        if not sound:
            return None
        best = min(sound, key=lambda tried: measure(tried.estimate))
        return best if measure(best.estimate) < (1 - MIN_GAIN) * measure(self.unchanged) else None


def to_json(report: SimulationReport) -> dict[str, Any]:
    """Return the report as plain data for `json.dumps`."""
    topology, price = report.config.topology, report.price

    def tried(one: TriedVariant | None) -> dict[str, Any] | None:
        return one and {"flags": one.flags} | estimated(one.estimate)

    def estimated(one: Estimate) -> dict[str, Any]:
        cost = price and one.gpu_hours * price
        return {"hours": one.hours, "gpu_hours": one.gpu_hours, "cost": cost, "failed_share": one.failed_share}

    return {
        "recipe": report.recipe,
        "child_seconds": report.times,
        "workers": workers_of(report.config),
        "replicas": topology.replicas,
        "children_per_replica": topology.children,
        "shards": topology.shards,
        "batching": topology.batching,
        "seed": report.config.seed,
        **report.figures.to_json(),
        "cost": price and report.figures.gpu_hours * price,
        "what_helps": {
            "children": report.tried_children,
            "unchanged": report.unchanged and estimated(report.unchanged),
            "changes": [tried(one) for one in report.tried],
            "shortest": tried(report.shortest),
            "cheapest": tried(report.cheapest),
            "saves_children": tried(report.fewest_failures),
        },
    }


def headline(report: SimulationReport) -> str:
    """Return one line that says what was simulated."""
    topology, config = report.config.topology, report.config
    return (
        f"{report.recipe}: {counted(config.max_children, 'child')} ({report.times}) on"
        f" {counted(workers_of(config), 'worker')}, {counted(topology.replicas, 'replica')} of {topology.children}"
        f" ({topology.batching}), {counted(topology.shards, 'shard')}"
    )


def lines(report: SimulationReport) -> list[tuple[str, str]]:
    """Return the figures as pairs of label and text."""
    f = report.figures
    waits = [f"{_percent(share)} for {what}" for what, share in f.waits.items() if share >= 0.0005]
    stale = f.staleness
    return [
        (
            "time",
            f"{duration(f.seconds)} to {counted(f.children, 'child')}, {f.children_per_hour:,.1f} an hour"
            + (f"; {f.failed:,} of them failed" if f.failed else ""),
        ),
        ("cost", f"{_cost(f.gpu_hours, report.price)}, {f.worker_hours:,.1f} hours of workers"),
        (
            "workers",
            f"{_percent(f.utilisation)} busy ({_percent(f.steady_utilisation)} until the last child was started);"
            f" goodput {_percent(f.goodput)}, training lost {_percent(f.lost_hours / f.worker_hours)},"
            f" idle {_percent(1 - f.utilisation)}",
        ),
        (
            "updates",
            counted(f.pushes, "push")
            + (
                f", staleness mean {stale.mean:.1f}, p50 {stale.p50:g}, p95 {stale.p95:g}, max {stale.max:g}"
                if stale
                else ""
            ),
        ),
        (
            "lost",
            f"{counted(f.preemptions, 'preemption')}, {f.preempted:,} while a child was in training"
            f" ({counted(f.attempts, 'attempt')}, {f.lost_hours:,.1f} worker hours of training lost);"
            f" {counted(f.shard_failures, 'shard')} (unavailable for {f.shards_outage_s:,.1f} s);"
            f" {counted(f.replica_failures, 'replica')}",
        ),
        ("replicas", "wait " + (", ".join(waits) or "for nothing")),
        *(_step_lines(f.steps, report.config) if f.steps else []),
        *_ledger_lines(f),
    ]


def _ledger_lines(figures: Figures) -> list[tuple[str, str]]:
    rate = figures.children / figures.seconds
    if rate <= LEDGER_CHILDREN_PER_S:
        return []
    text = (
        f"{rate:,.0f} children a second are more than one records (some {LEDGER_CHILDREN_PER_S:g}), which is not"
        " simulated: give each child more to do"
    )
    return [("ledger", text)]


def _step_lines(steps: StepFigures, config: RunConfig) -> list[tuple[str, str]]:
    strengths = f", one with strengths {_percent(steps.policy_busy)}" if steps.policy_busy else ""
    return [
        (
            "steps",
            f"{steps.steps:,.0f}, {steps.per_second:,.1f} a second (the shards allow {steps.max_per_second:,.0f});"
            f" {steps.seconds * 1e3:,.1f} ms each: {_percent(steps.computing_share)} computing,"
            f" {_percent(steps.shards_share)} at the shards; staleness {steps.staleness:,.1f}",
        ),
        (
            "weights",
            f"{steps.pulled_bytes / 1e6:.2f} MB pulled and {steps.pushed_bytes / 1e6:.2f} MB pushed in a step;"
            f" each of {counted(config.weights.weights_shards, 'shard')} has {steps.shard_calls_per_s:,.0f} calls and"
            f" {steps.shard_bytes_per_s / 1e6:,.1f} MB a second, and is {_percent(steps.shard_busy)} busy{strengths}",
        ),
    ]


def help_table(report: SimulationReport) -> Table:
    """Return the table of variants with their estimates."""
    assert report.unchanged is not None
    table = Table(
        title=f"What would help, estimated from {counted(report.tried_children, 'child')} each", title_justify="left"
    )
    table.add_column("change")
    columns = ["time", "", "GPU hours" if report.price is None else "cost", ""]
    rows = [("none", report.unchanged), *((tried.flags, tried.estimate) for tried in report.tried)]
    some_fail = any(one.failed_share for _, one in rows)
    for column in [*columns, "failed"] if some_fail else columns:
        table.add_column(column, justify="right")
    for flags, one in rows:
        table.add_row(
            flags,
            duration(one.hours * HOUR_S),
            _change(one.hours, report.unchanged.hours),
            f"{one.gpu_hours * (1.0 if report.price is None else report.price):,.0f}",
            _change(one.gpu_hours, report.unchanged.gpu_hours),
            *([_percent(one.failed_share)] if some_fail else []),
        )
    return table


def verdicts(report: SimulationReport) -> list[str]:
    """Return sentences on the variants that save most children, time and cost."""
    unchanged, fewest_failures = report.unchanged, report.fewest_failures
    if unchanged is None:
        return []
    failing = _percent(unchanged.failed_share)
    saved: list[str] = []
    if fewest_failures:
        share = _percent(fewest_failures.estimate.failed_share)
        saved = [f"{fewest_failures.flags} saves the most children: {share} fail instead of {failing}"]
    if report.is_unsound:
        return [
            *(saved or ["None of these changes makes fewer children fail"]),
            f"There is no advice on time or cost while {failing} of the children fail: they exceed --child-timeout, or"
            f" are preempted {MAX_PREEMPTIONS} times",
        ]
    return [*saved, *_advice(report, unchanged)]


def _advice(report: SimulationReport, unchanged: Estimate) -> list[str]:
    fast, cheap = report.shortest, report.cheapest
    time_text = "None of these changes shortens the search"
    if fast:
        hours = fast.estimate.hours
        time_text = (
            f"{fast.flags} shortens the search most: {duration(hours * HOUR_S)} instead of"
            f" {duration(unchanged.hours * HOUR_S)} ({_change(hours, unchanged.hours)})"
        )
    cost_text = "None of these changes cuts the cost"
    if cheap:
        cost, before = (_cost(one.gpu_hours, report.price) for one in (cheap.estimate, unchanged))
        change = _change(cheap.estimate.gpu_hours, unchanged.gpu_hours)
        cost_text = f"{cheap.flags} cuts the cost most: {cost} instead of {before} ({change})"
    return [time_text, cost_text]


def _cost(gpu_hours: float, price: float | None) -> str:
    text = f"{gpu_hours:,.1f} GPU hours"
    return text if price is None else f"{gpu_hours * price:,.2f} for {text}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _change(value: float, before: float) -> str:
    return f"{value / before - 1:+.1%}" if before else "-"
