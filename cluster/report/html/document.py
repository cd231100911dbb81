"""A self-contained HTML page: no network, no other files, and no script unless it refreshes itself."""

import base64
import hashlib

from cluster.report.html.markup import Markup, tag
from cluster.report.html.style import REFRESH_S, SCRIPT, STYLE


def section(name: str, title: str, *content: str) -> Markup:
    """Return one section of the page, with the anchor for the table of contents."""
    return tag("section", tag("h2", title), *content, id=name)


def document(title: str, *content: str, refreshed: bool = False) -> str:
    """Return the whole page.

    Args:
        title: title of the browser's window.
        content: content of the page, from top to bottom.
        refreshed: whether the page polls its server for a new version.
    """
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(refreshed)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    ]
    if refreshed:
        head.append(tag("noscript", tag("meta", http_equiv="refresh", content=str(REFRESH_S))))
    body = tag("body", tag("main", *content), tag("script", Markup(SCRIPT)) if refreshed else "")
    return "<!DOCTYPE html>\n" + tag("html", tag("head", *head), body, lang="en") + "\n"


def _policy(refreshed: bool) -> str:
    """Return the Content-Security-Policy: no requests, except to the page's own server if it refreshes."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    if refreshed:
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        policy += f"; connect-src 'self'; script-src 'sha256-{digest}'"
    return policy
