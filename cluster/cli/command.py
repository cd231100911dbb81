"""Parses the words of one command."""

from collections.abc import Callable

import tyro

from cluster.config.flags import parse


def parse_command(function: Callable[..., int], arguments: list[str]) -> int:
    """Call a command's function, whose name is the command, with what its words say; its exit status."""
    return parse(function, arguments, f"nascluster {function.__name__}", config=(tyro.conf.FlagCreatePairsOff,))
