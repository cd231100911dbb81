"""Sections on the results of a search: the best architectures, and the children by cost."""

import json

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from cluster.formatting import counted, duration, metric_name, number
from cluster.monitoring.benchmark_results import describe_seconds, describe_test
from cluster.monitoring.option_latency import latency_text
from cluster.monitoring.parts import NO_PARTS, Parts, parts_of
from cluster.monitoring.status import Best
from cluster.monitoring.summary import config_of, name_of, test_text, training_command
from cluster.report.drawing import architecture_svg
from cluster.report.facts import COLUMNS, ROWS, ChildPoint, Cloud, Facts
from cluster.report.html.axis import axis, short
from cluster.report.html.charts import Dot, cells, cloud_chart, dots
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, tag
from controller.objectives import COSTS

COST_LABELS = {
    "parameters": "parameters",
    "flops": "FLOPs of a forward pass on one example",
    "latency": "latency, ms",
    "seconds": "seconds of training",
}

NETWORK_LEAD = "Lines and arcs lead down to the layer that reads."
CELL_LEAD = "Lines lead up to the step that reads; dashed ones come from what another step reads, too."
BLOCK_LEAD = "Lines lead up to the operation that reads; + adds the values of a block."

SHORT_LABELS = {"flops": "FLOPs"}


def best_section(facts: Facts) -> Markup:
    """Return the section with drawings of the best architectures."""
    if not facts.best:
        return section("best", "The best architectures", tag("p", "No child has finished.", class_="open"))
    cards = [_card(facts, best, place) for place, best in enumerate(facts.best, start=1)]
    *_, parts = _pictures(facts, facts.best[0])
    upwards = facts.config.search_space.kind == "recurrent"
    lead = BLOCK_LEAD if parts.motifs else CELL_LEAD if upwards else NETWORK_LEAD
    seen = (
        " They have trained on the validation images, too: their validation accuracy says nothing of other images."
        if facts.config.task.all_training
        else ""
    )
    note = f"Each is the best child of its architecture.{seen} {lead}"
    return section(
        "best", "The best architectures", tag("p", note, class_="soft"), tag("div", *cards, class_="champions")
    )


def _card(facts: Facts, best: Best, place: int) -> Markup:
    table_facts = facts.table_facts[place - 1] if facts.table_facts else None
    # Only for the best one: test metrics of several would invite a choice by them.
    test = describe_test(facts.config.measure, table_facts) if place == 1 else ""
    figures = [
        f"{metric_name(facts.config.measure)} {number(best.metric)}",
        f"reward {number(best.reward)}",
        test_text(facts.config.measure, best.test),
        f"{best.parameters:,} parameters" if best.parameters is not None else "",
        f"{short(best.flops)} FLOPs" if best.flops is not None else "",
        f"latency {COSTS['latency'].text(best.latency_ms)}" if best.latency_ms is not None else "",
        latency_text(facts.config, best),
        describe_seconds(
            duration(best.seconds) if best.seconds >= 60 else f"{best.seconds:.3g} s", table_facts, scored=best.scored
        ),
    ]
    file_name, known = f"child-{best.child_id}.json", not facts.known.unknown
    config = config_of(facts.config, facts.status.continues, best)
    picture, named, parts = _pictures(facts, best)
    hint = tag("span", tag("span", "Show", class_="shut"), tag("span", "Hide", class_="opened"), " JSON", class_="hint")
    return tag(
        "article",
        tag("h3", f"{place}. Child {best.child_id}"),
        tag("p", ", ".join(figure.replace(" ", "\N{NO-BREAK SPACE}") for figure in figures if figure), class_="soft"),
        *([tag("p", f"{test[0].upper()}{test[1:]}.", class_="soft")] if test else []),
        *([tag("p", f"It came {best.origin}.", class_="soft")] if best.origin else []),
        *([tag("p", f"It was {best.stopped.text}.", class_="soft")] if best.stopped else []),
        tag(
            "details",
            tag("summary", picture, hint),
            tag(
                "p",
                "Architecture ",
                tag("code", named),
                f". Saved as {file_name}, it is {'trained from scratch' if best.inherits else 'retrained'} by"
                if not facts.known.unknown
                else ".",
            ),
            *([tag("pre", training_command(config, best, file_name), class_="command")] * known),
            tag("pre", json.dumps(best.graph, indent=1), class_="json"),
            class_="picture",
            id=f"child-{best.child_id}",
        ),
        *(
            tag("details", tag("summary", f"In {notation}'s notation"), tag("pre", text), open=place == 1)
            for notation, text in parts.genotypes.items()
        ),
        *(tag("p", line, class_="open") for line in parts.missing),
        class_="card",
    )


