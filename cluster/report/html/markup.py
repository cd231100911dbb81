"""HTML and SVG as text that cannot be ill-formed: whatever is not made here is escaped. Standard library only."""

from collections.abc import Iterable
from html import escape

Attribute = str | float | bool | None

VOID = frozenset({"input", "meta"})
"""Elements of HTML that have no end."""


class Markup(str):
    """Text that is HTML already, every other string being plain text."""

    __slots__ = ()


def text(plain: str) -> Markup:
    """The text as HTML; HTML stays as it is."""
    return plain if isinstance(plain, Markup) else Markup(escape(plain))


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """The parts one after the other."""
    return Markup(text(between).join(text(part) for part in parts))


def prose(sentence: str) -> Markup:
    """A sentence in which what stands between two backticks is code."""
    parts = sentence.split("`")
    return joined(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def tag(element: str, /, *children: str, **attributes: Attribute) -> Markup:
    """One element.

    Args:
        element: its name.
        children: what is in it; strings that are not `Markup` are escaped.
        attributes: by name, with `_` for `-` (and at the end, as in `class_`, for nothing). `None` and False leave one
            out, True gives it without a value, and fractions are written to a hundredth: they are pixels.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    end = "" if element in VOID else f"{joined(children)}</{element}>"
    return Markup(f"<{element}{written}>{end}")


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(pixels(value) if isinstance(value, float) else str(value))}"'


def pixels(value: float) -> str:
    """A length, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
