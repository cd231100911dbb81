"""Checks that the fields of options have values of their annotated types. Standard library only."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
    NoneType: "unset",
}
"""What a value of a type is called in an error."""

MAX_SHOWN = 80
"""Characters of a value that an error shows."""


def check_types(options: Any) -> None:
    """Raise `ValueError` if a field of a dataclass has a value of another type than it is annotated with."""
    for name, hint in hints_of(type(options)).items():
        value = getattr(options, name)
        if not is_of(hint, value):
            raise ValueError(f"`{name}` must be {words_for(hint)}, got {shown(value)}")


def shown(value: Any) -> str:
    """Return a value as an error shows it: in Python's form, in one line and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a class of the user's own, or an integer of too many digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


@cache
def hints_of(kind: type) -> Mapping[str, Any]:
    """Return the annotated type of each field of a dataclass; `Any` for all if an annotation cannot be resolved."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):  # of a user's own class
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in fields(kind)}


def is_of(hint: Any, value: Any) -> bool:
    """Return whether a value is of an annotated type; of a type that has no rule here, any value is.

    A whole number is a number, and neither is `True`; a list is a tuple of its items.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(choice) is type(value) and choice == value for choice in arguments)
    if origin in (Union, types.UnionType):
        return any(is_of(kind, value) for kind in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(is_of(arguments[1], item) for item in value.values())
    if origin is tuple:
        return _is_tuple_of(arguments, value)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    ruled = isinstance(hint, type) and (issubclass(hint, (str, bool, NoneType, Path)) or is_dataclass(hint))
    return not ruled or isinstance(value, hint)


def _is_tuple_of(kinds: Sequence[Any], value: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return all(is_of(kinds[0], item) for item in value)
    return len(kinds) == len(value) and all(map(is_of, kinds, value))


def words_for(hint: Any) -> str:
    """Return what a value of an annotated type is called, such as `a whole number or unset`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(words_for, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        count = "" if Ellipsis in arguments else f" of {len(arguments)} values"
        return f"a list{count} of which each is {words_for(arguments[0])}" if arguments else "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "texts by name" if arguments[1] is str else f"by name {words_for(arguments[1])}"
    if isinstance(hint, type):
        return WORDS.get(hint, hint.__name__)
    return "another value"
