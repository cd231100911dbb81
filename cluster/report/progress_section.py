"""The report's progress section: best metric and mean reward against children and time; the searcher's figures."""

from collections.abc import Callable, Sequence

from cluster.formatting import metric_name
from cluster.report.facts import Facts, Place, ProgressCurve
from cluster.report.html.axis import axis, time_unit
from cluster.report.html.charts import Line, area_chart, line_chart
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, tag
from controller.catalogue import Figure

CHILDREN, GPUS = "Against children", "Against GPU-hours"

MAX_RATIO = 2.0
"""How many times the best metric a reward may be to be drawn on the metric's scale."""

_PLACES: tuple[Callable[[ProgressCurve], Sequence[Place]], ...] = (lambda run: run.best, lambda run: run.rewards)
"""The places of the two `_lines`."""


def progress_section(facts: Facts) -> Markup:
    """Return the section: best metric and mean reward against children and time; the searcher's figures."""
    if not facts.progress.best:
        return section("progress", "Progress", tag("p", "No child has finished.", class_="open"))
    runs = [facts.progress, *([facts.other] if facts.other else [])]
    note = f"The reward is the mean of the last {facts.progress.window} children that ended."
    if facts.other:
        note += f" Compared with {facts.other.name} ({facts.other.searcher})."
    charts = [chart for against in _abscissas(runs) for chart in _charts(facts, runs, against)]
    charts += [chart for figure in facts.status.listed if (chart := _figure_chart(facts, figure))]
    warning = [tag("p", tag("strong", unlike_note(facts.other)))] if facts.other and facts.other.unlike else []
    note_tag = tag("p", note, class_="soft")
    return section("progress", "Progress", *warning, note_tag, tag("div", *charts, class_="charts"))


def unlike_note(other: ProgressCurve) -> str:
    """Return the warning that the run compared with differs in what a comparison needs equal."""
    *most, last = [f"another {name}" for name in other.unlike]
    what = f"{', '.join(most)} and {last}" if most else last
    return (
        f"The run {other.name} has {what}: the two runs are drawn in one plot, but a difference between their curves"
        " says nothing about the searchers."
    )


At = Callable[[ProgressCurve, Place], float]
"""Maps a place of a run to its coordinate on an axis."""


def _abscissas(runs: Sequence[ProgressCurve]) -> list[tuple[str, str, At]]:
    """Return the horizontal axes: the plot's title, the axis's label, and the coordinate of a place on it."""
    places = [place for run in runs for place in (*run.best, *run.rewards)]
    wall, wall_unit = time_unit(max(place.seconds for place in places))
    work, work_unit = time_unit(max(place.work for place in places))
    axes: list[tuple[str, str, At]] = [
        (CHILDREN, "children that ended", lambda _, place: place.children),
        ("Against wall time", f"{wall_unit} since the first child", lambda _, place: place.seconds / wall),
        ("Against worker time", f"{work_unit} of all workers together", lambda _, place: place.work / work),
    ]
    if runs[0].gpus_per_child:
        label = "GPU-hours of all workers together"
        axes.append((GPUS, label, lambda run, place: place.work * (run.gpus_per_child or 0.0) / 3600))
    return axes


def _charts(facts: Facts, runs: Sequence[ProgressCurve], against: tuple[str, str, At]) -> list[Markup]:
    """Return a chart for each scale; a run without known GPU use is omitted from the GPU-hours charts."""
    title, label, at = against
    pairs = [_lines(facts, run, at) for run in runs if title != GPUS or run.gpus_per_child]
    places = [place for pair in pairs for line in pair for place, _ in line.points]
    x = axis(label, places, zero=True, whole=title == CHILDREN)
    scales = _scales(facts, runs)
    charts: list[Markup] = []
    for scale, members in scales:
        lines = [pair[member] for pair in pairs for member in members]
        y = axis(scale, [value for line in lines for _, value in line.points])
        charts.append(line_chart(title if len(scales) == 1 else f"{title}: {scale}", x, y, lines))
    return charts


def _scales(facts: Facts, runs: Sequence[ProgressCurve]) -> list[tuple[str, tuple[int, ...]]]:
    """Return each scale's label and which of the two `_lines` share it.

    A metric and its reward share one if higher is better for both, and the reward would not dwarf the metric.
    """
    name = metric_name(facts.config.measure)
    best, reward = (max((abs(place.value) for run in runs for place in places(run)), default=0.0) for places in _PLACES)
    if facts.config.measure.lower_is_better or reward > MAX_RATIO * best:
        return [(name, (0,)), ("reward", (1,))]
    return [(f"{name}, reward", (0, 1))]


def _lines(facts: Facts, run: ProgressCurve, at: At) -> tuple[Line, Line]:
    is_main = run is facts.progress
    name = "" if is_main else f", {run.name}"

    def points(places: Sequence[Place]) -> list[tuple[float, float]]:
        return [(at(run, place), place.value) for place in places]

    return (
        Line(name=f"best so far{name}", points=points(run.best), style=0 if is_main else 1, steps=True),
        Line(name=f"mean reward{name}", points=points(run.rewards), style=2 if is_main else 3),
    )


def _figure_chart(facts: Facts, figure: Figure) -> Markup | None:
    """Return the plot of a figure that the searcher lists, against time; `None` if no batch has it."""
    means = [(batch.seconds, batch.figures[figure.name]) for batch in facts.learned if figure.name in batch.figures]
    if not means:
        return None
    unit, name = time_unit(max(seconds for seconds, _ in means))
    points = [(seconds / unit, value) for seconds, value in means]
    x = axis(f"{name} since the first child", [at for at, _ in points], zero=True)
    y = axis(figure.unit or figure.name.replace("_", " "), [value for _, value in points], zero=True)
    return area_chart(figure.words, x, y, points, figure.note)
