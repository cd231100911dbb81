"""The options of a search or an evaluation as keyword arguments of Python: from them to flags, and back in errors."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cluster.config.flags import HELP_ALL, REPEATED, UsageError
from cluster.config.recipes import find_recipe, recipe_label
from cluster.config.run_config import RunConfig
from cluster.runners.retraining import parse_launch
from cluster.runners.sample_files import given_samples
from cluster.storage.dataset_cache import located


def configured(recipe: str | RunConfig, options: dict[str, object]) -> RunConfig:
    """Return the run that the options make of a recipe, with a name.

    Raises:
        ValueError: an option is unknown or has an invalid value.
    """
    if not isinstance(recipe, str | RunConfig):
        raise ValueError(f"`recipe` must be a name or a RunConfig, got {recipe!r}")
    start = given_samples(options["start_with"]) if options.get("start_with") else None
    words = [word for name, value in options.items() if name != "start_with" for word in words_of(name, value)]
    whole = isinstance(recipe, RunConfig)
    try:
        config, _ = parse_launch(
            recipe if whole else find_recipe(recipe), words, "recipe" if whole else recipe, start=start
        )
    except UsageError as error:
        raise UsageError(in_python(str(error))) from error
    label = "run" if whole else recipe_label(recipe)
    name = config.name or f"{label}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    task = replace(config.task, data=located(config.task.data))
    return replace(config, name=name, recipe=recipe if isinstance(recipe, str) else config.recipe, task=task)


def in_python(text: str) -> str:
    """Return an error about flags with the options' names in Python."""
    text = re.sub(r"^Unrecognized options: --(?:no-)?([\w-]+)(?:, [^;(]*)?", r"there is no option `--\1`", text)
    text = re.sub(r"^(--[\w-]+)(?= must|:)|(?<=did you mean )(--[\w-]+)", lambda flag: f"`{flag[0]}`", text)
    text = re.sub(r"`--([\w-]+) ([^\s`]+)`", lambda flag: f"`{_argument(flag[1], flag[2])}`", text)
    return re.sub(r"`--([\w-]+)`", lambda flag: f"`{flag[1].replace('-', '_')}`", text)


def _argument(flag: str, value: str) -> str:
    """Return a flag with its value as an argument in Python: `task="digits"`, `epochs=2`."""
    try:
        float(value)
    except ValueError:
        value = f'"{value}"'
    return f"{flag.replace('-', '_')}={value}"


def words_of(name: str, value: object) -> Sequence[str]:
    """Return the command-line arguments that set an option to a value.

    Raises:
        ValueError: this is no option, or no value that an option can have.
    """
    flag = f"--{name.replace('_', '-')}"
    if flag in ("--help", HELP_ALL) or isinstance(value, dict | set):
        raise ValueError(f"`{name}` must be an option of the search, with a plain value, got {value!r}")
    if isinstance(value, list | tuple) and not value:
        return [] if flag in REPEATED else [flag]  # which of them may be empty, their parser knows
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, list | tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]
