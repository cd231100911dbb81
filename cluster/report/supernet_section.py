"""Section on weights that children share: training, traffic, the options' strengths over the search, derived cells."""

from collections.abc import Callable, Sequence

from child_trainer.outcome import Measure
from cluster.formatting import counted, metric_name, number
from cluster.monitoring.parts import parts_of
from cluster.report.facts import Derived, Facts
from cluster.report.html.axis import axis, time_unit
from cluster.report.html.charts import Line, band_style, bands, legend, line_chart
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, joined, tag
from cluster.report.read_children import thinned
from cluster.report.search_sections import drawn
from cluster.storage.ledger.queries.supernet import SupernetSlice

MAX_COLUMNS = 24
"""Upper bound for the scored architectures whose strengths are drawn; the first and the last always are."""

MAX_GATES = 60
"""Upper bound for the choices whose strengths are drawn."""

MAX_ROWS = 150
"""Upper bound for the derived architectures that are listed."""

Reader = Callable[[SupernetSlice], float | None]


def supernet_section(facts: Facts) -> Markup:
    """Return the section on shared weights; nothing of a run whose children share none."""
    if not facts.supernet:
        return Markup("")
    training = facts.status.supernet
    steps = f"{counted(training.steps, 'step')} of training" if training else "No step of training has ended"
    shards = counted(facts.config.weights.weights_shards, "shard")
    note = (
        f"{steps}, of weights on {shards}, {facts.config.weights.weights_consistency}. Bytes are those of tensors,"
        " without headers."
    )
    return section(
        "supernet",
        "The supernet",
        tag("p", note, class_="soft"),
        tag("div", *_charts(facts), class_="charts"),
        *_strengths(facts),
        *_derived(facts),
    )


def _charts(facts: Facts) -> list[Markup]:
    slices = facts.supernet
    seconds = [
        after.seconds - before for after, before in zip(slices, (0.0, *(s.seconds for s in slices)), strict=False)
    ]
    lengths = dict(zip(map(id, slices), seconds, strict=True))

    def per_second(value: Callable[[SupernetSlice], float]) -> Reader:
        return lambda one: value(one) / lengths[id(one)] if lengths[id(one)] > 0 else None

    charts = (
        _chart(facts, "Training loss", "loss", (("training", lambda one: one.loss),)),
        *_score_charts(facts),
        _chart(facts, "Staleness of steps", "versions", (("mean", lambda one: one.staleness),)),
        _chart(facts, "Pulled and pushed", "MB/s", (("both", per_second(lambda one: one.moved_bytes / 1e6)),)),
        _chart(facts, "Pulls and pushes", "calls/s", (("both", per_second(lambda one: one.calls)),)),
    )
    return [chart for chart in charts if chart]


def _score_charts(facts: Facts) -> list[Markup | None]:
    """Return the charts of the paths' validation and of the training's accuracy: one, if both are accuracies."""
    paths: tuple[str, Reader] = ("sampled paths, validation", lambda one: one.path_metric)
    training: tuple[str, Reader] = ("training", lambda one: one.accuracy)
    measure = facts.config.measure
    if measure is Measure.ACCURACY:
        return [_chart(facts, "Accuracy", "accuracy", (paths, training))]
    return [
        _chart(facts, metric_name(measure).capitalize(), measure.value, (paths,)),
        _chart(facts, "Training accuracy", "accuracy", (training,)),
    ]


def _chart(facts: Facts, title: str, label: str, curves: Sequence[tuple[str, Reader]]) -> Markup | None:
    """Return a chart with a line for each reader, or `None` if no slice has a value."""
    unit, name = time_unit(facts.supernet[-1].seconds)
    lines = [
        Line(
            name=curve,
            points=[(one.seconds / unit, value) for one in facts.supernet if (value := read(one)) is not None],
            style=place,
        )
        for place, (curve, read) in enumerate(curves)
    ]
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    x = axis(f"{name} since the first child", [at for at, _ in points], zero=True)
    return line_chart(title, x, axis(label, [value for _, value in points], zero=True), lines)


