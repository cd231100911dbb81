"""The standings as a table: of texts, and of those in Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from child_trainer.outcome import Measure
from cluster.compare.plan import BASELINE
from cluster.compare.summary import Figure, Standing, Summary
from cluster.formatting import metric_name
from controller.statistics import LEVEL, Interval

FEW = 20
"""Seeds, of fewer of which intervals of this kind are so narrow that a reader must be told."""

COVERAGE = {2: 0.50, 3: 0.75, 5: 0.84, 10: 0.90}
"""Share of the intervals of so many normal values that hold the true mean (docs/compare.md)."""


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows, the first column with the names."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def table(summary: Summary) -> Table:
    """One row a searcher."""
    unit = percent(summary.measure)
    metric = f"{metric_name(summary.measure)}{unit}"
    head = ["searcher", "children", f"best {metric}"]
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
    last = standing.metric
    for figure in (standing.metric, standing.test):
        if figure is not None:
            row.append(_figure(figure, measure))
            if figure.regret is not None:
                row.append(value(figure.regret.mean, measure))
            last = figure
    row.append("" if last.ahead is None else _bounds(last.ahead, measure, signed=True))
    return row


def notes(summary: Summary) -> list[str]:
    """What the table's figures are, a sentence each."""
    found = [
        f"Means over {len(summary.plan.seeds):,} seeds ± their standard deviation, in brackets the"
        f" {LEVEL:.0%} bootstrap interval of the mean."
    ]
    if summary.best:
        best = f"Regret is what is missing to the best of the table: {_best(summary, summary.best.metric, 'metric')}"
        if summary.best.test is not None:
            best += f", {_best(summary, summary.best.test, 'test')}"
        found.append(best + ".")
    if any(standing.test for standing in summary.standings):
        found.append("The test figure is that of the child with the best metric; no searcher is told of it.")
    found += summary.about_seconds
    found.append(f"Ahead of {BASELINE}: the difference to random search with the same seed, positive where better.")
    if len(summary.plan.seeds) < FEW:
        shares = ", ".join(f"{share:.0%} of those of {seeds}" for seeds, share in COVERAGE.items())
        found.append(
            f"Of fewer than {FEW} seeds the intervals are too narrow: the mean of normal values is in {shares}."
        )
    return [*found, *_cautions(summary)]


def _cautions(summary: Summary) -> Iterator[str]:
    """Yield what the searchers' options say of searches with so few children."""
    for entrant, standing in zip(summary.plan.entrants, summary.standings, strict=True):
        options = entrant.config.searcher_options
        caution = options.caution(standing.children) if hasattr(options, "caution") else None
        if caution is not None:
            yield f"{standing.label}: {caution}. A search had {_children(standing)}."


def _best(summary: Summary, best: float, what: str) -> str:
    name = metric_name(summary.measure) if what == "metric" else f"test {summary.measure}"
    return f"{value(best, summary.measure)}{' %' if percent(summary.measure) else ''} {name}"


def markdown(summary: Summary) -> str:
    """The table with its heading and notes."""
    found, plan = table(summary), summary.plan
    title = f"{plan.recipe}, {plan.limit} for each search, seeds {plan.seeds[0]} to {plan.seeds[-1]}"
    lines = [
        f"# {title}",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (found.head, ["---"] * len(found.head), *found.rows)),
        "",
        *notes(summary),
    ]
    return "\n".join(lines) + "\n"


def percent(measure: Measure) -> str:
    """What follows the name of a figure that is told in percent."""
    return ", %" if measure is Measure.ACCURACY else ""


def scaled(number: float, measure: Measure) -> float:
    """In the unit in which the measure is told."""
    return 100 * number if measure is Measure.ACCURACY else number


def value(number: float, measure: Measure, *, signed: bool = False) -> str:
    """Two digits of a percent, four of a score."""
    digits = 2 if measure is Measure.ACCURACY else 4
    return f"{scaled(number, measure):{'+' if signed else ''}.{digits}f}"


def _bounds(found: Interval, measure: Measure, *, signed: bool = False) -> str:
    mean, low, high = (value(v, measure, signed=signed) for v in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def _children(standing: Standing) -> str:
    return f"{standing.children:,.1f}".removesuffix(".0")


def _figure(figure: Figure, measure: Measure) -> str:
    at_end, deviation = figure.at_end, value(figure.deviation, measure)
    return f"{_bounds(at_end, measure).replace(' [', f' ± {deviation} [')}"
