"""The standings as a table of texts, and in Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from child_trainer.outcome import Measure
from cluster.compare.plan import BASELINE
from cluster.compare.standings import Figure, Standing, Summary
from cluster.compare.table_front import TableFront
from cluster.formatting import metric_name
from controller.statistics import LEVEL, Interval

FEW_SEEDS = 20
"""With fewer seeds the bootstrap intervals are too narrow, which a note says."""

COVERAGE = {2: 0.50, 3: 0.75, 5: 0.84, 10: 0.90}
"""Share of intervals that contain the true mean of normal values, by number of seeds (docs/compare.md)."""


SHARE = Measure.ACCURACY
"""Shares are displayed as accuracies are: in percent."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; the first column has the names."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def table(summary: Summary) -> Table:
    """Return the standings, one row per searcher."""
    unit = percent(summary.measure)
    metric = f"{metric_name(summary.measure)}{unit}"
    head = ["searcher", "children"]
    if front := summary.plan.front:
        head += ["hypervolume, %", f"of {len(front.points):,} on the front", f"ahead of {BASELINE}"]
    head.append(f"best {metric}")
    tested = all(standing.test for standing in summary.standings)
    if summary.best:
        head.append("regret")
    if tested:
        head += [f"its test {summary.measure}{unit}", "regret"]
    head.append(f"{'test ' if tested else ''}ahead of {BASELINE}")
    return Table(head, [_row(summary, standing) for standing in summary.standings])


def _row(summary: Summary, standing: Standing) -> list[str]:
    measure = summary.measure
    row = [standing.label, _children(standing)]
    if (share := standing.hypervolume) is not None:
        row += [_figure(share, SHARE), f"{standing.found:.2f}", _ahead(share, SHARE)]
    last = standing.metric
    for figure in (standing.metric, standing.test):
        if figure is not None:
            row.append(_figure(figure, measure))
            if figure.regret is not None:
                row.append(value(figure.regret.mean, measure))
            last = figure
    row.append(_ahead(last, measure))
    return row


def _ahead(figure: Figure, measure: Measure) -> str:
    return "" if figure.ahead is None else _bounds(figure.ahead, measure, signed=True)


def notes(summary: Summary) -> list[str]:
    """Return the notes that explain the table's figures, one sentence each."""
    sentences = [
        f"Means over {len(summary.plan.seeds):,} seeds ± their standard deviation, in brackets the"
        f" {LEVEL:.0%} bootstrap interval of the mean."
    ]
    if summary.plan.front:
        sentences.append(_on_hypervolume(summary.plan.front, summary.measure))
    if summary.best:
        best = f"Regret is the distance to the best of the table: {_best(summary, summary.best.metric, 'metric')}"
        if summary.best.test is not None:
            best += f", {_best(summary, summary.best.test, 'test')}"
        sentences.append(best + ".")
    if any(standing.test for standing in summary.standings):
        sentences.append("The test figure is that of the child with the best metric; no searcher sees it.")
    sentences += summary.estimation_note
    sentences.append(f"Ahead of {BASELINE}: the difference to random search with the same seed, positive if better.")
    if len(summary.plan.seeds) < FEW_SEEDS:
        shares = ", ".join(f"{share:.0%} with {seeds} seeds" for seeds, share in COVERAGE.items())
        sentences.append(
            f"With fewer than {FEW_SEEDS} seeds the intervals are too narrow. Share of them that contain the mean of"
            f" normal values: {shares}."
        )
    return [*sentences, *_cautions(summary)]


def _on_hypervolume(front: TableFront, measure: Measure) -> str:
    """Return what the hypervolume is."""
    metric, *costs = front.reference
    shown = f"{value(metric if measure.lower_is_better else -metric, measure)}{' %' if percent(measure) else ''}"
    worst = ", ".join((shown, *(cost.text(most) for cost, most in zip(front.costs, costs, strict=True))))
    names = " and ".join((metric_name(measure), *(cost.words for cost in front.costs)))
    return (
        f"Hypervolume is what the children dominate in {names}, as a share of what the front of the table dominates, up"
        f" to the worst of each on that front: {worst}. Beside it is how many points of that front were found."
    )


def _cautions(summary: Summary) -> Iterator[str]:
    """Yield the warnings of searchers whose options do not suit so few children."""
    for entrant, standing in zip(summary.plan.entrants, summary.standings, strict=True):
        options = entrant.config.searcher_options
        caution = options.caution(standing.children) if hasattr(options, "caution") else None
        if caution is not None:
            yield f"{standing.label}: {caution}. A search had {_children(standing)}."


def _best(summary: Summary, best: float, what: str) -> str:
    name = metric_name(summary.measure) if what == "metric" else f"test {summary.measure}"
    return f"{value(best, summary.measure)}{' %' if percent(summary.measure) else ''} {name}"


def markdown(summary: Summary) -> str:
    """Return the table in Markdown, with heading and notes."""
    standings, plan = table(summary), summary.plan
    title = f"{plan.recipe}, {plan.limit} for each search, seeds {plan.seeds[0]} to {plan.seeds[-1]}"
    lines = [
        f"# {title}",
        "",
        *(
            "| " + " | ".join(cells) + " |"
            for cells in (standings.head, ["---"] * len(standings.head), *standings.rows)
        ),
        "",
        *notes(summary),
    ]
    return "\n".join(lines) + "\n"


def percent(measure: Measure) -> str:
    """Return the unit that follows the name of a figure in percent, else nothing."""
    return ", %" if measure is Measure.ACCURACY else ""


def scaled(number: float, measure: Measure) -> float:
    """Return a number in the unit of display: accuracies in percent."""
    return 100 * number if measure is Measure.ACCURACY else number


def value(number: float, measure: Measure, *, signed: bool = False) -> str:
    """Return a number as text: two decimals of a percent, four of a score."""
    digits = 2 if measure is Measure.ACCURACY else 4
    return f"{scaled(number, measure):{'+' if signed else ''}.{digits}f}"


def _bounds(interval: Interval, measure: Measure, *, signed: bool = False) -> str:
    mean, low, high = (value(v, measure, signed=signed) for v in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def _children(standing: Standing) -> str:
    return f"{standing.children:,.1f}".removesuffix(".0")


def _figure(figure: Figure, measure: Measure) -> str:
    at_end, deviation = figure.at_end, value(figure.deviation, measure)
    return f"{_bounds(at_end, measure).replace(' [', f' ± {deviation} [')}"
