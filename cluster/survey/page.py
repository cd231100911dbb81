"""A survey as one HTML page, in the style of a run's report."""

from collections.abc import Sequence
from datetime import UTC, datetime

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from cluster.formatting import duration
from cluster.report.drawing import architecture_svg
from cluster.report.html.axis import axis, time_unit
from cluster.report.html.charts import Line, line_chart
from cluster.report.html.document import document
from cluster.report.html.markup import Markup, tag
from cluster.survey.files import CellResult
from cluster.survey.standings import Bounds, Standing, Summary
from cluster.survey.systems import SURVEYED
from cluster.survey.table import HEAD, PAPER_HEAD, notes, reported, rows, title


def page(summary: Summary, now: float) -> str:
    """Return the HTML page of a survey.

    Args:
        summary: the survey.
        now: Unix time, shown as the page's date.
    """
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return document(
        f"Survey: {summary.plan.request.task}",
        tag("h1", f"Survey: {summary.plan.request.task}"),
        tag("p", f"{title(summary)}. {when}.", class_="soft"),
        _table(summary),
        tag("h2", "The best so far"),
        tag(
            "p",
            "Validation accuracy of the best child against the time of a core, the mean over the seeds; bands are"
            " bootstrap intervals. Scores with shared weights, where a title says so, cannot be compared with the"
            " accuracies of trained children.",
            class_="soft",
        ),
        tag("div", *(_chart(summary, one) for one in summary.standings if one.results), class_="charts"),
        tag("h2", "The winners"),
        tag("div", *(_winner(one) for one in summary.standings if one.results), class_="champions"),
        tag("h2", "What it took"),
        _cost(summary),
        tag("h2", "What the papers report"),
        tag("p", "Of CIFAR-10, with networks a hundred times larger and other trainings.", class_="soft"),
        _papers(summary),
        tag("footer", tag("p", "Written by nascluster survey.")),
    )


def _table(summary: Summary) -> Markup:
    explained = (tag("p", note, class_="note") for note in notes(summary))
    return tag("section", _scrolled(HEAD, rows(summary)), *explained)


def _papers(summary: Summary) -> Markup:
    found = [(one.name, *reported(one)) for one in summary.standings]
    return _scrolled((HEAD[0], *PAPER_HEAD), found, texts=len(PAPER_HEAD))


def _scrolled(head: Sequence[str], found: Sequence[Sequence[str]], texts: int = 0) -> Markup:
    """Return a table of which the columns after the first `texts` + 1 are numbers."""

    def kind(place: int) -> str | None:
        return "number" if place > texts else None

    top = tag("tr", *(tag("th", cell, scope="col", class_=kind(place)) for place, cell in enumerate(head)))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_=kind(place)) for place, cell in enumerate(row[1:], start=1)),
        )
        for row in found
    ]
    return tag("div", tag("table", tag("thead", top), tag("tbody", *body)), class_="scroll")


def _chart(summary: Summary, one: Standing) -> Markup:
    unit, name = time_unit(summary.grid[-1])
    curves = [(one.name, one.word), ("random search", summary.plan.rivals[one.word])]
    lines = [
        _line(label, style, [at / unit for at in summary.grid], summary.curve(of, one.seeds))
        for style, (label, of) in enumerate(curves)
    ]
    values = [end for line in lines for point in line.spread for end in point[1:]]
    values += [value for line in lines for _, value in line.points]
    x = axis(f"{name} of a core", [summary.grid[-1] / unit], zero=True)
    label = "scores and validation accuracy, %" if one.scored else "validation accuracy, %"
    return line_chart(f"{one.name}{' (scores)' if one.scored else ''}", x, axis(label, values), lines)


def _line(name: str, style: int, places: Sequence[float], curve: Sequence[Bounds | None]) -> Line:
    known = [(at, bounds) for at, bounds in zip(places, curve, strict=True) if bounds is not None]
    return Line(
        name=name,
        points=[(at, 100 * bounds.mean) for at, bounds in known],
        style=style,
        steps=True,
        spread=[
            (at, 100 * bounds.interval.low, 100 * bounds.interval.high)
            for at, bounds in known
            if bounds.interval is not None
        ],
    )


def _winner(one: Standing) -> Markup:
    """Return a card with the winner of the first seed, and what each seed's has reached."""
    first = one.results[0]
    reached = ", ".join(_reached(result) for result in one.results)
    size = "" if first.parameters is None else f"{first.parameters:,} parameters"
    return tag(
        "div",
        tag("h3", one.name),
        tag("p", f"Seed {first.seed}: {size}. Retrained, by seed: {reached} %.", class_="soft"),
        _drawn(first),
        class_="card",
    )


def _reached(result: CellResult) -> str:
    return "-" if result.accuracy is None else f"{100 * result.accuracy:.2f}"


def _drawn(result: CellResult) -> Markup:
    if result.architecture is None:
        return tag("p", "There is no picture of it.", class_="open")
    try:
        return tag("span", architecture_svg(Architecture.from_json(result.architecture)), class_="drawn")
    except InvalidArchitecture as error:
        return tag("p", f"Not known to this version of nascluster: {error}", class_="open")


def _cost(summary: Summary) -> Markup:
    head = ("system", "searched with", "its schedule here", "core time", "children", "training of the winner")
    found = [
        (
            one.name,
            SURVEYED[one.word].recipe,
            one.results[0].fit or "as in its named run, to the end of the budget",
            duration(one.mean("spent")),
            f"{one.mean('children') or 0:,.0f}",
            duration(one.mean("retrained_s")),
        )
        for one in summary.standings
        if one.results
    ]
    return _scrolled(head, found, texts=2)
