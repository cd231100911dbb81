"""How a search went: failures, shards, workers, cost; and what to tell of it: configuration, versions, checklist."""

from collections.abc import Callable, Mapping
from typing import Any

from cluster.config.recipes import differences
from cluster.formatting import counted, duration
from cluster.monitoring.failed_attempts import FATES
from cluster.placement.versions import NAMES
from cluster.report.checklist import checklist
from cluster.report.facts import Facts, Learned
from cluster.report.html.axis import axis, time_unit, wait_unit
from cluster.report.html.charts import Line, area_chart, bars, line_chart, nothing
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, joined, prose, tag

VERDICTS = {
    "outcome": "gave the outcome, good or bad",
    "retry": "failed and were retried",
    "late": "given up while it ran",
    "lost": "the run ended around it",
    "void": "never began",
}
"""What attempts came to, as `cluster.search.records.Verdict` has it."""

ANSWERS = {"yes": "✓ yes", "partly": "◐ partly", "open": "○ open"}


def trouble_section(facts: Facts) -> Markup:
    """Failures by cause, and what attempts came to."""
    found = facts.troubles
    if found.attempts:
        causes = bars("Failed attempts by cause", found.attempts, _retried(facts))
    else:
        causes = nothing("Failed attempts by cause", "No attempt has failed.")
    given_up = (
        bars("Children given up, by cause", dict(sorted(found.children.items(), key=lambda item: -item[1])))
        if found.children
        else nothing("Children given up, by cause", "No child was given up.")
    )
    verdicts = bars("What attempts came to", {VERDICTS.get(v, v): n for v, n in found.verdicts.items()})
    latest = [
        tag("tr", tag("td", str(child), class_="number"), tag("td", cause), tag("td", tag("code", error[:400])))
        for child, cause, error in found.latest
    ]
    head = tag("thead", tag("tr", tag("th", "child"), tag("th", "cause"), tag("th", "error, its last line")))
    table = [tag("h3", "The latest"), tag("table", head, tag("tbody", *latest))] if latest else []
    return section("failures", "Failures", tag("div", causes, given_up, verdicts, class_="charts"), *table)


def _retried(facts: Facts) -> str:
    count = sum(facts.troubles.retried.values())
    return f"After {count:,} of {sum(facts.troubles.attempts.values()):,} the child was {FATES['retry']}."


def shard_section(facts: Facts) -> Markup:
    """Staleness, and what replicas waited for the shards."""
    title = "The parameter server"
    if not facts.learned:
        return section("shards", title, tag("p", "No batch has been learnt from yet.", class_="open"))
    status = facts.status
    parts = ", ".join(counted(*part) for part in ((status.shards, "shard"), (status.replicas, "replica")))
    note = (
        f"{parts}, {facts.config.topology.consistency}: {counted(status.updates, 'update')}, in"
        f" {counted(len(facts.learned), 'slice')} by the order in which they were applied."
    )
    charts = (
        _over_time(facts, "Staleness of pushes", "versions", (("worst", _worst), ("mean", _mean))),
        _over_time(facts, "Time of a pull", None, (("95th percentile", _slow_pull), ("median", _pull))),
        _over_time(facts, "Time of a push", None, (("95th percentile", _slow_push), ("median", _push))),
    )
    return section("shards", title, tag("p", note, class_="soft"), tag("div", *charts, class_="charts"))


def _worst(batch: Learned) -> float | None:
    return batch.worst_staleness


def _mean(batch: Learned) -> float | None:
    return batch.staleness


def _pull(batch: Learned) -> float | None:
    return batch.pull


def _slow_pull(batch: Learned) -> float | None:
    return batch.slow_pull


def _push(batch: Learned) -> float | None:
    return batch.push


def _slow_push(batch: Learned) -> float | None:
    return batch.slow_push


Reader = Callable[[Learned], float | None]


def _over_time(facts: Facts, title: str, label: str | None, curves: tuple[tuple[str, Reader], ...]) -> Markup:
    """A chart with a line for each reader; without a label, what they read are seconds.

    Where slices hold a single update the two of them are one, and are said to be.
    """
    unit, name = time_unit(facts.learned[-1].seconds)
    read_all = [value for _, read in curves for batch in facts.learned if (value := read(batch)) is not None]
    of_value, label = wait_unit(max(read_all, default=0.0)) if label is None else (1.0, label)
    lines = [
        Line(
            name=curve,
            points=[
                (batch.seconds / unit, value / of_value)
                for batch in facts.learned
                if (value := read(batch)) is not None
            ],
            style=1 - number,
        )
        for number, (curve, read) in enumerate(curves)
    ]
    found = [point for line in lines for point in line.points]
    if not found:
        return nothing(title, "The ledger has none of it.")
    note = ""
    if all(line.points == lines[-1].points for line in lines):
        note = f"{' and '.join(line.name for line in lines)} are the same.".capitalize()
        lines = lines[-1:]
    x = axis(f"{name} since the first child", [at for at, _ in found], zero=True)
    return line_chart(title, x, axis(label, [value for _, value in found], zero=True), lines, note)


