"""What is compared: searchers with their options, on one space and task, within one budget, with the same seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.config.durations import UNITS_S, parse_seconds
from cluster.config.flags import UsageError, known, parse_run
from cluster.config.recipes import changed
from cluster.config.run_config import MOST_CHILDREN, RunConfig
from cluster.formatting import counted

SEARCHERS = {"reinforce": "reinforce", "random": None, "evolution": "evolution", "local-search": "local_search"}
"""By name, the field of `RunConfig` that has the options of the searcher alone."""

SHARED_OPTIONS = ("topology", "reward")
"""Fields that each searcher may set for itself, as they are of how it learns and not of what is judged."""

BASELINE = "random"
"""The searcher that every other must beat, and is always compared to."""

NOT_HERE = {
    "name": "--output",
    "storage_path": "--output",
    "local": None,
    "max_children": "--budget",
    "searcher": None,
    "metrics": None,
    "logs": None,
    "callbacks": None,
}
"""Fields that a run has and a comparison has not, with what takes their place."""

MOST_SEEDS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What one search may use: so many children, or children whose costs sum up to so many seconds."""

    children: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.seconds:,.15g} s" if self.children is None else counted(self.children, "child")


def parse_limit(text: str) -> Limit:
    """The budget of a search: children where it is a whole number, else a time with a unit.

    Raises:
        ValueError: it is neither.
    """
    if text[-1:] in UNITS_S:
        return Limit(seconds=parse_seconds("budget", text))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CHILDREN):
        raise ValueError(
            f"`budget` must be children, such as 500 (at most {MOST_CHILDREN:,}), or a time with its unit, such as"
            f" 12000s or 3h, got {text!r}"
        )
    return Limit(children=int(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """One of those that are compared.

    Attributes:
        label: as the user named it: the searcher, with its options if it has any.
        config: of its searches; the seed is the first one's.
    """

    label: str
    config: RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A comparison.

    Attributes:
        recipe: what was asked for, by its name.
        entrants: the searchers, random search among them.
        seeds: each of which every searcher has.
        limit: of each search.
    """

    recipe: str
    entrants: tuple[Entrant, ...]
    seeds: range
    limit: Limit

    @property
    def config(self) -> RunConfig:
        """What all have in common."""
        return self.entrants[0].config

    @property
    def baseline(self) -> Entrant:
        """Random search."""
        return next(entrant for entrant in self.entrants if entrant.config.searcher == BASELINE)


def make_plan(recipe: str, base: RunConfig, words: Sequence[str], seeds: int, limit: Limit) -> Plan:
    """The comparison of these searchers; random search joins them if it is not among them.

    Args:
        recipe: its name.
        base: what all have in common; its seed is the first one.
        words: a searcher each, perhaps with options: `reinforce:entropy-bonus=0.1,children=1`.
        seeds: how many.
        limit: of each search.

    Raises:
        ValueError: a word is none, or is there twice, or there are too few seeds or too many.
    """
    if not 2 <= seeds <= MOST_SEEDS:
        raise UsageError(f"`seeds` must be 2 to {MOST_SEEDS:,}, as an interval needs several, got {seeds}")
    if twice := next((word for place, word in enumerate(words) if word in words[:place]), None):
        raise UsageError(f"{twice!r} is there twice: name each searcher once, or with other options")
    base = replace(base, max_children=limit.children or MOST_CHILDREN)
    entrants = [make_entrant(word, base, recipe) for word in words]
    if not any(entrant.config.searcher == BASELINE for entrant in entrants):
        entrants.append(make_entrant(BASELINE, base, recipe))
    return Plan(recipe=recipe, entrants=tuple(entrants), seeds=range(base.seed, base.seed + seeds), limit=limit)


def make_entrant(word: str, base: RunConfig, recipe: str) -> Entrant:
    """What `SEARCHER` or `SEARCHER:OPTION=VALUE,...` means; the options are the flags of `nascluster launch`.

    Raises:
        ValueError: there is no such searcher or option, or the option is none of this searcher's.
    """
    name, colon, rest = word.partition(":")
    own = known(SEARCHERS, name, "searcher")
    arguments: list[str] = []
    for part in rest.split(",") if colon else ():
        option, equals, value = part.partition("=")
        if not (option.strip() and equals and value.strip()):
            raise UsageError(f"{word!r} must be SEARCHER or SEARCHER:OPTION=VALUE,OPTION=VALUE, got {part!r} in it")
        arguments += [f"--{option.strip().replace('_', '-')}", *value.split()]
    common = replace(base, searcher=name)
    try:
        config = parse_run(common, arguments, recipe)
    except ValueError as error:
        raise UsageError(f"{word!r}: {error}") from error
    allowed = [*SHARED_OPTIONS, *([own] if own else [])]
    if wrong := next((f for f in changed(config, common) if f not in allowed), None):
        what = "another searcher's" if wrong in SEARCHERS.values() else "for all searchers alike"
        raise UsageError(
            f"{word!r} sets what is {what} (`{wrong}`); a searcher may have options of its own and of the"
            f" {' and the '.join(SHARED_OPTIONS)}"
        )
    return Entrant(label=word, config=config)


def check_common(base: RunConfig, recipe: RunConfig) -> None:
    """Raise `UsageError` if a flag was given that a comparison has no use for."""
    for name in changed(base, recipe):
        if name in NOT_HERE:
            instead = NOT_HERE[name]
            flag = name.replace("_", "-")
            raise UsageError(
                f"the options of `{flag}` are not for a comparison" + (f": use {instead}" if instead else "")
            )


def most_children(limit_seconds: float, cheapest_seconds: float) -> int:
    """How many children a search can look at before its seconds are used up.

    Raises:
        ValueError: no number of children uses them up.
    """
    if not cheapest_seconds > 0:
        raise UsageError(
            "a budget in seconds needs children that cost some, and the table has one of 0 s: use a budget in children"
        )
    return min(MOST_CHILDREN, math.floor(limit_seconds / cheapest_seconds) + 1)
