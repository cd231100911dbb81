"""Options as plain data, and the defaults of a part. Standard library only."""

from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return a value with tuples as lists and paths as texts, as in JSON."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def default_options(kind: type[T], name: str) -> T:
    """Return the default options of the part called `name`.

    Raises:
        ValueError: an option has no default.
    """
    try:
        return kind()
    except TypeError as error:
        raise ValueError(f"every option of {name!r} must have a default: {error}") from error