def _pictures(facts: Facts, best: Best) -> tuple[Markup, str, Parts]:
    """Return the drawing of a child's architecture, its name and its parts; texts if it is not known here."""
    try:
        architecture = best.architecture
    except InvalidArchitecture as error:
        text = f"Not known to this version of nascluster: {error}"
        return tag("span", text, class_="drawn"), f"of child {best.child_id}", NO_PARTS
    parts = parts_of(facts.config, best.tokens, architecture)
    return drawn(architecture, parts), name_of(architecture), parts


def drawn(architecture: Architecture, parts: Parts) -> Markup:
    """Return the drawing of each part and the rows of the network; of the whole network if it has no parts."""
    if not parts.motifs:
        return tag("span", architecture_svg(architecture), class_="drawn")
    motifs = [
        tag("span", tag("b", name), architecture_svg(motif), class_="drawn") for name, motif in parts.motifs.items()
    ]
    rows = [tag("span", row) for row in parts.rows]
    network = [tag("span", tag("b", "network"), *rows, class_="rows")] if rows else []
    return tag("span", *motifs, *network, class_="parts")


def cost_section(facts: Facts) -> Markup:
    """Return the section with scatter plots of metric against cost."""
    title = "Children: metric against cost"
    if not facts.clouds:
        return section("cost", title, tag("p", "No child has finished.", class_="open"))
    missing = [name for name in ("parameters", "flops") if name not in {cloud.cost for cloud in facts.clouds}]
    unknown = f" Their {' and '.join(COST_LABELS[name] for name in missing)} are unknown." if missing else ""
    goals = facts.config.objectives.costs
    searched = f" The search is for low {' and '.join(c.words for c in goals)}, too." if goals else ""
    note = f"The Pareto front has the children that no cheaper one equals.{searched}{unknown}"
    charts = [_cloud(facts, cloud) for cloud in facts.clouds]
    return section("cost", title, tag("p", note, class_="soft"), tag("div", *charts, class_="charts"))


def _cloud(facts: Facts, cloud: Cloud) -> Markup:
    label = COST_LABELS[cloud.cost]
    x = axis(label, [cloud.lowest[0], cloud.highest[0]], log=cloud.log[0])
    y = axis(metric_name(facts.config.measure), [cloud.lowest[1], cloud.highest[1]], log=cloud.log[1])
    if cloud.children:
        shown = dots([_dot(child, label) for child in cloud.children], x, y)
    else:
        shown = cells(cloud.cells, x, y, (cloud.lowest, cloud.highest, COLUMNS, ROWS))
    note = counted(cloud.count, "child") + (
        "" if cloud.children else ", counted in cells: the more opaque, the more children"
    )
    return cloud_chart(
        f"By {SHORT_LABELS.get(cloud.cost, cloud.cost)}",
        x,
        y,
        shown,
        [_dot(child, label) for child in cloud.front],
        note,
    )


def _dot(child: ChildPoint, label: str) -> Dot:
    tooltip = f"child {child.id}: {child.metric:.4f} at {short(child.cost)} {label}"
    return Dot(at=(child.cost, child.metric), tooltip=tooltip)
