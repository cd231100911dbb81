"""The report as one HTML page that needs nothing else: no network, no file, and no script unless it is watched."""

import base64
import hashlib

from cluster.report.facts import Facts
from cluster.report.markup import Markup, tag
from cluster.report.run_sections import (
    checklist_section,
    configuration_section,
    shard_section,
    trouble_section,
    work_section,
)
from cluster.report.search_sections import best_section, cost_section, headline, preference_section, progress_section
from cluster.report.style import REFRESH_S, SCRIPT, STYLE

CONTENTS = {
    "best": "Architectures",
    "progress": "Progress",
    "preferences": "Preferences",
    "cost": "Children",
    "failures": "Failures",
    "shards": "Parameter server",
    "work": "Workers and cost",
    "configuration": "Configuration",
    "checklist": "Checklist",
}


def page(facts: Facts, *, watched: bool = False) -> str:
    """The page.

    Args:
        facts: what it shows.
        watched: it comes from a server that is asked again while the run is running.
    """
    refreshed = watched and facts.status.state == "running"
    return "<!DOCTYPE html>\n" + tag("html", _head(facts, refreshed), _body(facts, refreshed), lang="en") + "\n"


def _head(facts: Facts, refreshed: bool) -> Markup:
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(refreshed)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{facts.status.name}: {facts.status.state}"),
        tag("style", Markup(STYLE)),
    ]
    if refreshed:
        head.append(tag("noscript", tag("meta", http_equiv="refresh", content=str(REFRESH_S))))
    return tag("head", *head)


def _body(facts: Facts, refreshed: bool) -> Markup:
    sections = [
        best_section(facts),
        progress_section(facts),
        preference_section(facts),
        cost_section(facts),
        trouble_section(facts),
        shard_section(facts),
        work_section(facts),
        configuration_section(facts),
        checklist_section(facts),
    ]
    links = tag("nav", *(tag("a", title, href=f"#{name}") for name, title in CONTENTS.items()), aria_label="Sections")
    kept = "This page is brought up to date while the run is running." if refreshed else ""
    footer = tag("footer", tag("p", f"Written by nascluster report from the run's folder alone. {kept}"))
    return tag(
        "body",
        tag("main", headline(facts), links, *sections, footer),
        tag("script", Markup(SCRIPT)) if refreshed else "",
    )


def _policy(refreshed: bool) -> str:
    """What the browser lets the page do, whatever is in it: nothing but show itself, or ask where it came from."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    if refreshed:
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        policy += f"; connect-src 'self'; script-src 'sha256-{digest}'"
    return policy
