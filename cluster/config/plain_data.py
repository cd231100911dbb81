"""Options as plain data and back, and the defaults of a part. Standard library only."""

import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from cluster.config.locations import is_url

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return a value with tuples as lists and paths as texts, as in JSON."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def restore(kind: type[T], data: dict[str, Any]) -> T:
    """Return a dataclass from what `plain` made of it; what the data does not have is the default."""
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    return kind(**{name: restore_value(hints[name], value) for name, value in data.items() if name in known})


def restore_value(hint: Any, value: Any) -> Any:
    """Return a value of the annotated type from what `plain` made of it."""
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return restore(hint, value)
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Path in kinds and isinstance(value, str) and not is_url(value):
        return Path(value)
    if not isinstance(value, list):
        return value
    items = next((get_args(kind) for kind in kinds if get_origin(kind) is tuple), ())
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(restore_value(items[0], item) for item in value)
    if len(items) == len(value):
        return tuple(map(restore_value, items, value))
    return tuple(value)


def default_options(kind: type[T], name: str) -> T:
    """Return the default options of the part called `name`.

    Raises:
        ValueError: an option has no default.
    """
    for field in fields(kind):  # pyright: ignore[reportArgumentType]
        if field.init and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"every option of {name!r} must have a default, and `{field.name}` has none")
    return kind()
