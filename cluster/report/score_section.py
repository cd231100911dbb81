"""Section on what finished networks reached on the test data."""

from cluster.formatting import mean_text, utc_time
from cluster.report.facts import Facts
from cluster.report.html.document import section
from cluster.report.html.markup import Markup, tag
from cluster.storage.ledger.queries.final_tests import NetworkTests


def score_section(facts: Facts) -> Markup:
    """Return the section with the test scores of a run of final trainings; nothing if none was tested."""
    if not facts.tested:
        return Markup("")
    measure, config = facts.config.measure, facts.config
    examples = facts.tested[0].tests[0].examples
    data = f"{examples:,} test images" if config.task.entry.family == "images" else f"{examples:,} words of test text"
    note = (
        f"Each training has looked at the {data} once, and these scores have chosen nothing: the networks are in the"
        " order of the search before. Where a network was trained several times, the score is their mean and standard"
        " deviation."
    )
    names = ("network", f"test {measure}", "of each training", "looked at the data")
    rows = [tag("tr", *_cells(network)) for network in facts.tested]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    return section(
        "tests",
        "Test scores",
        tag("p", note, class_="soft"),
        tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll"),
    )


def _cells(network: NetworkTests) -> list[Markup]:
    reached = [test.metric for test in network.tests if test.metric is not None]
    each = ", ".join(
        f"child {test.child_id}: {test.fault if test.metric is None else f'{test.metric:.4f}'}"
        for test in network.tests
    )
    return [
        tag("td", tag("code", network.architecture_id)),
        tag("td", mean_text(reached) if reached else "-", class_="number"),
        tag("td", each),
        tag("td", utc_time(network.tests[0].tested_at)),
    ]
