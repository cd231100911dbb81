"""Parses the arguments of one command."""

from collections.abc import Callable
from typing import TypeVar

import tyro

from cluster.config.flags import parse

T = TypeVar("T")


def parse_command(command: str, function: Callable[..., T], arguments: list[str]) -> T:
    """Parse a command's arguments, call its function with them, and return what that returns.

    Raises:
        UsageError: the arguments cannot be understood.
    """
    return parse(function, arguments, f"nascluster {command}", config=(tyro.conf.FlagCreatePairsOff,))