def work_section(facts: Facts) -> Markup:
    """How busy the workers were, and what it all cost."""
    work = facts.work
    title = "Busy workers"
    if work.busy:
        unit, name = time_unit(work.busy[-1][0])
        points = [(seconds / unit, value) for seconds, value in work.busy]
        x = axis(f"{name} since the first child", [at for at, _ in points], zero=True)
        y = axis("workers that train", [value for _, value in points] + [facts.status.workers], zero=True)
        of = counted(facts.status.workers, "worker")
        note = f"On average in each of {len(points)} slices, pauses included, of {of}."
        chart = area_chart(title, x, y, points, note)
    else:
        chart = nothing(title, "No attempt has begun.")
    lost = work.seconds - work.useful
    rows = [
        ("Time of the run", f"{duration(facts.status.seconds)}, without pauses"),
        ("Worker time", f"{_hours(work.seconds)} in {counted(work.attempts, 'attempt')}"),
        ("of it gave a metric", _hours(work.useful)),
        ("of it gave none", f"{_hours(max(0.0, lost))}: failed, given up, lost, or in training now"),
        ("GPU time", _gpu_time(facts)),
    ]
    table = tag("table", *(tag("tr", tag("th", what, scope="row"), tag("td", prose(value))) for what, value in rows))
    cost = tag("figure", tag("figcaption", tag("b", "Total cost")), table, class_="chart")
    return section("work", "Workers and cost", tag("div", chart, cost, class_="charts"))


def _gpu_time(facts: Facts) -> str:
    if facts.gpus_per_child is None:
        return "not known before a child has finished"
    if not facts.gpus_per_child:
        return "none: children have no GPU"
    return f"{_hours(facts.gpu_seconds)} at {counted(facts.gpus_per_child, 'GPU')} a child"


def _hours(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 3600:,.3f} h"


def configuration_section(facts: Facts) -> Markup:
    """The options that are not as by default, then all; the versions and the seed."""
    apart = differences(facts.config)
    whole = _flat(facts.config.to_json())
    return section(
        "configuration",
        "Configuration, versions, seed",
        tag("p", "What differs from the defaults, which are the paper's constants:", class_="soft"),
        _table(apart),
        tag("details", tag("summary", f"All {len(whole)} options"), _table(whole), id="options"),
        tag("h3", "Seed and versions"),
        tag("p", "As the run's driver had them, at its start and wherever it was resumed with others.", class_="soft"),
        _table({"seed": facts.config.seed, **_versions(facts)}),
    )


def _versions(facts: Facts) -> dict[str, str]:
    if not facts.versions:
        return {"versions": "not in the ledger, which an earlier nascluster has begun"}
    return {label: facts.version(name) for name, label in NAMES.items()}


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flat(value) if isinstance(value, dict) else {name.replace("_", "-"): value}
    return found


def _table(values: Mapping[str, Any]) -> Markup:
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", tag("code", _plain(v)))) for name, v in values.items())
    return tag("div", tag("table", *rows), class_="scroll")


def _plain(value: object) -> str:
    if value is None or value == "":
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def checklist_section(facts: Facts) -> Markup:
    """The practices for research on NAS, filled in as far as the run knows."""
    groups: list[Markup] = []
    for heading, items in checklist(facts).items():
        rows = [
            tag(
                "tr",
                tag("td", ANSWERS[i.answer], class_=f"mark {i.answer}"),
                tag("td", i.practice),
                tag("td", prose(i.why)),
            )
            for i in items
        ]
        groups.append(joined([tag("h3", heading), tag("div", tag("table", *rows), class_="scroll")]))
    note = (
        "After Lindauer and Hutter, Best Practices for Scientific Research on Neural Architecture Search (JMLR 21,"
        " 2020). What the run cannot know is open, and yours to answer."
    )
    return section("checklist", "Best-practice checklist", tag("p", note, class_="soft"), *groups)
