"""Builds well-formed HTML and SVG: all text that is not markup is escaped. Standard library only."""

from collections.abc import Iterable
from html import escape

Attribute = str | float | bool | None

VOID = frozenset({"input", "meta"})
"""HTML elements without an end tag."""


class Markup(str):
    """A string that is HTML; every other string is plain text."""

    __slots__ = ()


def text(plain: str) -> Markup:
    """Escape plain text; return HTML unchanged."""
    return plain if isinstance(plain, Markup) else Markup(escape(plain))


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """Join the parts, escaped where they are plain text."""
    return Markup(text(between).join(text(part) for part in parts))


def prose(sentence: str) -> Markup:
    """Return a sentence as HTML, with the parts between backticks as code."""
    parts = sentence.split("`")
    return joined(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def tag(element: str, /, *children: str, **attributes: Attribute) -> Markup:
    """Return one element.

    Args:
        element: name of the element.
        children: its content; strings that are not `Markup` are escaped.
        attributes: by name, with `_` for `-`; a trailing `_`, as in `class_`, is dropped. `None` and False omit an
            attribute, True writes it without a value, and floats are pixels, written to a hundredth.
    """
    attribute_text = "".join(_attribute(name, value) for name, value in attributes.items())
    tail = "" if element in VOID else f"{joined(children)}</{element}>"
    return Markup(f"<{element}{attribute_text}>{tail}")


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(pixels(value) if isinstance(value, float) else str(value))}"'


def pixels(value: float) -> str:
    """Format a length to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
