"""The plan of a comparison: searchers and options, one space, task and budget, and the seeds that all share."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from cluster.compare.table_front import TableFront
from cluster.config.durations import UNITS_S, parse_seconds
from cluster.config.flags import REPEATED, UsageError, check_options, flags_among, parse_run
from cluster.config.recipes import changed
from cluster.config.run_checks import MAX_CHILDREN
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from controller.catalogue import SEARCHERS
from controller.own_parts import find_searcher

OWN_OPTIONS = ("searcher_options", "topology", "reward", "objectives", "files")
"""Fields that each searcher may set for itself: they concern how it learns, not what is judged.

Of the objectives these are the targets. What counts beside the metric all share.
"""

OBJECTIVES = frozenset({"--objective", "--target", "--target-weights"})
"""Flags of searches with several objectives. Searchers differ in which of them they need, and so each has them."""

BASELINE = "random"
"""The searcher to which all others are compared."""

REPLACED_FIELDS = {
    "name": "--output",
    "storage_path": "--output",
    "local": None,
    "max_children": "--budget",
    "ceilings": "--budget",
    "searcher": None,
    "metrics": None,
    "logs": None,
    "callbacks": None,
}
"""Fields of a run that a comparison lacks, with the flag to use instead, if there is one."""

MAX_SEEDS = 100_000

FLAG = re.compile("-[-a-zA-Z]")
"""How a flag begins, and no number does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The budget of one search: a number of children, or the seconds that its children cost in sum."""

    children: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.seconds:,.15g} s" if self.children is None else counted(self.children, "child")


def parse_limit(text: str) -> Limit:
    """Parse the budget of a search: a whole number of children, or a time with a unit.

    Raises:
        ValueError: it is neither.
    """
    if text[-1:] in UNITS_S:
        return Limit(seconds=parse_seconds("budget", text))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_CHILDREN):
        raise ValueError(
            f"`budget` must be children, such as 500 (1 to {MAX_CHILDREN:,}), or a time with its unit, such as"
            f" 12000s or 3h, got {text!r}"
        )
    return Limit(children=int(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """One searcher of a comparison.

    Attributes:
        label: the user's name for it: the searcher, with its options if it has any.
        config: configuration of its searches; the seed is that of the first.
    """

    label: str
    config: RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A comparison.

    Attributes:
        recipe: name of the recipe.
        entrants: the searchers, random search included.
        seeds: the seeds with which each searcher runs.
        limit: budget of each search.
        front: the table's, of searches with several objectives.
    """

    recipe: str
    entrants: tuple[Entrant, ...]
    seeds: range
    limit: Limit
    front: TableFront | None = None

    @property
    def config(self) -> RunConfig:
        """The configuration of the first searcher, for the settings that all share."""
        return self.entrants[0].config

    @property
    def baseline(self) -> Entrant:
        """The entrant that uses random search."""
        return next(entrant for entrant in self.entrants if entrant.config.searcher == BASELINE)


def make_plan(
    recipe: str,
    base: RunConfig,
    words: Sequence[str],
    seeds: int,
    limit: Limit,
    flags: Sequence[str] = (),
    *,
    joining: Sequence[str] = (),
) -> Plan:
    """Make the plan of a comparison; random search joins if it is not named.

    Args:
        recipe: name of the recipe.
        base: the settings that all share; its seed is the first one.
        words: one per searcher, perhaps with options: `reinforce:entropy-bonus=0.1,children=1`.
        seeds: number of seeds.
        limit: budget of each search.
        flags: options of searchers, applied to those that have them, and objectives.
        joining: searchers that join, unless the words name one with the same options.

    Raises:
        ValueError: a word names no searcher, two name the same search, or there are too few or too many seeds.
    """
    if not 2 <= seeds <= MAX_SEEDS:
        raise UsageError(f"`seeds` must be 2 to {MAX_SEEDS:,}, as an interval needs several, got {seeds}")
    if twice := next((word for place, word in enumerate(words) if word in words[:place]), None):
        raise UsageError(f"{twice!r} is named twice: name each searcher once, or with other options")
    base = replace(base, max_children=limit.children or MAX_CHILDREN)
    entrants = [make_entrant(word, base, recipe, flags) for word in words]
    _check_different(entrants)
    named = [entrant.config for entrant in entrants]
    others = [make_entrant(word, base, recipe, flags) for word in joining]
    entrants += [entrant for entrant in others if entrant.config not in named]
    if not any(entrant.config.searcher == BASELINE for entrant in entrants):
        entrants.append(make_entrant(BASELINE, base, recipe, flags_among(flags, OBJECTIVES)))
    return Plan(recipe=recipe, entrants=tuple(entrants), seeds=range(base.seed, base.seed + seeds), limit=limit)


