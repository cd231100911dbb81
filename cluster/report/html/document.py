"""An HTML page that needs nothing else: no network, no file, and no script unless it is watched."""

import base64
import hashlib

from cluster.report.html.markup import Markup, tag
from cluster.report.html.style import REFRESH_S, SCRIPT, STYLE


def section(name: str, title: str, *content: str) -> Markup:
    """One section of the page, with what the table of contents jumps to."""
    return tag("section", tag("h2", title), *content, id=name)


def document(title: str, *content: str, refreshed: bool = False) -> str:
    """The page with this in it.

    Args:
        title: of the browser's window.
        content: what is on the page, from top to bottom.
        refreshed: it comes from a server that is asked again and again.
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
    """What the browser lets the page do, whatever is in it: nothing but show itself, or ask where it came from."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    if refreshed:
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        policy += f"; connect-src 'self'; script-src 'sha256-{digest}'"
    return policy
