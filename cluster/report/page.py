"""The report of a run as one HTML page."""

from cluster.report.facts import Facts
from cluster.report.headline import headline
from cluster.report.html.document import document
from cluster.report.html.markup import tag
from cluster.report.lineage_section import lineage_section
from cluster.report.preference_section import preference_section
from cluster.report.progress_section import progress_section
from cluster.report.run_sections import (
    checklist_section,
    configuration_section,
    shard_section,
    trouble_section,
    work_section,
)
from cluster.report.score_section import score_section
from cluster.report.search_sections import best_section, cost_section
from cluster.report.supernet_section import supernet_section

CONTENTS = {
    "best": "Architectures",
    "tests": "Test scores",
    "lineage": "Lineage",
    "progress": "Progress",
    "supernet": "Supernet",
    "preferences": "Preferences",
    "cost": "Children",
    "failures": "Failures",
    "shards": "Parameter server",
    "work": "Workers and cost",
    "configuration": "Configuration",
    "checklist": "Checklist",
}


def page(facts: Facts, *, watched: bool = False) -> str:
    """Return the report as an HTML page.

    Args:
        facts: the content.
        watched: whether it is served, and refreshes itself while the run is running.
    """
    refreshed = watched and facts.status.state == "running"
    sections = [
        best_section(facts),
        score_section(facts),
        lineage_section(facts),
        progress_section(facts),
        supernet_section(facts),
        preference_section(facts),
        cost_section(facts),
        trouble_section(facts),
        shard_section(facts),
        work_section(facts),
        configuration_section(facts),
        checklist_section(facts),
    ]
    present = {"tests": facts.tested, "supernet": facts.supernet, "lineage": facts.lineage}
    contents = {name: title for name, title in CONTENTS.items() if present.get(name, True)}
    links = tag("nav", *(tag("a", title, href=f"#{name}") for name, title in contents.items()), aria_label="Sections")
    refresh_note = "This page refreshes itself while the run is running." if refreshed else ""
    footer = tag("footer", tag("p", f"Written by nascluster report from the run's folder alone. {refresh_note}"))
    title = f"{facts.status.name}: {facts.status.state}"
    return document(title, headline(facts), links, *sections, footer, refreshed=refreshed)
