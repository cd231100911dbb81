"""Parses the arguments of one command."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from cluster.config.flags import parse
from cluster.config.known_config import unknown_text

T = TypeVar("T")


def parse_command(command: str, function: Callable[..., T], arguments: list[str]) -> T:
    """Parse a command's arguments, call its function with them, and return what that returns.

    Raises:
        UsageError: the arguments cannot be understood.
    """

    @functools.wraps(function)
    def parsed(*values: Any, **options: Any) -> Callable[[], T]:
        # It is called once the arguments are parsed, because until then standard error is redirected.
        return functools.partial(function, *values, **options)

    return parse(parsed, arguments, f"nascluster {command}", config=(tyro.conf.FlagCreatePairsOff,))()


def note_unknown(unknown: Sequence[str]) -> None:
    """Print a line on standard error with what this version does not know of a run, if there is anything."""
    if unknown:
        print(f"nascluster: {unknown_text(unknown)}", file=sys.stderr)
