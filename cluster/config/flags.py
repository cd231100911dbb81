"""What a user's words on the command line mean; what cannot be understood becomes one sentence."""

import contextlib
import copy
import difflib
import io
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import tyro

from child_trainer.language_options import LanguageOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions

T = TypeVar("T")

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="The run's name.")]
StoragePath = Annotated[str, tyro.conf.arg(help="Folder of all runs, or its URL.")]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of text.")]

BAD_INPUT = 2
"""Exit status of a command that cannot be carried out as typed."""


class UsageError(ValueError):
    """The command line asks for something that cannot be; the message is one sentence."""


def parse(target: Callable[..., T], arguments: list[str], prog: str, **options: Any) -> T:
    """What tyro makes of the arguments; its boxed error becomes one sentence.

    Raises:
        UsageError: the arguments cannot be understood.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(target, args=arguments, prog=prog, **options)
    except SystemExit as stop:
        if stop.code != BAD_INPUT:
            raise
        raise UsageError(f"{_sentence(said.getvalue())} (`{prog} --help` lists the options)") from None


def parse_run(default: RunConfig, arguments: list[str], recipe: str, description: str | None = None) -> RunConfig:
    """The run that the flags of `nascluster launch RECIPE` make of a default.

    A width of the default gives way to `--target-parameters`, which would do nothing beside it.

    Raises:
        UsageError: as `parse`, or both a width and `--target-parameters` are given.
        ValueError: a value cannot be.
    """
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    targeted, wide = "--target-parameters" in given, "--hidden-size" in given
    task = _chosen_task(default.task, arguments)
    if targeted and not wide and isinstance(task.options, LanguageOptions):
        task = replace(task, options=replace(task.options, hidden_size=None))
    config = parse(
        RunConfig,
        arguments,
        f"nascluster launch {recipe}",
        default=default if task == default.task else _with_task(default, task),
        description=description,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    if targeted and wide and config.task.options.hidden_size is not None:
        raise UsageError("give `--hidden-size` or `--target-parameters`, from which the width follows, not both")
    return config


def _chosen_task(default: TaskOptions, arguments: Sequence[str]) -> TaskOptions:
    """Return the task that the arguments name, with its own options, or the default if they name it or none."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    named = [after for word, after in itertools.pairwise(words) if word == "--task"]
    if not named or named[-1] == default.task:
        return default
    return TaskOptions(task=named[-1], data=default.data, download=default.download)


def _with_task(config: RunConfig, task: TaskOptions) -> RunConfig:
    """Return the configuration with another task, which may not fit its space until the flags are read."""
    changed = copy.copy(config)
    object.__setattr__(changed, "task", task)
    return changed


def split(arguments: Sequence[str], valued: Collection[str], alone: Collection[str]) -> tuple[list[str], list[str]]:
    """What a command takes for itself, and the flags of a run that follow.

    Args:
        arguments: of the command; what comes before the first flag is its own.
        valued: its flags that take a value.
        alone: its flags that take none.
    """
    first = next((place for place, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    ours, rest = list(arguments[:first]), list(arguments[first:])
    flags: list[str] = []
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0].replace("_", "-")
        if name not in (*valued, *alone):
            flags.append(word)
            continue
        ours.append(word)
        if name in valued and "=" not in word and rest:
            ours.append(rest.pop(0))
    return ours, flags


def _sentence(box: str) -> str:
    """The first paragraph of a box of tyro's, with the first option that it suggests."""
    rows = [row.strip("│ ") for row in box.splitlines() if row.startswith("│")]
    paragraphs = " ".join(rows).split("─" * 10)
    suggested = re.search(r"Perhaps you meant:\s+(--[\w-]+)", " ".join(rows))
    # Where a field of ours refuses what it is given, tyro names the group that it is in, which is no option.
    sentence = re.sub("^Error parsing [\\w.]+: ", "", " ".join(paragraphs[0].split()).rstrip("."))
    return sentence + (f"; did you mean {suggested[1]}?" if suggested else "")


def known(table: Mapping[str, T], name: str, what: str) -> T:
    """What the table has under this name.

    Raises:
        UsageError: there is none; naming those that there are.
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"unknown {what} {name!r}; there are {', '.join(table)}{hint}")
