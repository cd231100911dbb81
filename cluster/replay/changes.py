"""Changes the options of a recorded run at one point of it: which ones can be, how they are named, and what is said."""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import reduce
from typing import Any, Union, get_args, get_origin

from child_trainer.close_names import suggestion
from child_trainer.field_types import hints_of
from cluster.config.flags import UsageError, parse_run
from cluster.config.help import HIDDEN, shown
from cluster.config.run_config import RunConfig

CHANGEABLE = (
    "searcher.",
    "budget.",
    "ceilings.",
    "stopping.",
    "failures.",
    "metrics.",
    "logs.",
    "callbacks.",
    "max-children",
    "local",
    "topology.children",
    "topology.workers",
    "topology.workers-per-process",
    "topology.gpus-per-child",
    "topology.threads-per-child",
    "topology.fuse-seeds",
    "topology.staleness-bound",
    "topology.on-stale",
    "topology.max-staleness",
)
"""The options that a run may have otherwise from one point on; with a dot at the end, all of a part."""

FIXED = {
    "name": "`--name` names the new run",
    "storage-path": "the new run is beside the other one",
    "seed": "the data are split by it, and the rewards until then are of that split",
    "searcher": "another searcher has another state; `nascluster launch ... --warm-start` begins it with the best"
    " architectures of a run",
    "space": "the children until then are of the space that they were sampled from",
    "reward": "the rewards until then are of that kind",
    "start-with": "the search has begun with others",
    "task": "the rewards until then are of that task and its data",
    "objectives": "the rewards until then count the objectives as they were",
    "topology": "the shards and the replicas have the state that they came to with it",
    "weights": "it is of weights that children share, and these have none",
}
"""Why the others cannot be changed, by their first word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """A configuration with changed options.

    Attributes:
        config: the configuration.
        then: each change, as `KEY=VALUE (was VALUE)`; none for a value that an option has anyway.
        of_searcher: the changed options of the searcher, by their keys.
    """

    config: RunConfig
    then: tuple[str, ...]
    of_searcher: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a configuration: the fields that lead to it, and its type."""

    path: tuple[str, ...]
    hint: Any

    def of(self, config: RunConfig) -> Any:
        """Return its value."""
        return reduce(getattr, self.path, config)


def change(config: RunConfig, settings: Sequence[str]) -> Changed:
    """Return a configuration with changed options.

    Args:
        config: as it was recorded.
        settings: what is changed, each as KEY=VALUE; a key is that of the recorded configuration with dots between its
            parts, as in `searcher.entropy-bonus=0.02` or `max-children=300`.

    Raises:
        UsageError: there is no such option, it cannot be changed at this point, or its value is impossible.
        ValueError: the options do not fit together.
    """
    options = options_of(config)
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        name = _canonical(key)
        if not equals or not name:
            raise UsageError(f"`--then` takes KEY=VALUE, as in searcher.entropy-bonus=0.02, got {setting!r}")
        _check_changeable(name, options)
        if name in given:
            raise UsageError(f"`--then` names {name} twice")
        given[name] = value
    made = _parsed(config, {name: (options[name], value) for name, value in given.items()})
    changes = {
        name: (options[name].of(made), options[name].of(config))
        for name in given
        if options[name].of(made) != options[name].of(config)
    }
    return Changed(
        config=made,
        then=tuple(f"{name}={_shown(new)} (was {_shown(old)})" for name, (new, old) in changes.items()),
        of_searcher=tuple(name for name in changes if name.startswith("searcher.")),
    )


def options_of(config: RunConfig) -> dict[str, Option]:
    """Return the options of a configuration by their keys."""
    return dict(_options(config))


def is_changeable(name: str) -> bool:
    """Return whether a run may have another value of an option from one point on."""
    return name in CHANGEABLE or name.startswith(tuple(part for part in CHANGEABLE if part.endswith(".")))


def _options(options: Any, key: str = "", path: tuple[str, ...] = ()) -> Iterator[tuple[str, Option]]:
    for field in fields(options):
        if field.name in HIDDEN:
            continue
        value, there = getattr(options, field.name), (*path, field.name)
        name = field.name.replace("_", "-")
        if is_dataclass(value):
            yield from _options(value, f"{key}{name.removesuffix('-options')}.", there)
        else:
            yield f"{key}{name}", Option(there, hints_of(type(options)).get(field.name))


def _canonical(key: str) -> str:
    """Return an option's key with dashes, whether it was typed as an option or as it stands in the configuration."""
    first, dot, rest = key.strip().lstrip("-").replace("_", "-").partition(".")
    return f"{first.removesuffix('-options')}{dot}{rest}"


def _check_changeable(name: str, options: Mapping[str, Option]) -> None:
    """Raise `UsageError` unless there is such an option, and it may change."""
    if name not in options:
        able = list(filter(is_changeable, options))
        same = [key for key in able if key.rpartition(".")[2] == name.rpartition(".")[2]]
        close = f"; did you mean {same[0]!r}?" if same else suggestion(name, able)
        raise UsageError(f"the run has no option {name!r} that `--then` could change{close}")
    if not is_changeable(name):
        raise UsageError(f"`--then` cannot change {name}: {FIXED[name.partition('.')[0]]}")


def _parsed(config: RunConfig, given: Mapping[str, tuple[Option, str]]) -> RunConfig:
    """Return the configuration with these values, which are parsed as those of flags."""
    if not given:
        return config
    flags = [word for name, (option, value) in given.items() for word in _words(name, option, value)]
    try:
        made = parse_run(config, flags, "RECIPE")
    except UsageError as error:
        text = re.sub(r" \(`nascluster launch [^`]*` lists the options\)$", "", str(error))
        for name, (option, _) in given.items():
            text = text.replace(_flag(option), name)
        raise UsageError(text) from error
    return replace(config, **{option.path[0]: getattr(made, option.path[0]) for option, _ in given.values()})


def _words(name: str, option: Option, value: str) -> list[str]:
    """Return the flag that sets an option, with its value."""
    flag, kinds = _flag(option), get_args(option.hint) if _is_union(option.hint) else (option.hint,)
    if bool in kinds and value.lower() in ("true", "false"):
        return [flag if value.lower() == "true" else flag.replace("--", "--no-", 1)]
    if bool in kinds:
        raise UsageError(f"{name} must be true or false, got {value}")
    if type(None) in kinds and value.lower() == "none":
        return [flag, "None"]
    if any(get_origin(kind) is tuple for kind in kinds):
        return [flag, *value.split(",")]
    return [f"{flag}={value}"]


def _flag(option: Option) -> str:
    return f"--{option.path[-1].replace('_', '-')}"


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _shown(value: object) -> str:
    """Return a value as it is typed."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return shown(value).replace(" ", ",") or "none"
