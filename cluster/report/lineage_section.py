"""Section on the ancestors of the best child."""

from cluster.formatting import metric_name, number
from cluster.report.facts import Facts
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, tag
from cluster.storage.ledger.queries.lineage import Ancestor

MAX_ANCESTORS = 200
"""Upper bound for the children in the line that is shown."""

DIGITS = 12
"""Digits of a checksum that are shown."""


def lineage_section(facts: Facts) -> Markup:
    """Return the section with the line of the best child; nothing if it has no parent."""
    if not facts.lineage:
        return Markup("")
    inherits, pooled = any(one.weights_of for one in facts.lineage), any(one.pooled for one in facts.lineage)
    metric = metric_name(facts.config.measure)
    names = ["child", "came from", "change"]
    if inherits:
        names += ["began with", f"{metric} before its training"]
    names += [metric, "parameters"]
    note = "From the first ancestor to the best child."
    if inherits:
        note += (
            " Until it is trained, a child that begins with its parent's weights computes what its parent does, up to"
            " the noise of its changes"
        )
        note += ", unless a pool came in the place of an identity." if pooled else "."
    return section(
        "lineage",
        "Where the best child came from",
        tag("p", note, class_="soft"),
        tag(
            "div",
            tag(
                "table",
                tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names))),
                tag("tbody", *(_row(one, inherits=inherits) for one in facts.lineage)),
            ),
            class_="scroll",
        ),
    )


def _row(one: Ancestor, *, inherits: bool) -> Markup:
    cells = [
        tag("td", str(one.child_id), class_="number"),
        tag("td", f"child {one.parent}" if one.parent else "the start of its line"),
        tag("td", one.change or ""),
    ]
    if inherits:
        began = (
            ("weights of child ", str(one.weights_of), ", ", tag("code", (one.checksum or "")[:DIGITS]))
            if one.weights_of
            else ("random weights",)
        )
        cells += [tag("td", *began), _number(one.before)]
    parameters = "" if one.parameters is None else f"{one.parameters:,}"
    return tag("tr", *cells, _number(one.metric), tag("td", parameters, class_="number"))


def _number(value: float | None) -> Markup:
    return tag("td", "" if value is None else number(value), class_="number")
