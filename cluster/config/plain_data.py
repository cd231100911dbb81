"""Options as plain data and back, and the defaults of a part. Standard library only."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

from child_trainer import own_files
from child_trainer.field_types import hints_of, is_of, shown, words_for
from cluster.config.locations import is_url
from cluster.formatting import first_line

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return a value with tuples as lists and paths as texts, as in JSON."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


class KnownValues(NamedTuple):
    """What of some plain data this version knows: the values by field, and what it does not know, a clause each."""

    values: dict[str, Any]
    unknown: tuple[str, ...]


class Known(NamedTuple):
    """A dataclass of some plain data, and what of the data this version does not know, a clause each."""

    value: Any
    unknown: tuple[str, ...]


def known_values(kind: type, data: Any, where: str, *, checked: bool = True) -> KnownValues:
    """Return the values of a dataclass's fields from what `plain` made of them, as far as this version knows them.

    Args:
        kind: the dataclass.
        data: what `plain` made of one of an earlier, this or a later version.
        where: the option that the data is the value of; empty for a whole configuration.
        checked: whether values must be of the annotated types.
    """
    if not isinstance(data, Mapping):
        return KnownValues({}, (f"the value {shown(data)} of `{where}`, which must be an object",))
    hints = hints_of(kind)
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in data.items():
        place = f"{where}.{name}" if where else name
        if name not in hints:
            unknown.append(f"the option `{place}`")
        elif isinstance(hints[name], type) and is_dataclass(hints[name]):
            values[name], clauses = known(hints[name], value, place)
            unknown += clauses
        else:
            restored = restore_value(hints[name], value)
            if checked and not is_of(hints[name], restored):
                unknown.append(f"the value {shown(value)} of `{place}`, which must be {words_for(hints[name])}")
            else:
                values[name] = restored
    return KnownValues(values, tuple(unknown))


def known(kind: type, data: Any, where: str, *, checked: bool = True) -> Known:
    """Return a dataclass from what `plain` made of it; what is missing, unknown or refused has its default.

    The arguments are those of `known_values`.

    Raises:
        ValueError: an option has no default.
    """
    values, unknown = known_values(kind, data, where, checked=checked)
    try:
        return Known(kind(**values), unknown)
    except Exception as error:  # a user's own class may raise anything
        return Known(default_options(kind, where), (*unknown, f"the value of `{where}` ({first_line(str(error))})"))


class NotLoaded(str):
    """A clause on a part of the user's own that cannot be loaded here, whatever the version."""

    __slots__ = ()


def unknown_part(what: str, name: str, error: ValueError) -> str:
    """Return the clause on a part whose name leads to an error; that of a user's own part says why."""
    if own_files.is_own(name):
        return NotLoaded(f"the {what} {name!r} cannot be loaded here ({error})")
    return f"the {what} {name!r}"


def restore_value(hint: Any, value: Any) -> Any:
    """Return a value of the annotated type from what `plain` made of it."""
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return known(hint, value, hint.__name__).value
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Path in kinds and isinstance(value, str) and not is_url(value):
        return Path(value)
    if isinstance(value, dict):
        item = _arguments_of(Mapping, kinds)[-1:]
        return {name: restore_value(item[0], each) for name, each in value.items()} if item else value
    return _restored_list(_arguments_of(tuple, kinds), value) if isinstance(value, list) else value


def _arguments_of(origin: Any, kinds: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of the first of these types that is such a generic, or none."""
    return next((get_args(kind) for kind in kinds if get_origin(kind) is origin), ())


def _restored_list(items: tuple[Any, ...], value: list[Any]) -> tuple[Any, ...]:
    """Return a tuple whose items are of these annotated types."""
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
    try:
        return kind()
    except (ValueError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's own class may raise anything
        raise ValueError(
            f"the options of {name} cannot be made: {type(error).__name__}: {first_line(str(error))}"
        ) from error
