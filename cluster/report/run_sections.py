"""Sections on failures, shards, workers and cost; on configuration and versions; and the checklist."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.config.recipes import differences
from cluster.formatting import counted, duration
from cluster.monitoring.failed_attempts import VERDICT_TEXTS
from cluster.monitoring.live_view import stopped_text
from cluster.placement.versions import NAMES
from cluster.report.checklist import checklist
from cluster.report.facts import Facts, Learned
from cluster.report.html.axis import axis, time_unit, wait_unit
from cluster.report.html.charts import Line, area_chart, bars, line_chart, nothing
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, joined, prose, tag

VERDICTS = {
    "outcome": "decided the outcome, good or bad",
    "retry": "failed and were retried",
    "late": "ended after the child was decided",
    "lost": "lost with the run",
    "void": "never started",
}
"""Texts for each `cluster.search.records.Verdict`."""

ANSWERS = {"yes": "✓ yes", "partly": "◐ partly", "open": "○ open"}


def trouble_section(facts: Facts) -> Markup:
    """Return the section on failures by cause and verdicts of attempts."""
    troubles = facts.troubles
    if troubles.attempts:
        causes = bars("Failed attempts by cause", troubles.attempts, _retried(facts))
    else:
        causes = nothing("Failed attempts by cause", "No attempt has failed.")
    failed = (
        bars("Failed children by cause", dict(sorted(troubles.children.items(), key=lambda item: -item[1])))
        if troubles.children
        else nothing("Failed children by cause", "No child has failed.")
    )
    verdicts = bars("Results of attempts", {VERDICTS.get(v, v): n for v, n in troubles.verdicts.items()})
    latest = [
        tag("tr", tag("td", str(child), class_="number"), tag("td", cause), tag("td", tag("code", error[:400])))
        for child, cause, error in troubles.latest
    ]
    head = tag("thead", tag("tr", tag("th", "child"), tag("th", "cause"), tag("th", "last line of the error")))
    table = [tag("h3", "The latest"), tag("table", head, tag("tbody", *latest))] if latest else []
    return section("failures", "Failures", tag("div", causes, failed, verdicts, class_="charts"), *table)


def _retried(facts: Facts) -> str:
    count = sum(facts.troubles.retried.values())
    return f"After {count:,} of {sum(facts.troubles.attempts.values()):,} the child was {VERDICT_TEXTS['retry']}."


def shard_section(facts: Facts) -> Markup:
    """Return the section on staleness and on times of pulls and pushes."""
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
    """Return a chart with a line for each reader; without a label, the values are seconds.

    If all lines are equal, as with slices of a single update, only one is drawn, with a note.
    """
    unit, name = time_unit(facts.learned[-1].seconds)
    values = [value for _, read in curves for batch in facts.learned if (value := read(batch)) is not None]
    value_unit, label = wait_unit(max(values, default=0.0)) if label is None else (1.0, label)
    lines = [
        Line(
            name=curve,
            points=[
                (batch.seconds / unit, value / value_unit)
                for batch in facts.learned
                if (value := read(batch)) is not None
            ],
            style=1 - number,
        )
        for number, (curve, read) in enumerate(curves)
    ]
    points = [point for line in lines for point in line.points]
    if not points:
        return nothing(title, "The ledger has no data on it.")
    note = ""
    if all(line.points == lines[-1].points for line in lines):
        note = f"{' and '.join(line.name for line in lines)} are the same.".capitalize()
        lines = lines[-1:]
    x = axis(f"{name} since the first child", [at for at, _ in points], zero=True)
    return line_chart(title, x, axis(label, [value for _, value in points], zero=True), lines, note)


def work_section(facts: Facts) -> Markup:
    """Return the section on busy workers and total cost."""
    work = facts.work
    title = "Busy workers"
    if work.busy:
        unit, name = time_unit(work.busy[-1][0])
        points = [(seconds / unit, value) for seconds, value in work.busy]
        x = axis(f"{name} since the first child", [at for at, _ in points], zero=True)
        y = axis("workers in training", [value for _, value in points] + [facts.status.workers], zero=True)
        workers = counted(facts.status.workers, "worker")
        note = f"Average in each of {len(points)} slices, pauses included, of {workers}."
        chart = area_chart(title, x, y, points, note)
    else:
        chart = nothing(title, "No attempt has started.")
    lost, stopped = work.seconds - work.useful, facts.status.stopped
    rows = [
        ("Time of the run", f"{duration(facts.status.seconds)}, without pauses"),
        ("Worker time", f"{_hours(work.seconds)} in {counted(work.attempts, 'attempt')}"),
        ("with a metric", _hours(work.useful)),
        ("without one", f"{_hours(max(0.0, lost))}: failed, timed out, lost, or in training now"),
        ("GPU time", _gpu_time(facts)),
        *([("Stopped early", stopped_text(stopped, facts.status.epochs_saved))] if stopped else []),
    ]
    table = tag("table", *(tag("tr", tag("th", what, scope="row"), tag("td", prose(value))) for what, value in rows))
    cost = tag("figure", tag("figcaption", tag("b", "Total cost")), table, class_="chart")
    return section("work", "Workers and cost", tag("div", chart, cost, class_="charts"))


def _gpu_time(facts: Facts) -> str:
    if facts.gpus_per_child is None:
        return "unknown until a child has finished"
    if not facts.gpus_per_child:
        return "none: children have no GPU"
    return f"{_hours(facts.gpu_seconds)} at {counted(facts.gpus_per_child, 'GPU')} a child"


def _hours(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 3600:,.3f} h"


def configuration_section(facts: Facts) -> Markup:
    """Return the section on the options that differ from the defaults, all options, seed and versions."""
    changed = differences(facts.config)
    options = _flat(facts.known.data if facts.known.unknown else facts.config.to_json())
    return section(
        "configuration",
        "Configuration, versions, seed",
        tag("p", "What differs from the defaults, which are the paper's constants:", class_="soft"),
        _table(changed),
        tag("details", tag("summary", f"All {len(options)} options"), _table(options), id="options"),
        tag("h3", "Seed and versions"),
        tag("p", "Versions of the run's driver, at its start and at each resume that changed them.", class_="soft"),
        _table({"seed": facts.config.seed, **_versions(facts)}),
    )


def _versions(facts: Facts) -> dict[str, str]:
    if not facts.versions:
        return {"versions": "not in the ledger, which an earlier version of nascluster created"}
    recorded = {"processor": "processor of the driver", "threads": "threads per child"}
    names = NAMES | {name: label for name, label in recorded.items() if any(name in start for start in facts.versions)}
    return {label: facts.version(name) for name, label in names.items()}


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in data.items():
        options |= _flat(value) if isinstance(value, dict) else {name.replace("_", "-"): value}
    return options


def _table(values: Mapping[str, Any]) -> Markup:
    shown = {name: LISTED.get(name, _plain)(value) for name, value in values.items()}
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", tag("code", text))) for name, text in shown.items())
    return tag("div", tag("table", *rows), class_="scroll")


def _plain(value: object) -> str:
    if value is None or value == "":
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _counted(architectures: Sequence[str]) -> str:
    return f"{counted(len(architectures), 'architecture')}, in config.json"


LISTED: Mapping[str, Callable[[Any], str]] = {
    "architectures": _counted,
    "file-list": lambda files: "those of the data, in config.json" if files else "unset",
}
"""What is shown of options that may be long: given architectures, and the files of the data."""


def checklist_section(facts: Facts) -> Markup:
    """Return the section with the checklist of best practices, filled in as far as the run knows."""
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
