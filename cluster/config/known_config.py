"""A configuration that any version has written, as far as this version knows it. No torch, no Ray."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from child_trainer import own_files
from child_trainer.outcome import Measure
from cluster.config.plain_data import NotLoaded, known, known_values, unknown_part
from cluster.config.run_checks import check_max_children, check_name, check_seed
from cluster.config.run_config import RunConfig, unchecked
from cluster.config.task_options import TaskOptions, known_task, with_former_regime
from controller.catalogue import SearcherEntry
from controller.own_parts import find_reward, find_searcher, find_space
from controller.spaces.catalogue import SpaceEntry

ALWAYS_WRITTEN = ("max_children", "searcher", "space", "task", "topology")
"""Fields that every version has written into a run's configuration."""

FORMER_FIELDS = {
    "reinforce": "reinforce",
    "evolution": "evolution",
    "local-search": "local_search",
    "convolutional": "convolutional",
    "recurrent": "recurrent",
    "nasbench201": "nasbench201",
}
"""The field in which earlier versions wrote a searcher's or space's options, whether the run used them or not."""

STAND_INS = {"searcher": "random", "space": "convolutional", "reward": "accuracy"}
"""The parts that stand for those that this version does not know."""

STAND_IN_TASKS = {Measure.ACCURACY: "digits", Measure.PERPLEXITY: "text", Measure.SCORE: "synthetic"}
"""The tasks that stand for those that this version does not know, by what their metric is."""


class UnknownParts(ValueError):
    """A configuration has parts that this version does not know; the message is a clause that names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownConfig:
    """A configuration as far as this version knows it.

    Attributes:
        config: the configuration. An unknown part has a stand-in, and an unknown value is the default.
        names: the names of the searcher, the space, the reward and the task, which this version may not know.
        unknown: a clause on each part that it does not know; without one, `config` is the whole configuration.
        data: the configuration as it was written.
    """

    config: RunConfig
    names: Mapping[str, str]
    unknown: tuple[str, ...]
    data: Mapping[str, Any]

    @property
    def knows_task(self) -> bool:
        """Whether this version knows the task, though perhaps not all of its options."""
        return self.config.task.task == self.names["task"]

    def measured_by(self, measure: Measure) -> RunConfig:
        """Return the configuration, in which a task of this measure stands for one that this version does not know."""
        if self.knows_task:
            return self.config
        return unchecked({**vars(self.config), "task": TaskOptions(task=STAND_IN_TASKS[measure])})


def is_configuration(text: bytes) -> bool:
    """Return whether this is a run's config.json, of any version; other programs have a file of this name, too."""
    try:
        data = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and all(name in data for name in ALWAYS_WRITTEN)


def known_config(data: Mapping[str, Any]) -> KnownConfig:
    """Return the configuration that `RunConfig.to_json` of any version wrote, as far as this version knows it."""
    data = with_former_regime(data)
    apart = ("searcher_options", "space_options", "task", *FORMER_FIELDS.values())
    values, clauses = known_values(RunConfig, {name: value for name, value in data.items() if name not in apart}, "")
    unknown = [*clauses, *_beyond_limits(values)]
    names = {what: values.setdefault(what, getattr(RunConfig, what)) for what in ("searcher", "space", "reward")}
    with own_files.using(values.get("files", {})):
        unknown += _known_part("searcher", find_searcher, data, values)
        unknown += _known_part("space", find_space, data, values)
        try:
            find_reward(values["reward"])
        except ValueError as error:
            unknown.append(unknown_part("reward", values["reward"], error))
            values["reward"] = STAND_INS["reward"]
        written = data.get("task", {})
        values["task"], clauses = known_task(written)
        unknown += clauses
        names["task"] = str(written.get("task", TaskOptions.task)) if isinstance(written, Mapping) else "unknown"
        config = unchecked(values)
        if not unknown:
            try:
                config = RunConfig(**values)
            except ValueError as error:
                unknown.append(f"such a combination ({error})")
    return KnownConfig(config=config, names=names, unknown=tuple(unknown), data=data)


def _beyond_limits(values: dict[str, Any]) -> Iterator[str]:
    """Remove the values that are beyond the limits of this version; yield a clause on each."""
    for name, check in (("seed", check_seed), ("max_children", check_max_children), ("name", check_name)):
        try:
            check(values.get(name, getattr(RunConfig, name)))
        except ValueError as error:
            yield f"the value of `{name}` ({error})"
            del values[name]


def _known_part(
    what: Literal["searcher", "space"],
    find: Callable[[str], SearcherEntry | SpaceEntry],
    data: Mapping[str, Any],
    values: dict[str, Any],
) -> tuple[str, ...]:
    """Set the options of the searcher or space, or else its stand-in, in the values; return the clauses on it.

    Earlier versions wrote the options of every part, by the part's name.
    """
    name, field_name = values[what], f"{what}_options"
    try:
        former = data.get(FORMER_FIELDS.get(name, ""), {})
        options = data.get(field_name, former)
        values[field_name], clauses = known(find(name).options, options, field_name, checked=not own_files.is_own(name))
    except ValueError as error:
        values |= {what: STAND_INS[what], field_name: find(STAND_INS[what]).options()}
        return (unknown_part(what, name, error),)
    return clauses


def unknown_text(unknown: Sequence[str]) -> str:
    """Return a clause on what this version does not know of a run, and on what of the user's own is not there."""
    own = [clause for clause in unknown if isinstance(clause, NotLoaded)]
    others = [clause for clause in unknown if clause not in own]
    return "; ".join([*([f"this version of nascluster does not know {'; '.join(others)}"] if others else []), *own])
