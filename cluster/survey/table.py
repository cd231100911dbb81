"""A survey's standings as a table of texts, in Markdown and for a terminal."""

from collections.abc import Sequence

from cluster.formatting import aligned, counted, duration
from cluster.survey.standings import Bounds, Standing, Summary
from cluster.survey.systems import LEFT_OUT, SURVEYED
from controller.statistics import LEVEL

HEAD = ("system", "children", "core time", "parameters", "retrained, %", "random search, %", "ahead", "seeds")

PAPER_HEAD = ("the paper reports", "what its search took")


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return a row for each system, of what was measured: the columns of `HEAD`."""
    return [
        (
            one.name + (" *" if one.by_validation else ""),
            _number(one.mean("children")),
            duration(one.mean("spent")),
            _number(one.mean("parameters")),
            percent(one.accuracy),
            percent(one.rival),
            percent(one.ahead, signed=True),
            str(len(one.seeds)),
        )
        for one in summary.standings
    ]


def reported(one: Standing) -> tuple[str, str]:
    """Return what a system's paper reports: the columns of `PAPER_HEAD`."""
    surveyed = SURVEYED[one.word]
    return f"{surveyed.reported} ({surveyed.source})", surveyed.took or "-"


def title(summary: Summary) -> str:
    """Return what the survey is of."""
    request = summary.plan.request
    return (
        f"{request.task}, {duration(request.budget_s)} of a core for each search, {counted(request.seeds, 'seed')} each"
    )


def text(summary: Summary) -> str:
    """Return the table for a terminal, and the notes."""
    return "\n".join([*aligned([HEAD, *rows(summary)]), "", *notes(summary)])


def markdown(summary: Summary) -> str:
    """Return the table in Markdown, the notes, and a table of what the papers report."""
    papers = _table([HEAD[0], *PAPER_HEAD], [(one.name, *reported(one)) for one in summary.standings])
    parts = [f"# Survey: {title(summary)}", _table(HEAD, rows(summary)), *notes(summary), papers]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def notes(summary: Summary) -> list[str]:
    """Return the sentences that explain the table."""
    request = summary.plan.request
    found = [
        f"Each search has {duration(request.budget_s)} of one core, all of its processes together; it ends there, or"
        " earlier with its own schedule. Its winner, and that of random search in the same space with the same seed"
        " and budget, is then trained from scratch like all others, for"
        f" {counted(request.epochs, 'epoch')} with a seed that no search uses, and looks at the test images once.",
        f"Means over the seeds, in brackets their {LEVEL:.0%} bootstrap interval, which is too narrow with so few;"
        " ahead is the difference to random search of each seed.",
    ]
    if any(one.by_validation for one in summary.standings):
        found.append(
            "*: its networks have a loss of their own, and are not trained on the validation images: the accuracy is of"
            " these, which have chosen the winner. They keep their own learning rate."
        )
    found += summary.verdicts()
    if fits := summary.fits():
        said = "; ".join(f"{name}: {fit}" for name, fit in fits.items())
        found.append(
            f"Schedules that follow the number of children are fitted to the budget by a probe, seed 1: {said}."
        )
    lost: dict[str, list[str]] = {}
    for one in summary.standings:
        for seed, fault in one.lost.items():
            lost.setdefault(fault, []).append(f"{one.name}, seed {seed}")
    found += [f"{'; '.join(whose)}: {fault}." for fault, whose in lost.items()]
    if summary.missing:
        found.append(f"Not measured yet: {', '.join(summary.missing)}.")
    left_out = "; ".join(f"{name}: {reason}" for name, reason in LEFT_OUT.items())
    return [*found, f"Not measured here: {left_out}."]


def percent(value: Bounds | None, *, signed: bool = False) -> str:
    """Return an accuracy in percent with its interval; a dash for none."""
    if value is None:
        return "-"
    numbers = [value.mean] if value.interval is None else [value.mean, value.interval.low, value.interval.high]
    mean, *ends = (f"{100 * number:{'+z' if signed else 'z'}.2f}" for number in numbers)
    return f"{mean} [{', '.join(ends)}]" if ends else mean


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