def _check_different(entrants: Sequence[Entrant]) -> None:
    """Raise `UsageError` if two words mean the same search, as `evolution` does with its usual population."""
    for place, entrant in enumerate(entrants):
        if same := next((other.label for other in entrants[:place] if other.config == entrant.config), None):
            raise UsageError(f"{same!r} and {entrant.label!r} are the same search: name it once, or with other options")


def make_entrant(word: str, base: RunConfig, recipe: str, flags: Sequence[str] = ()) -> Entrant:
    """Parse `SEARCHER` or `SEARCHER:OPTION=VALUE,...`; the options are the flags of `nascluster launch`.

    Args:
        word: the searcher, one of ours or `FILE.py:NAME`, perhaps with options.
        base: the settings that all searchers share.
        recipe: name of the recipe.
        flags: objectives, and options of searchers that were given for all; this one takes those that it has.

    Raises:
        ValueError: there is no such searcher or option, or the option belongs to another searcher.
    """
    name, rest = split_word(word)
    arguments = _arguments(word, rest)
    if "--objective" in arguments:
        raise UsageError(f"{word!r} sets `objective`, which all searchers share: give it as a flag, `--objective`")
    try:
        common = base.with_searcher(name)
        check_options(common, arguments)
        known_flags = {f"--{f.name.replace('_', '-')}" for f in fields(common.searcher_options)}
        config = parse_run(common, [*flags_among(flags, known_flags | OBJECTIVES), *arguments], recipe)
    except ValueError as error:
        raise UsageError(f"{word!r}: {in_words_of_comparison(error)}") from error
    if wrong := next((f for f in changed(config, common) if f not in OWN_OPTIONS), None):
        raise UsageError(
            f"{word!r} sets `{wrong}`, which all searchers share; a searcher may set its own options, the topology,"
            " the reward and targets"
        )
    return Entrant(label=word, config=config)


def _arguments(word: str, text: str | None) -> list[str]:
    """Return a searcher's options, `OPTION=VALUE,OPTION=VALUE`, as flags with their values.

    Raises:
        UsageError: there are no such pairs, an option occurs twice, or a value is a flag.
    """
    arguments: list[str] = []
    for part in text.split(",") if text is not None else ():
        option, equals, value = part.partition("=")
        if not (option.strip() and equals and value.strip()):
            raise UsageError(f"{word!r} must be SEARCHER or SEARCHER:OPTION=VALUE,OPTION=VALUE, got {part!r} in it")
        name, values = option.strip().replace("_", "-"), value.split()
        if f"--{name}" in arguments and f"--{name}" not in REPEATED:
            raise UsageError(f"{word!r} sets `{name}` twice: set each option once")
        if wrong := next((text for text in values if FLAG.match(text)), None):
            raise UsageError(
                f"{word!r} has the flag `{wrong}` in it: give options of the searcher as OPTION=VALUE, and flags for"
                " all apart from it"
            )
        arguments += [f"--{name}", *values]
    return arguments


def in_words_of_comparison(error: ValueError) -> str:
    """Return what an error says, with the flag of a comparison that sets the number of children."""
    return str(error).replace("`max_children`", "`--budget`")


def searcher_flags(words: Sequence[str]) -> set[str]:
    """Return the flags that are options of one of these searchers.

    Raises:
        ValueError: there is no such searcher.
    """
    entries = [find_searcher(split_word(word)[0]) for word in words]
    return {f"--{f.name.replace('_', '-')}" for entry in entries for f in fields(entry.options)}


def split_word(word: str) -> tuple[str, str | None]:
    """Split `SEARCHER:OPTIONS` into name and options; `FILE.py:NAME` has a colon in its name, too."""
    parts = word.split(":")
    count = 1 if parts[0] in SEARCHERS or len(parts) == 1 or "=" in parts[1] else 2
    rest = ":".join(parts[count:])
    return ":".join(parts[:count]), rest if len(parts) > count else None


def check_common(base: RunConfig, recipe: RunConfig) -> None:
    """Raise `UsageError` for a flag that does not apply to a comparison."""
    for name in changed(base, recipe):
        if name in REPLACED_FIELDS:
            instead = REPLACED_FIELDS[name]
            flag = name.replace("_", "-")
            raise UsageError(
                f"the options of `{flag}` are not for a comparison" + (f": use {instead}" if instead else "")
            )


def max_children_within(limit_seconds: float, cheapest_seconds: float) -> int:
    """Return the number of children that certainly uses up a budget in seconds.

    Raises:
        ValueError: no number of children does.
    """
    if not cheapest_seconds > 0:
        raise UsageError(
            "a budget in seconds needs children that take time, and the table has one of 0 s: use a budget in children"
        )
    return min(MAX_CHILDREN, math.floor(limit_seconds / cheapest_seconds) + 1)
