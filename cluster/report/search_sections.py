"""What a search found: headline, best architectures, progress, preferences, and children by cost."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cluster.progress import duration, failures, metric_name, number
from cluster.report.charts import (
    Dot,
    Line,
    area_chart,
    band_style,
    bands,
    cells,
    cloud_chart,
    dots,
    legend,
    line_chart,
    nothing,
    strips,
)
from cluster.report.drawing import architecture_svg
from cluster.report.facts import COLUMNS, ROWS, Child, Cloud, Facts, Place, Progress
from cluster.report.markup import Markup, joined, tag
from cluster.report.preferences import Preference
from cluster.report.scale import axis, counted, short, time_unit
from cluster.status import FIRST, Best
from cluster.summary import name_of, training_command

MOST_PLACES = 40
"""Decisions of one kind that are drawn."""

COST_LABELS = {
    "parameters": "parameters",
    "flops": "FLOPs of a forward pass on one example",
    "seconds": "seconds of training",
}

SHORT_LABELS = {"flops": "FLOPs"}


def section(name: str, title: str, *content: str) -> Markup:
    """One section of the page, with what the table of contents jumps to."""
    return tag("section", tag("h2", title), *content, id=name)


def headline(facts: Facts) -> Markup:
    """The run's name and state, and its figures."""
    status = facts.status
    when = datetime.fromtimestamp(facts.now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    mood = "failed" if status.state == "finished" and not status.finished else status.state
    message = [tag("p", status.message)] if status.message else []
    return joined(
        [
            tag("h1", status.name, tag("span", status.state, class_=f"badge {mood}")),
            tag(
                "p", f"{_searched(facts)} As of {when}; everything is in ", tag("code", facts.place), ".", class_="soft"
            ),
            *message,
            tag("div", *(_tile(*tile) for tile in _tiles(facts)), class_="tiles"),
        ]
    )


def _searched(facts: Facts) -> str:
    config = facts.config
    return f"A search by {config.searcher} in the {config.space} space, on {config.task.task}, seed {config.seed}."


def _tile(value: str, what: str) -> Markup:
    return tag("div", tag("b", value), tag("span", what), class_="tile")


def _tiles(facts: Facts) -> list[tuple[str, str]]:
    status, work = facts.status, facts.work
    left = f"; about {duration(status.seconds_left)} left" if status.state == "running" and status.pace else ""
    best, gain = status.best, ""
    if best is not None and status.first_metric is not None:
        first = min(FIRST, status.finished)
        gain = f", {best.metric - status.first_metric:+.4f} against the mean of the first {first}"
    found = [
        (f"{status.ended:,} of {status.max_children:,}", f"children ended; {status.running:,} in training"),
        (
            number(best and best.metric),
            f"best {metric_name(facts.config.measure)}" + (f" (child {best.child_id}{gain})" if best else ""),
        ),
        (number(status.recent_reward), f"mean reward of the last {FIRST}; {number(status.mean_reward)} of all"),
        (duration(status.seconds), f"running, without pauses{left}"),
        (
            duration(work.seconds),
            f"of worker time in {work.attempts:,} attempts; {_percent(_useful(facts))} gave a metric",
        ),
        (f"{status.failed:,}", f"children {failures(status).partition(' ')[2]}"),
        (f"{status.updates:,}", "updates" + _stale(facts)),
        (f"{facts.distinct:,}", f"different architectures among {status.sampled:,} sampled"),
        (_percent(facts.utilisation), f"of the time of {counted(status.workers, 'worker')} was training"),
    ]
    if facts.gpu_seconds:
        found.append((f"{facts.gpu_seconds / 3600:,.2f}", "GPU-hours, failed attempts included"))
    return found


def _useful(facts: Facts) -> float | None:
    return facts.work.useful / facts.work.seconds if facts.work.seconds else None


def _stale(facts: Facts) -> str:
    found = facts.status.staleness
    return f"; staleness {found[0]:.1f} on average, {found[1]} at most" if found else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def best_section(facts: Facts) -> Markup:
    """The best architectures, drawn."""
    if not facts.best:
        return section("best", "The best architectures", tag("p", "No child has finished.", class_="open"))
    cards = [_card(facts, best, place) for place, best in enumerate(facts.best, start=1)]
    note = "Each is the best child of its architecture. Lines and arcs lead down to the layer that reads."
    return section(
        "best", "The best architectures", tag("p", note, class_="soft"), tag("div", *cards, class_="champions")
    )


def _card(facts: Facts, best: Best, place: int) -> Markup:
    figures = [
        f"{metric_name(facts.config.measure)} {number(best.metric)}",
        f"reward {number(best.reward)}",
        f"{best.parameters:,} parameters" if best.parameters is not None else "",
        f"{short(best.flops)} FLOPs" if best.flops is not None else "",
        f"trained in {duration(best.seconds) if best.seconds >= 60 else f'{best.seconds:.3g} s'}",
    ]
    file = f"child-{best.child_id}.json"
    hint = tag("span", tag("span", "Show", class_="shut"), tag("span", "Hide", class_="opened"), " JSON", class_="hint")
    return tag(
        "article",
        tag("h3", f"{place}. Child {best.child_id}"),
        tag("p", ", ".join(figure.replace(" ", "\N{NO-BREAK SPACE}") for figure in figures if figure), class_="soft"),
        tag(
            "details",
            tag("summary", tag("span", architecture_svg(best.architecture), class_="drawn"), hint),
            tag(
                "p",
                "Architecture ",
                tag("code", name_of(best.architecture)),
                f". Saved as {file}, it is trained again by",
            ),
            tag("pre", training_command(facts.config, best, file), class_="command"),
            tag("pre", json.dumps(best.architecture.to_json(), indent=1), class_="json"),
            class_="picture",
            id=f"child-{best.child_id}",
        ),
        class_="card",
    )


def progress_section(facts: Facts) -> Markup:
    """Best so far and mean reward, against children and two kinds of time; the policy's entropy."""
    if not facts.progress.best:
        return section("progress", "Progress", tag("p", "No child has finished.", class_="open"))
    runs = [facts.progress, *([facts.other] if facts.other else [])]
    scales = _scales(facts)
    note = f"The reward is the mean of the last {facts.progress.window} children that ended."
    if facts.other:
        note += f" Beside it: {facts.other.name} ({facts.other.searcher})."
    places = [place for run in runs for place in (*run.best, *run.rewards)]
    wall, wall_unit = time_unit(max(place.seconds for place in places))
    work, work_unit = time_unit(max(place.work for place in places))
    charts: list[Markup] = []
    for title, label, at in (
        ("Against children", "children that ended", lambda place: place.children),
        ("Against wall time", f"{wall_unit} since the first child", lambda place: place.seconds / wall),
        ("Against worker time", f"{work_unit} of all workers together", lambda place: place.work / work),
    ):
        x = axis(label, [at(place) for place in places], zero=True, whole=title == "Against children")
        pairs = [_lines(facts, run, at) for run in runs]
        for scale, members in scales:
            lines = [pair[member] for pair in pairs for member in members]
            y = axis(scale, [value for line in lines for _, value in line.points])
            named = title if len(scales) == 1 else f"{title}: {scale}"
            charts.append(line_chart(named, x, y, lines))
    charts.append(_entropy_chart(facts))
    return section("progress", "Progress", tag("p", note, class_="soft"), tag("div", *charts, class_="charts"))


def _scales(facts: Facts) -> list[tuple[str, tuple[int, ...]]]:
    """For each scale its label and which of the two `_lines` share it: an accuracy and its reward do."""
    name = metric_name(facts.config.measure)
    return [(name, (0,)), ("reward", (1,))] if facts.config.measure.lower_is_better else [(f"{name}, reward", (0, 1))]


def _lines(facts: Facts, run: Progress, at: Callable[[Place], float]) -> tuple[Line, Line]:
    mine = run is facts.progress
    name = "" if mine else f", {run.name}"

    def points(places: Sequence[Place]) -> list[tuple[float, float]]:
        return [(at(place), place.value) for place in places]

    return (
        Line(name=f"best so far{name}", points=points(run.best), style=0 if mine else 1, steps=True),
        Line(name=f"mean reward{name}", points=points(run.rewards), style=2 if mine else 3),
    )


def _entropy_chart(facts: Facts) -> Markup:
    found = [(batch.seconds, batch.entropy) for batch in facts.learned if batch.entropy is not None]
    title = "Entropy of the policy"
    if not found:
        return nothing(title, "The searcher has told of none.")
    unit, name = time_unit(max(seconds for seconds, _ in found))
    points = [(seconds / unit, value) for seconds, value in found]
    x = axis(f"{name} since the first child", [at for at, _ in points], zero=True)
    y = axis("nats for an architecture", [value for _, value in points], zero=True)
    return area_chart(
        title, x, y, points, "It grows with the depth of the networks; near zero the same is sampled again and again."
    )


def preference_section(facts: Facts) -> Markup:
    """What was sampled at each decision, over the search."""
    title = "What the policy came to prefer"
    if not facts.preferences:
        return section("preferences", title, tag("p", "Nothing has been sampled yet.", class_="open"))
    windows = counted(len(facts.preferences[0].shares), "window")
    note = (
        f"From left to right the children in the order in which they were sampled, in {windows}; the share of"
        " the children of a window that took an option. Empty: the decision was not made."
    )
    kinds = dict.fromkeys(preference.kind for preference in facts.preferences)
    recurrent = facts.config.search_space.kind == "recurrent"
    groups = [_kind([p for p in facts.preferences if p.kind == kind], recurrent=recurrent) for kind in kinds]
    return section("preferences", title, tag("p", note, class_="soft"), *groups)


def _kind(found: Sequence[Preference], *, recurrent: bool) -> Markup:
    first = found[0]
    heading = tag("h3", first.kind.replace("_", " "))
    options = max((preference.options for preference in found), key=len)
    if first.exclusive:
        key = legend([(f"o{band_style(i, len(options))}", option) for i, option in enumerate(options)])
    else:
        key = tag(
            "p",
            "A row for each earlier layer, 1 at the top; the stronger, the more often it was chosen.",
            class_="soft",
        )
    draw = bands if first.exclusive else strips
    where = _node if recurrent else _layer
    smalls = [draw(where(p), p.options, p.shares) for p in found[:MOST_PLACES]]
    rest = len(found) - len(smalls)
    places = "nodes" if recurrent else "layers"
    more = [tag("p", f"{rest} deeper {places} are not drawn.", class_="open")] if rest else []
    return tag("div", heading, key, tag("div", *smalls, class_="smalls"), *more, class_="kind")


def _layer(preference: Preference) -> str:
    return f"layer {preference.layer}" if preference.layer else "the whole network"


def _node(preference: Preference) -> str:
    # By the number that the indices among a cell's options have: from 0.
    return f"node {preference.layer - 1}" if preference.layer else "the whole cell"


def cost_section(facts: Facts) -> Markup:
    """Children by what they cost and what they reach."""
    title = "What children cost, and what they reach"
    if not facts.clouds:
        return section("cost", title, tag("p", "No child has finished.", class_="open"))
    missing = [name for name in ("parameters", "flops") if name not in {cloud.cost for cloud in facts.clouds}]
    gone = f" Their {' and '.join(COST_LABELS[name] for name in missing)} are not known." if missing else ""
    note = f"On the front are the children to which no cheaper one is equal.{gone}"
    charts = [_cloud(facts, cloud) for cloud in facts.clouds]
    return section("cost", title, tag("p", note, class_="soft"), tag("div", *charts, class_="charts"))


def _cloud(facts: Facts, cloud: Cloud) -> Markup:
    label = COST_LABELS[cloud.cost]
    x = axis(label, [cloud.lowest[0], cloud.highest[0]], log=cloud.log)
    y = axis(metric_name(facts.config.measure), [cloud.lowest[1], cloud.highest[1]])
    if cloud.children:
        shown = dots([_dot(child, label) for child in cloud.children], x, y)
    else:
        shown = cells(cloud.cells, x, y, (cloud.lowest, cloud.highest, COLUMNS, ROWS))
    note = f"{cloud.count:,} children" + ("" if cloud.children else ", counted in cells: the stronger, the more")
    return cloud_chart(
        f"By {SHORT_LABELS.get(cloud.cost, cloud.cost)}",
        x,
        y,
        shown,
        [_dot(child, label) for child in cloud.front],
        note,
    )


def _dot(child: Child, label: str) -> Dot:
    says = f"child {child.id}: {child.metric:.4f} at {short(child.cost)} {label}"
    return Dot(at=(child.cost, child.metric), says=says)
