"""Formats the options of a run in groups, a line each, for `launch RECIPE --help`. Standard library only."""

import textwrap
import types
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from child_trainer.field_docs import field_docs

HIDDEN = ("recipe", "start_sources", "files", "option_latencies", "all_training", "file_list")
"""Fields that no flag sets."""

IN_HEAD = ("start_with",)
"""Fields whose flags the lines above all groups tell, with those that are like them."""

TERSE = ("regime", "objectives", "ceilings", "stopping", "weights", "metrics", "logs")
"""Groups whose flags are listed without descriptions, because they are many and most runs need none of them."""

FLAG_WIDTH = 30
"""Columns of the flags with their values' types."""

TYPE_NAMES = {int: "INT", float: "FLOAT"}


def option_lines(options: Any, title: str = "", width: int = 100) -> Iterator[str]:
    """Yield the options of a dataclass and of the dataclasses within it, group by group.

    Args:
        options: an instance, whose values are the defaults.
        title: of the first group.
        width: columns of a line; a longer one is cut.
    """
    apart = (*HIDDEN, *IN_HEAD)
    own = [f for f in fields(options) if f.name not in apart and not is_dataclass(getattr(options, f.name))]
    if own:
        yield ""
        yield f"{title}:" if title else "options:"
        docs, hints = field_docs(type(options)), get_type_hints(type(options))
        for field in own:
            yield _line(field, options, hints[field.name], docs, width)
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in TERSE:
            words = [f"{field.name}:", *(_terse(f, getattr(value, f.name)) for f in fields(value))]
            yield from ("", *textwrap.wrap(" ".join(words), width, subsequent_indent="  ", break_on_hyphens=False))
        elif is_dataclass(value):
            yield from option_lines(value, _title(type(options), field, value), width)


def option_names(options: Any) -> Iterator[tuple[str, str]]:
    """Yield the class and the name of each option of a dataclass and of the dataclasses within it."""
    return ((owner, name) for owner, name, _ in _all_options(options))


def option_values(options: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each option of a dataclass and of the dataclasses within it."""
    return ((name, value) for _, name, value in _all_options(options))


def switches(options: Any) -> Iterator[tuple[str, bool]]:
    """Yield the flag, without its dashes, and the value of each option of a dataclass that is on or off."""
    return ((name.replace("_", "-"), value) for name, value in option_values(options) if isinstance(value, bool))


def _all_options(options: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the class, the name and the value of each option that is no dataclass, and not hidden."""
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _all_options(value)
        elif field.name not in HIDDEN:
            yield type(options).__name__, field.name, value


def flag(field: Field[Any], value: object) -> str:
    """Return the flag that changes a field; a switch that is on by default has one that turns it off."""
    return f"--{'no-' if value is True else ''}{field.name.replace('_', '-')}"


def _terse(field: Field[Any], value: object) -> str:
    """Return a field's flag, with its value if that is not the class's default."""
    return flag(field, value) + (f" [{shown(value)}]" if value != field.default else "")


def takes(hint: Any) -> str:
    """Return the values that a flag takes, for people: a type, or a list of choices; empty for a switch."""
    kinds = [kind for kind in _alternatives(hint) if kind is not type(None)]
    kind = kinds[0] if kinds else str
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) in (tuple, list):
        items = get_args(kind)
        several = len(items) == 1 or items[-1] is Ellipsis
        return f"{takes(items[0])} ..." if several else " ".join(map(takes, items))
    return TYPE_NAMES.get(kind, "TEXT")


def _line(field: Field[Any], options: Any, hint: Any, docs: dict[str, str], width: int) -> str:
    value = getattr(options, field.name)
    left = f"  {flag(field, value)} {takes(hint)}".rstrip()
    default = "" if isinstance(value, bool) or value in (None, "", ()) else f" [{shown(value)}]"
    sentence = docs.get(field.name, "").partition(". ")[0].partition("; ")[0].rstrip(".")
    room = max(10, width - max(FLAG_WIDTH, len(left) + 2) - len(default))
    return f"{left:<{FLAG_WIDTH - 2}}  {textwrap.shorten(sentence, room, placeholder=' ...')}{default}"


def shown(value: object) -> str:
    """Return a value as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _title(owner: type, field: Field[Any], value: object) -> str:
    if field.name.endswith("_options"):
        return f"{field.name.removesuffix('_options')} ({type(value).__name__})"
    about = field_docs(owner).get(field.name, "").rstrip(".")
    name = field.name.replace("_", " ")
    return f"{name} ({about[:1].lower()}{about[1:]})" if about else name


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
