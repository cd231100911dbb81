"""Architectures with which a search begins: decisions, files of JSON that have them, or what Python has of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from child_trainer.architectures.architecture import Architecture
from child_trainer.field_types import shown
from cluster.config.flags import UsageError, flag_groups, flag_of
from cluster.config.run_config import RunConfig, unchecked
from cluster.formatting import first_line
from cluster.monitoring.status import Best
from controller.searchers.given import sample_text

START = "--start-with"
"""The flag of the architectures that a search begins with, which may name files."""

SUFFIX = ".json"
"""The suffix by which a file is distinguished from decisions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An architecture that is given.

    Attributes:
        text: its decisions, as `sample_text` writes them.
        place: what has them, for messages: a file, or an argument in Python; empty: the command line itself.
        source: where it is from, in a few words; empty: the command line.
        graph: the architecture as that place has it, if it does.
    """

    text: str
    place: str = ""
    source: str = ""
    graph: Any = None


@dataclass(frozen=True, slots=True)
class Samples:
    """The architectures of the flag, in its order; `given`: the flag was typed, perhaps with none."""

    samples: tuple[Sample, ...]
    given: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Where each is from; nothing if all are of the command line."""
        if not any(sample.source for sample in self.samples):
            return ()
        return tuple(sample.source or "the command line" for sample in self.samples)

    def default(self, recipe: RunConfig) -> RunConfig:
        """Return the recipe, as a default of the flags, with these architectures in place of its own; not checked."""
        if not self.given:
            return recipe
        texts = tuple(sample.text for sample in self.samples)
        return unchecked({**vars(recipe), "start_with": texts, "start_sources": self.sources})

    def check(self, config: RunConfig) -> None:
        """Raise `UsageError` if the space of the run makes another network of decisions than is given with them."""
        for sample in self.samples:
            if not isinstance(sample.graph, dict):
                continue
            try:
                tokens = tuple(map(int, sample.text.split(",")))
                same = config.search_space.decode(tokens).id == Architecture.from_json(sample.graph).id
            except ValueError as error:
                reason = first_line(str(error))
                raise UsageError(
                    f"the architecture of {sample.place} is none of the space {config.space!r}: {reason}"
                ) from error
            if not same:
                raise UsageError(
                    f"the decisions of {sample.place} mean another network in the space {config.space!r} than it has"
                    " with them: give the options that its space had"
                )


def with_samples(flags: Sequence[str]) -> tuple[list[str], Samples]:
    """Return the flags with the decisions in place of the files that `--start-with` names, and all that it gives.

    Raises:
        UsageError: a file cannot be read, or has no decisions.
    """
    words: list[str] = []
    found: list[Sample] = []
    given = False
    for group in flag_groups(flags):
        if flag_of(group[0]) != START:
            words += group
            continue
        name, equals, value = group[0].partition("=")
        samples = [sample for word in ([value] if equals else []) + group[1:] for sample in _samples(word)]
        words += [name, *(sample.text for sample in samples)]
        found, given = samples, True  # of a flag that is given twice the last counts
    return words, Samples(tuple(found), given)


def _samples(word: str) -> Iterator[Sample]:
    """Yield the samples of one word: decisions, or a file with one architecture or a list of them."""
    if not word.endswith(SUFFIX):
        yield Sample(text=word)
        return
    try:
        data = json.loads(Path(word).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{word} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{word} is no JSON: {first_line(str(error))}") from error
    for item in data if isinstance(data, list) else [data]:
        yield _sample_of(item, word, f"the file {word}")


def _sample_of(item: object, place: str, source: str) -> Sample:
    """Return the sample of an object with decisions, as `nascluster best NAME --json` prints one."""
    tokens = item.get("tokens") if isinstance(item, Mapping) else None
    if not _is_tokens(tokens):
        raise UsageError(
            f"{place} must have the decisions behind its architecture, whole numbers called `tokens`, as"
            " `nascluster best NAME --json` prints them"
        )
    assert isinstance(item, Mapping)
    return Sample(text=sample_text(tokens), place=place, source=source, graph=item.get("architecture"))


def _is_tokens(value: object) -> TypeGuard[Sequence[int]]:
    return isinstance(value, list | tuple) and bool(value) and all(type(token) is int for token in value)


def given_samples(values: object) -> Samples:
    """Return the architectures that a caller in Python gives as `start_with`.

    Args:
        values: a list of decisions (a list of whole numbers, or their text), of JSON files, of dicts with `tokens` as
            `best --json` prints them, and of the best children of runs (`Run.best`); or one of these.

    Raises:
        UsageError: a file cannot be read, or something has no decisions.
    """
    alone = isinstance(values, str | Path | Mapping | Best | Architecture) or _is_tokens(values)
    if not alone and not isinstance(values, list | tuple):
        raise UsageError(f"`start_with` must be a list of architectures, got {shown(values)}")
    items: Sequence[object] = [values] if alone else list(values)  # pyright: ignore[reportArgumentType]
    samples = [sample for number, item in enumerate(items) for sample in _given(item, f"`start_with[{number}]`")]
    return Samples(tuple(samples), given=True)


def _given(item: object, place: str) -> Iterator[Sample]:
    if isinstance(item, str | Path):
        yield from _samples(str(item))
    elif isinstance(item, Best):
        yield _sample_of({"tokens": item.tokens, "architecture": dict(item.graph)}, place, f"child {item.child_id}")
    elif isinstance(item, Architecture):
        raise UsageError(
            f"{place} is an Architecture alone, and a search goes on from decisions: give `run.best`, a dict with its"
            " `tokens`, or the tokens themselves"
        )
    elif _is_tokens(item):
        yield Sample(text=sample_text(item), place=place, source="Python")
    else:
        yield _sample_of(item, place, "Python")
