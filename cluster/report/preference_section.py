"""Section on what a search came to prefer: learnt values, predictions, and the shares of the sampled options."""

from collections.abc import Sequence

from cluster.formatting import counted, number
from cluster.report.facts import Facts
from cluster.report.html.axis import axis
from cluster.report.html.charts import Dot, band_style, bands, dots, legend, scatter_chart, strips
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, tag
from cluster.report.read_children import MAX_DRAWN, thinned
from cluster.storage.ledger.queries.report_children import Prediction
from controller.preferences import Preference
from controller.searcher import OptionValues
from controller.space import SearchSpace, place_label, place_name
from controller.statistics import spearman

MAX_DECISIONS = 40
"""Upper bound for the decisions of one kind that are drawn, and for those whose values are shown."""

MAX_OPTIONS = 8
"""Upper bound for the options of a decision whose values are shown."""

RANKED = 5
"""Number of children with the highest predictions that are listed."""


def preference_section(facts: Facts) -> Markup:
    """Return the section on what the searcher values, predicts and samples."""
    title = "What the search came to prefer"
    if not facts.preferences:
        is_counted = facts.config.search_space.decisions(0)
        why = "No child has been sampled yet." if is_counted else "Its samples are not made of options to choose from."
        return section("preferences", title, tag("p", why, class_="open"))
    windows = counted(len(facts.preferences[0].shares), "window")
    note = (
        f"From left to right the children in the order in which they were sampled, in {windows}; the share of"
        " the children of a window that took an option. Empty: the decision was not made."
    )
    kinds = dict.fromkeys(preference.kind for preference in facts.preferences)
    space = facts.config.search_space
    groups = [_kind([p for p in facts.preferences if p.kind == kind], space) for kind in kinds]
    learnt = [*_values(facts, space), *_predictions(facts)]
    heading = [tag("h3", "Sampled options")] if learnt else []
    return section("preferences", title, *learnt, *heading, tag("p", note, class_="soft"), *groups)


def _kind(preferences: Sequence[Preference], space: SearchSpace) -> Markup:
    first = preferences[0]
    heading = tag("h3", first.kind.replace("_", " "))
    options = max((preference.options for preference in preferences), key=len)
    if first.exclusive:
        key = legend([(f"o{band_style(i, len(options))}", option) for i, option in enumerate(options)])
    else:
        key = tag(
            "p",
            "One row per earlier layer, 1 at the top; the more opaque, the more often it was chosen.",
            class_="soft",
        )
    draw = bands if first.exclusive else strips
    smalls = [draw(_where(p, space), p.options, p.shares) for p in preferences[:MAX_DECISIONS]]
    rest = len(preferences) - len(smalls)
    omitted = [tag("p", f"Not drawn: {counted(rest, f'deeper {place_name(space)}')}.", class_="open")] if rest else []
    return tag("div", heading, key, tag("div", *smalls, class_="smalls"), *omitted, class_="kind")


def _where(preference: Preference, space: SearchSpace) -> str:
    if preference.layer:
        return place_label(space, preference.layer)
    return {"node": "the whole cell", "motif": "the cell"}.get(place_name(space), "the whole network")


def _values(facts: Facts, space: SearchSpace) -> list[Markup]:
    """Return the learnt values of the options along the searcher's best sample; nothing if it learns none."""
    heading = tag("h3", "Learnt values")
    if facts.values_missing:
        return [heading, tag("p", f"The values are not shown: {facts.values_missing}.", class_="open")]
    if not facts.option_values:
        return []
    rows = [
        tag("tr", tag("th", _named(row, space), scope="row"), tag("td", *_ranked_options(row)))
        for row in facts.option_values[:MAX_DECISIONS]
    ]
    rest = len(facts.option_values) - len(rows)
    omitted = [tag("p", f"Not shown: {counted(rest, 'later decision')}.", class_="open")] if rest else []
    return [
        heading,
        tag("p", facts.config.searcher_entry.values, class_="soft"),
        tag("div", tag("table", *rows), class_="scroll"),
        *omitted,
    ]


def _named(row: OptionValues, space: SearchSpace) -> str:
    where = f", {place_label(space, row.layer)}" if row.layer else ""
    return f"{row.kind.replace('_', ' ')}{where}"


def _ranked_options(row: OptionValues) -> list[Markup]:
    known = [(value, -i) for i, value in enumerate(row.values) if value is not None]
    ranked = [(row.options[-i], value) for value, i in sorted(known, reverse=True)]
    best, *others = [f"{option} ({number(value)})" for option, value in ranked[:MAX_OPTIONS]]
    rest = [f"{len(ranked) - MAX_OPTIONS} more"] * (len(ranked) > MAX_OPTIONS)
    return [tag("b", best), tag("span", "".join(f", {each}" for each in [*others, *rest]))]


def _predictions(facts: Facts) -> list[Markup]:
    """Return how the searcher ranked the children beforehand, and what came of it; nothing if it predicts nothing."""
    if not facts.predictions:
        return []
    shown = thinned(facts.predictions, MAX_DRAWN)
    x = axis("predicted reward", [each.predicted for each in shown])
    y = axis("reward", [each.reward for each in shown])
    points = [Dot(at=(each.predicted, each.reward), tooltip=_outcome(each)) for each in shown]
    correlation = spearman([(each.predicted, each.reward) for each in facts.predictions])
    ranked = "" if correlation is None else f", rank correlation {correlation:.2f}"
    note = f"{counted(len(facts.predictions), 'child')}{ranked}"
    best = sorted(facts.predictions, key=lambda each: (-each.predicted, each.child_id))[:RANKED]
    rows = [
        tag(
            "tr",
            *(tag("td", text, class_="number") for text in (str(p.child_id), number(p.predicted), number(p.reward))),
        )
        for p in best
    ]
    head = tag("tr", *(tag("th", text, scope="col") for text in ("child", "predicted", "reward")))
    return [
        tag("h3", "Predictions"),
        tag("p", "The searcher's surrogate predicted each child's reward before the child was trained.", class_="soft"),
        tag(
            "div",
            scatter_chart("Reward against its prediction", x, y, dots(points, x, y), note),
            tag("div", tag("p", "The highest predictions:", class_="soft"), tag("table", tag("thead", head), *rows)),
            class_="charts",
        ),
    ]


def _outcome(each: Prediction) -> str:
    return f"child {each.child_id}: predicted {number(each.predicted)}, reward {number(each.reward)}"