def _strengths(facts: Facts) -> list[Markup]:
    """Return a small plot for each choice: its options' probabilities over the scored architectures."""
    shown = thinned(facts.derived, MAX_COLUMNS)
    if not shown:
        return []
    epochs = f"{counted(len(shown), 'architecture')}" + (
        f" of {len(facts.derived):,}" * (len(shown) < len(facts.derived))
    )
    note = (
        f"From left to right the {epochs} that the strengths favoured at the end of an epoch, when it was scored; the"
        " probability of each option then (the softmax of its strength)."
    )
    first = shown[0].values
    kinds = dict.fromkeys(row.options for row in first)
    groups = [
        joined(
            [
                legend([(f"o{band_style(place, len(options))}", option) for place, option in enumerate(options)]),
                tag("div", *(_bands(shown, gate) for gate in gates), class_="smalls"),
            ]
        )
        for options in kinds
        if (gates := [place for place, row in enumerate(first[:MAX_GATES]) if row.options == options])
    ]
    rest = len(first) - MAX_GATES
    omitted = [tag("p", f"Not drawn: {counted(rest, 'later choice')}.", class_="open")] if rest > 0 else []
    return [tag("h3", "Strengths"), tag("p", note, class_="soft"), *groups, *omitted]


def _bands(shown: Sequence[Derived], gate: int) -> Markup:
    shares = [tuple(value or 0.0 for value in each.values[gate].values) for each in shown]
    return bands(shown[0].values[gate].kind, shown[0].values[gate].options, shares, column="epoch")


def _derived(facts: Facts) -> list[Markup]:
    """Return the favoured architecture of each epoch, with what has changed marked; the first and the last drawn."""
    if not facts.derived:
        return []
    numbered = list(enumerate(facts.derived, start=1))
    before = [None, *facts.derived]
    rows = [_row(epoch, each, before[epoch - 1]) for epoch, each in thinned(numbered, MAX_ROWS)]
    head = tag("tr", *(tag("th", text, scope="col") for text in ("epoch", "child", "accuracy", "its choices")))
    rest = len(numbered) - len(rows)
    omitted = [tag("p", f"Not listed: {counted(rest, 'epoch')} between these.", class_="open")] if rest else []
    ends = numbered[:1] + numbered[1:][-1:]
    pictures = [
        tag(
            "article",
            tag("h3", f"Epoch {epoch}, child {each.child_id}"),
            drawn(each.architecture, parts),
            class_="card",
        )
        for epoch, each in ends
        if each.architecture is not None and (parts := parts_of(facts.config, each.tokens, each.architecture))
    ]
    return [
        tag("h3", "Derived architectures"),
        tag(
            "p", "What the strengths favoured after each epoch; marked is what the epoch before had not.", class_="soft"
        ),
        tag("div", *pictures, class_="champions"),
        tag(
            "details",
            tag("summary", f"All {counted(len(numbered), 'epoch')}" if len(numbered) > 1 else "The one epoch"),
            tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll"),
            *omitted,
            id="derived",
        ),
    ]


def _row(epoch: int, each: Derived, before: Derived | None) -> Markup:
    known = before.connections if before else each.connections
    cells: dict[str, list[Markup]] = {}
    for gate, options in each.connections.items():
        cell, _, edge = gate.rpartition(".")
        word = tag("mark" if known.get(gate) != options else "span", f"{edge} {options}")
        cells.setdefault(cell, []).append(word)
    words = [joined([tag("b", f"{cell}: ") if cell else "", joined(edges, ", ")]) for cell, edges in cells.items()]
    numbers = [str(epoch), str(each.child_id), number(each.metric)]
    return tag("tr", *(tag("td", text, class_="number") for text in numbers), tag("td", joined(words, "; ")))
