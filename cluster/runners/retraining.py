"""Takes the best architectures of a run as the children of a new one: all of them, or those that it begins with."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from cluster.config.flags import UsageError, flag_of, flags_among, flags_not_among, parse_run, value_of
from cluster.config.help import shown
from cluster.config.recipes import Recipe, configuration
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.runners.sample_files import START, Samples, with_samples
from cluster.storage.find_run import existing_run
from cluster.storage.ledger.queries.candidates import Candidate, candidates
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searchers.given import Given, GivenOptions, sample_text

SEARCHER = "given"

TOP = 5
"""How many of the best architectures are trained, unless the command says another number."""

FLAGS = ("--from-run", "--warm-start", "--top")
"""The flags of `nascluster launch` that choose architectures of another run; they are no fields of the new one."""


class Source(NamedTuple):
    """Which architectures a new run is to train: the best `top` ones of the run called `name`.

    With `goes_on` the run begins with them, and then searches.
    """

    name: str
    top: int
    goes_on: bool = False


def parse_launch(
    recipe: Recipe | RunConfig,
    arguments: Sequence[str],
    label: str,
    description: str | None = None,
    start: Samples | None = None,
) -> tuple[RunConfig, list[str]]:
    """Return the run that the flags of `nascluster launch` make of a recipe, and sentences that the user should read.

    With `--from-run` its children are the best architectures of another run, with `--warm-start` only the first ones.

    Args:
        recipe: the recipe, or a whole configuration.
        arguments: the flags.
        label: the recipe's name, for `--help` and errors.
        description: what `--help` says of it.
        start: the architectures that the search begins with, if they are given otherwise than by `--start-with`.

    Raises:
        UsageError: as `parse_run`, or these architectures cannot be had.
        RunFolderError: there is no such run.
        ValueError: a value is invalid.
    """
    source, flags = source_of(arguments)
    if source is not None and start is not None:
        raise _two_beginnings(source)
    flags, samples = with_samples(flags)
    samples = start or samples
    if not isinstance(recipe, RunConfig):
        recipe = configuration(recipe, value_of(flags, "--searcher"), value_of(flags, "--task"))
    if source is None or source.goes_on:
        config = parse_run(samples.default(recipe), flags, label, description)
        samples.check(config)
        if source is not None:
            return warm_started(config, source, existing_run(config.storage_path, source.name))
        return config, []
    config = parse_run(retrained_by(recipe, flags), flags, label, description)
    return retraining(config, flags, source, existing_run(config.storage_path, source.name))


def source_of(arguments: Sequence[str]) -> tuple[Source | None, list[str]]:
    """Return what `FLAGS` say among the flags of a launch, `None` without them, and the other flags.

    Raises:
        UsageError: they say nothing that can be done.
    """
    ours, flags = flags_among(arguments, FLAGS), flags_not_among(arguments, FLAGS)
    if not ours:
        return None, flags
    given = set(map(flag_of, ours))
    if {"--from-run", "--warm-start"} <= given:
        raise UsageError("`--from-run` trains architectures in place of a search, `--warm-start` before it: give one")
    flag = "--warm-start" if "--warm-start" in given else "--from-run"
    name = value_of(ours, flag)
    if not name:
        raise UsageError(f"name the run whose architectures are to be trained, as in `{flag} NAME --top 5`")
    top = value_of(ours, "--top") or "nothing" if "--top" in map(flag_of, ours) else str(TOP)
    if not top.isdecimal() or int(top) < 1:
        raise UsageError(f"`--top` must be a whole number of at least 1, got {top}")
    source = Source(name, int(top), goes_on=flag == "--warm-start")
    if START in map(flag_of, flags):
        raise _two_beginnings(source)
    return source, flags


def _two_beginnings(source: Source) -> UsageError:
    flag = "--warm-start" if source.goes_on else "--from-run"
    return UsageError(f"`{START}` and `{flag}` both say which architectures are trained first: give one")


def retrained_by(recipe: RunConfig, flags: Sequence[str]) -> RunConfig:
    """Return the recipe with the searcher that trains given architectures, whose flags can then be parsed.

    Raises:
        UsageError: the flags name another searcher.
    """
    if (named := value_of(flags, "--searcher")) not in (None, SEARCHER):
        raise UsageError(
            f"`--from-run` trains the architectures of a run, which no searcher chooses: leave out `--searcher {named}`"
        )
    return recipe.with_searcher(SEARCHER)


def retraining(config: RunConfig, flags: Sequence[str], source: Source, run: RunFolder) -> tuple[RunConfig, list[str]]:
    """Return the run that trains the best architectures of another one, and sentences on what differs between them.

    Args:
        config: the new run, which has the searcher `given`.
        flags: what was typed for it.
        source: which architectures.
        run: the other run.

    Raises:
        UsageError: the runs are of different spaces, the other one has not so many architectures, or the new space has
            not one of them.
    """
    options, notes = _best_of(config, source, run)
    children = config.max_children if value_of(flags, "--max-children") else len(options.samples)
    return replace(config, searcher_options=options, max_children=children), notes


def warm_started(config: RunConfig, source: Source, run: RunFolder) -> tuple[RunConfig, list[str]]:
    """Return the search that begins with the best architectures of another run, and sentences on what differs.

    Raises:
        UsageError: as of `retraining`.
        ValueError: the searcher cannot go on from them.
    """
    options, notes = _best_of(config, source, run)
    return replace(config, start_with=options.samples, start_sources=options.sources), notes


def _best_of(config: RunConfig, source: Source, run: RunFolder) -> tuple[GivenOptions, list[str]]:
    """Return the best architectures of a run, and a sentence on what differs between the spaces, if anything does."""
    known = run.read_known()
    if known.names["space"] != config.space:
        theirs = known.names["space"]
        raise UsageError(
            f"the run {run.name!r} has the space {theirs!r}, and the new run {config.space!r}: give `--space {theirs}`,"
            " with the options that its networks are to have"
        )
    with reading(run) as db:
        found = candidates(db)
    if len(found) < source.top:
        count = counted(len(found), "different architecture") if found else "no architecture"
        limit = f": `--top` must be at most {len(found)}, got {source.top}" if found else " yet"
        raise UsageError(f"the run {run.name!r} has {count} with a reward{limit}")
    best = found[: source.top]
    options = GivenOptions(
        samples=tuple(sample_text(candidate.tokens) for candidate in best),
        sources=tuple(_source(candidate, run.name) for candidate in best),
    )
    try:
        Given(config.search_space, options)
    except ValueError as error:
        raise UsageError(f"the new run's space must have the architectures of the run {run.name!r}: {error}") from error
    return options, [] if known.unknown else _differences(known.config, config, run.name)


def _source(candidate: Candidate, name: str) -> str:
    how = "scored" if candidate.scored else "trained"
    return f"child {candidate.child_id} of the run {name}, {how} to {candidate.metric:.4f}"


def _differences(other: RunConfig, config: RunConfig, name: str) -> list[str]:
    """Return a sentence on the options in which the spaces of two runs differ, if there are any."""
    ours, theirs = config.search_space, other.search_space
    changes = [
        _change(f"--{f.name.replace('_', '-')}", getattr(ours, f.name), getattr(theirs, f.name, None))
        for f in fields(type(ours))  # pyright: ignore[reportArgumentType]
        if getattr(ours, f.name) != getattr(theirs, f.name, None)
    ]
    return [f"the networks are not those of the run {name!r}, but have {', '.join(changes)}"] if changes else []


def _change(flag: str, ours: object, theirs: object) -> str:
    if isinstance(ours, bool):
        return flag if ours else flag.replace("--", "--no-", 1)
    return f"{flag} {shown(ours)} (was {shown(theirs)})"
