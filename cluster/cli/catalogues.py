"""`nascluster searchers`, `spaces`, `tasks` and `rewards`: lists of what a run can use, with their options."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import tyro

from child_trainer.tasks.catalogue import TASKS, find_task
from cluster.cli.command import parse_command
from cluster.config.help import option_lines
from cluster.config.plain_data import default_options
from controller.catalogue import SEARCHERS
from controller.own_parts import find_reward, find_searcher, find_space
from controller.reward import REWARDS, Reward
from controller.spaces.catalogue import SPACES

WIDTH = 100
"""Columns of a page of options."""

Lines = Callable[[str, Any], Iterator[str]]
"""Yields the lines that describe an entry of this name."""


def searchers(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    return _catalogue("searchers", SEARCHERS, find_searcher, _part_lines, arguments)


def spaces(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    return _catalogue("spaces", SPACES, find_space, _part_lines, arguments)


def tasks(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    return _catalogue("tasks", TASKS, find_task, _part_lines, arguments)


def rewards(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    return _catalogue("rewards", REWARDS, find_reward, _reward_lines, arguments)


def _catalogue(
    command: str, table: Mapping[str, Any], find: Callable[[str], Any], lines: Lines, arguments: list[str]
) -> int:
    def run(
        name: Annotated[
            tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help="One of them, or FILE.py:NAME.")
        ] = None,
    ) -> int:
        if name is not None:
            print("\n".join(lines(name, find(name))))
            return 0
        width = max(map(len, table)) + 2
        for key, entry in table.items():
            print(f"{key:<{width}}{_summary(entry)}")
        print(f"\n`nascluster {command} NAME` shows the options of one; FILE.py:NAME names one of your own")
        return 0

    run.__doc__ = f"List the {command}; with a name, show the options of one."
    return parse_command(command, run, arguments)


def _summary(entry: Any) -> str:
    """Return an entry's summary, with its source if it has one."""
    if isinstance(entry, Reward):
        return (inspect.getdoc(entry.compute) or "").partition("\n")[0]
    paper = getattr(entry, "paper", "")
    return f"{entry.summary} ({paper})" if paper else entry.summary


def _part_lines(name: str, entry: Any) -> Iterator[str]:
    yield from _head(name, entry)
    lines = list(option_lines(default_options(entry.options, name), width=WIDTH))
    yield from lines or ["", "no options"]
    for figure in getattr(entry, "figures", ()):
        yield f"figure {figure.name}: {figure.words}" + (f", in {figure.unit}" if figure.unit else "")


def _reward_lines(name: str, entry: Reward) -> Iterator[str]:
    yield from _head(name, entry)
    yield ""
    yield f"judges: {', '.join(entry.measures)}"


def _head(name: str, entry: Any) -> Iterator[str]:
    yield name
    yield from textwrap.wrap(_summary(entry), WIDTH, initial_indent="    ", subsequent_indent="    ")
