"""A comparison as one HTML page, in the style of a run's report."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from child_trainer.outcome import Measure
from cluster.compare.markdown_table import SHARE, notes, percent, scaled, table
from cluster.compare.plan import Plan
from cluster.compare.standings import Figure, Standing, Summary
from cluster.config.recipes import differences
from cluster.config.run_config import RunConfig
from cluster.formatting import counted, metric_name
from cluster.report.html.axis import axis, time_unit
from cluster.report.html.charts import LEVEL, Line, line_chart
from cluster.report.html.document import document
from cluster.report.html.markup import Markup, joined, tag

FAR = 0.5
"""A line is not drawn if without it the axis would have at most this share of its length."""

MOST_FAR = 3
"""One of so many lines may be left out."""

HIDDEN_SETTINGS = ("searcher", "local", "max-children", "seed")
"""Settings that the page shows in other words."""


def page(summary: Summary, now: float) -> str:
    """Return the HTML page of a comparison.

    Args:
        summary: the comparison.
        now: Unix time, shown as the page's date.
    """
    plan = summary.plan
    title = " and ".join([", ".join(e.label for e in plan.entrants[:-1]), plan.entrants[-1].label])
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    what = (
        f"{plan.recipe}: {plan.limit} for each search, {counted(len(plan.seeds), 'seed')}"
        f" ({plan.seeds[0]} to {plan.seeds[-1]}) for each searcher. {when}."
    )
    return document(
        f"Compared: {plan.recipe}",
        tag("h1", title),
        tag("p", what, class_="soft"),
        _standings(summary),
        tag("h2", "The best so far"),
        tag("p", _caption(summary), class_="soft"),
        tag("div", *_charts(summary), class_="charts two"),
        tag("h2", "What was compared"),
        _settings(plan),
        tag("footer", tag("p", "Written by nascluster compare.")),
    )


def _standings(summary: Summary) -> Markup:
    standings = table(summary)
    head = tag("tr", *(tag("th", cell, scope="col", class_=_cell(place)) for place, cell in enumerate(standings.head)))
    rows = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell, class_="number") for cell in row[1:]))
        for row in standings.rows
    ]
    scrolled = tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll")
    return tag("section", scrolled, *(tag("p", note, class_="note") for note in notes(summary)))


def _cell(place: int) -> str | None:
    return "number" if place else None


def _caption(summary: Summary) -> str:
    text = "Lines are means over the seeds, bands their bootstrap intervals"
    if summary.best:
        text += "; the level line is the best of the table"
    return f"{text}. The first tenth of the budget is left out."


def _charts(summary: Summary) -> list[Markup]:
    metric, charts = metric_name(summary.measure), list[Markup]()
    if shares := [(standing, standing.hypervolume) for standing in summary.standings if standing.hypervolume]:
        label = "hypervolume, % of the table's"
        charts.append(_chart(summary, "Hypervolume of the children's front", label, shares, 1.0, SHARE))
    charts.append(
        _chart(
            summary,
            f"Best {metric}",
            f"{metric}{percent(summary.measure)}",
            [(standing, standing.metric) for standing in summary.standings],
            summary.best and summary.best.metric,
            summary.measure,
        )
    )
    tested = [(standing, standing.test) for standing in summary.standings if standing.test]
    if tested:
        name = f"test {summary.measure}"
        optimum = summary.best and summary.best.test
        charts.append(
            _chart(
                summary,
                f"{name.capitalize()} of the child with the best {metric}",
                f"{name}{percent(summary.measure)}",
                tested,
                optimum,
                summary.measure,
            )
        )
    return charts


def _chart(
    summary: Summary,
    title: str,
    label: str,
    figures: Sequence[tuple[Standing, Figure]],
    optimum: float | None,
    measure: Measure,
) -> Markup:
    unit, name = (1.0, "children") if summary.plan.limit.children else time_unit(summary.grid[-1])
    places = [place / unit for place in summary.grid]
    lines: list[Line] = []
    for style, (standing, figure) in enumerate(figures):
        known = [(at, bounds) for at, bounds in zip(places, figure.curve, strict=True) if bounds]
        lines.append(
            Line(
                name=standing.label,
                points=[(at, scaled(bounds.mean, measure)) for at, bounds in known],
                style=style,
                spread=[(at, scaled(bounds.low, measure), scaled(bounds.high, measure)) for at, bounds in known],
            )
        )
    lines, far = _near(lines)
    values = _ends(lines)
    if optimum is not None:
        level = scaled(optimum, measure)
        ends = [(places[0], level), (places[-1], level)]
        lines.append(Line(name="best of the table", points=ends, style=LEVEL))
        values.append(level)
    x = axis(f"{name} of the budget" if unit != 1.0 or name != "children" else name, places, zero=True)
    ends = ", ".join(f"{line.name} ({line.points[-1][1]:.2f})" for line in far)
    note = f"not drawn, because far from the others: {ends}" if far else ""
    return line_chart(title, x, axis(label, values), lines, note)


def _near(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines to draw, and those that would press all others together, each in their order."""
    far: list[Line] = []
    near = [line for line in lines if line.points]
    while len(far) + 1 <= len(lines) // MOST_FAR:
        middle = median(line.points[-1][1] for line in near)
        farthest = max(near, key=lambda line: abs(line.points[-1][1] - middle))
        others = [line for line in near if line is not farthest]
        if _length(others) > FAR * _length(near):
            break
        near, far = others, [*far, farthest]
    return near, far


def _length(lines: Sequence[Line]) -> float:
    values = _ends(lines)
    return max(values) - min(values)


def _ends(lines: Sequence[Line]) -> list[float]:
    return [value for line in lines for _, *ends in line.spread for value in ends]


def _settings(plan: Plan) -> Markup:
    """Return a table of the common flags and of each searcher's own."""
    settings = {entrant.label: _flags(entrant.config) for entrant in plan.entrants}
    common = [flag for flag in settings[plan.baseline.label] if all(flag in ours for ours in settings.values())]
    rows = [("all of them", common)]
    rows += [(label, [flag for flag in ours if flag not in common]) for label, ours in settings.items()]
    cells = [
        tag("tr", tag("th", name, scope="row"), tag("td", _flag_list(flags) if flags else "no other settings"))
        for name, flags in rows
    ]
    return tag("div", tag("table", *cells), class_="scroll")


def _flag_list(flags: Sequence[str]) -> Markup:
    return joined([tag("code", flag, class_="key") for flag in flags], " ")


def _flags(config: RunConfig) -> list[str]:
    """Return the flags of all settings that differ from the defaults."""
    settings = differences(config)
    texts = {name: " ".join(map(str, value)) if isinstance(value, tuple) else value for name, value in settings.items()}
    return [f"--{name} {text}" for name, text in texts.items() if name not in HIDDEN_SETTINGS]
