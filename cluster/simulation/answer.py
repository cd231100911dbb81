"""What a simulation found, as text and as plain data. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from cluster.config.run_config import RunConfig
from cluster.formatting import counted, duration
from cluster.pool.failure_policy import MAX_PREEMPTIONS
from cluster.simulation.results import HOUR_S, Estimate, Figures
from cluster.simulation.search import workers_of

LEAST_GAIN = 0.005
"""The part by which something must be better to be called a help: less is chance."""

SAME_PART = 0.01
"""Of all children: by so much the part that is given up may differ, and be the same but for chance."""

LARGE_PART = 0.1
"""Of all children: where more are given up, time and cost are those of a search that does not do its work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What a change would make of the search.

    Attributes:
        flags: that make the change.
        estimate: with it, for as many children as were asked for.
    """

    flags: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """All that a simulation found.

    Attributes:
        recipe: its name.
        config: what was simulated.
        times: how long children take, in words.
        figures: of the search.
        price: of an hour of one GPU, or `None` if there is none.
        unchanged: what is estimated of it from as many children as the changes were simulated with.
        tried: the changes; empty if none were simulated.
        tried_children: how many children each of them had.
    """

    recipe: str
    config: RunConfig
    times: str
    figures: Figures
    price: float | None
    unchanged: Estimate | None = None
    tried: Sequence[Tried] = ()
    tried_children: int = 0

    @property
    def shortest(self) -> Tried | None:
        """The change that shortens the search most, or `None` if none does or no change is to be advised."""
        return self._best(lambda estimate: estimate.hours)

    @property
    def cheapest(self) -> Tried | None:
        """The change that cuts what it costs most, or `None` if none does or no change is to be advised."""
        return self._best(lambda estimate: estimate.gpu_hours)

    @property
    def saving(self) -> Tried | None:
        """The change with which the fewest children are given up, or `None` if none saves any."""
        if not self.tried or self.unchanged is None:
            return None
        best = min(self.tried, key=lambda tried: tried.estimate.given_up)
        return best if best.estimate.given_up < self.unchanged.given_up - SAME_PART else None

    @property
    def unsound(self) -> bool:
        """Whether so many children are given up that time and cost say nothing."""
        return self.unchanged is not None and self.unchanged.given_up > LARGE_PART

    def _best(self, measure: Callable[[Estimate], float]) -> Tried | None:
        if self.unchanged is None or self.unsound:
            return None
        # What gives up children is soon done with them.
        most = self.unchanged.given_up + SAME_PART
        sound = [tried for tried in self.tried if tried.estimate.given_up <= most]
        if not sound:
            return None
        best = min(sound, key=lambda tried: measure(tried.estimate))
        return best if measure(best.estimate) < (1 - LEAST_GAIN) * measure(self.unchanged) else None


def to_json(found: Answer) -> dict[str, Any]:
    """Plain data for `json.dumps`."""
    topology, price = found.config.topology, found.price

    def tried(one: Tried | None) -> dict[str, Any] | None:
        return one and {"flags": one.flags} | estimated(one.estimate)

    def estimated(one: Estimate) -> dict[str, Any]:
        cost = price and one.gpu_hours * price
        return {"hours": one.hours, "gpu_hours": one.gpu_hours, "cost": cost, "given_up": one.given_up}

    return {
        "recipe": found.recipe,
        "child_seconds": found.times,
        "workers": workers_of(found.config),
        "replicas": topology.replicas,
        "children_per_replica": topology.children,
        "shards": topology.shards,
        "batching": topology.batching,
        "seed": found.config.seed,
        **found.figures.to_json(),
        "cost": price and found.figures.gpu_hours * price,
        "what_helps": {
            "children": found.tried_children,
            "unchanged": found.unchanged and estimated(found.unchanged),
            "changes": [tried(one) for one in found.tried],
            "shortest": tried(found.shortest),
            "cheapest": tried(found.cheapest),
            "saves_children": tried(found.saving),
        },
    }


def headline(found: Answer) -> str:
    """What was simulated."""
    topology, config = found.config.topology, found.config
    return (
        f"{found.recipe}: {counted(config.max_children, 'child')} ({found.times}) on"
        f" {counted(workers_of(config), 'worker')}, {counted(topology.replicas, 'replica')} of {topology.children}"
        f" ({topology.batching}), {counted(topology.shards, 'shard')}"
    )


def lines(found: Answer) -> list[tuple[str, str]]:
    """What came of it, as names and texts."""
    f = found.figures
    waits = [f"{_percent(share)} for {what}" for what, share in f.waits.items() if share >= 0.0005]
    stale = f.staleness
    return [
        (
            "time",
            f"{duration(f.seconds)} to {counted(f.children, 'child')}, {f.children_per_hour:,.1f} an hour"
            + (f"; {f.failed:,} of them given up" if f.failed else ""),
        ),
        ("cost", f"{_cost(f.gpu_hours, found.price)}, {f.worker_hours:,.1f} hours of workers"),
        (
            "workers",
            f"{_percent(f.utilisation)} busy ({_percent(f.steady_utilisation)} until the last child was begun);"
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
            f"{counted(f.preemptions, 'preemption')}, {f.preempted:,} of a child in training"
            f" ({counted(f.attempts, 'attempt')}, {f.lost_hours:,.1f} worker hours trained for nothing);"
            f" {counted(f.shard_failures, 'shard')} (away for {f.shards_away_s:,.1f} s);"
            f" {counted(f.replica_failures, 'replica')}",
        ),
        ("replicas", "wait " + (", ".join(waits) or "for nothing")),
    ]


def help_table(found: Answer) -> Table:
    """What each change would make of the search."""
    assert found.unchanged is not None
    table = Table(
        title=f"What would help, estimated from {counted(found.tried_children, 'child')} each", title_justify="left"
    )
    table.add_column("change")
    columns = ["time", "", "GPU hours" if found.price is None else "cost", ""]
    rows = [("none", found.unchanged), *((tried.flags, tried.estimate) for tried in found.tried)]
    gives_up = any(one.given_up for _, one in rows)
    for column in [*columns, "given up"] if gives_up else columns:
        table.add_column(column, justify="right")
    for flags, one in rows:
        table.add_row(
            flags,
            duration(one.hours * HOUR_S),
            _change(one.hours, found.unchanged.hours),
            f"{one.gpu_hours * (1.0 if found.price is None else found.price):,.0f}",
            _change(one.gpu_hours, found.unchanged.gpu_hours),
            *([_percent(one.given_up)] if gives_up else []),
        )
    return table


def verdicts(found: Answer) -> list[str]:
    """Which change saves children, which shortens the search most, and which cuts its cost most."""
    unchanged, saving = found.unchanged, found.saving
    if unchanged is None:
        return []
    gone = _percent(unchanged.given_up)
    saved = (
        [f"{saving.flags} saves the most children: {_percent(saving.estimate.given_up)} are given up instead of {gone}"]
        if saving
        else []
    )
    if found.unsound:
        return [
            *(saved or ["None of these saves children from being given up"]),
            f"What is faster or cheaper is not said while {gone} of the children are given up: they take longer than"
            f" --child-timeout, or are preempted {MAX_PREEMPTIONS} times",
        ]
    return [*saved, *_advice(found, unchanged)]


def _advice(found: Answer, unchanged: Estimate) -> list[str]:
    fast, cheap = found.shortest, found.cheapest
    said = "None of these shortens the search"
    if fast:
        hours = fast.estimate.hours
        said = (
            f"{fast.flags} shortens the search most: {duration(hours * HOUR_S)} instead of"
            f" {duration(unchanged.hours * HOUR_S)} ({_change(hours, unchanged.hours)})"
        )
    money = "None of these cuts the cost"
    if cheap:
        cost, instead = (_cost(one.gpu_hours, found.price) for one in (cheap.estimate, unchanged))
        change = _change(cheap.estimate.gpu_hours, unchanged.gpu_hours)
        money = f"{cheap.flags} cuts the cost most: {cost} instead of {instead} ({change})"
    return [said, money]


def _cost(gpu_hours: float, price: float | None) -> str:
    text = f"{gpu_hours:,.1f} GPU hours"
    return text if price is None else f"{gpu_hours * price:,.2f} for {text}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _change(value: float, instead: float) -> str:
    return f"{value / instead - 1:+.1%}" if instead else "-"
