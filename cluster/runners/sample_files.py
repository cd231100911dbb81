"""Architectures that a command line names by files: JSON with the decisions behind them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from child_trainer.architectures.architecture import Architecture
from cluster.config.flags import UsageError, flag_groups, flag_of
from cluster.config.run_config import RunConfig, unchecked
from cluster.formatting import first_line
from controller.searchers.given import sample_text

START = "--start-with"
"""The flag of the architectures that a search begins with, which may name files."""

SUFFIX = ".json"
"""By which a file is told from decisions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An architecture that the command line gives.

    Attributes:
        text: its decisions, as `sample_text` writes them.
        file: that has them; empty: the command line itself.
        graph: the architecture as the file has it, if it does.
    """

    text: str
    file: str = ""
    graph: Any = None


@dataclass(frozen=True, slots=True)
class Samples:
    """The architectures of the flag, in its order; `given`: the flag was typed, perhaps with none."""

    samples: tuple[Sample, ...]
    given: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Where each is from; nothing if none is from a file."""
        if not any(sample.file for sample in self.samples):
            return ()
        return tuple(f"the file {sample.file}" if sample.file else "the command line" for sample in self.samples)

    def default(self, recipe: RunConfig) -> RunConfig:
        """Return the recipe, as a default of the flags, with these architectures in place of its own; not checked."""
        if not self.given:
            return recipe
        texts = tuple(sample.text for sample in self.samples)
        return unchecked({**vars(recipe), "start_with": texts, "start_sources": self.sources})

    def check(self, config: RunConfig) -> None:
        """Raise `UsageError` if the space of the run makes another network of a file's decisions than the file has."""
        for sample in self.samples:
            if not isinstance(sample.graph, dict):
                continue
            try:
                tokens = tuple(map(int, sample.text.split(",")))
                same = config.search_space.decode(tokens).id == Architecture.from_json(sample.graph).id
            except ValueError as error:
                raise UsageError(
                    f"the architecture of {sample.file} is none of the space {config.space!r}: {first_line(str(error))}"
                ) from error
            if not same:
                raise UsageError(
                    f"the decisions of {sample.file} mean another network in the space {config.space!r} than the file"
                    " has: give the options that its space had"
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
        tokens = item.get("tokens") if isinstance(item, dict) else None
        if not isinstance(tokens, list) or not tokens or not all(type(token) is int for token in tokens):
            raise UsageError(
                f"{word} must have the decisions behind its architecture, whole numbers called `tokens`, as"
                " `nascluster best NAME --json` prints them"
            )
        yield Sample(text=sample_text(tokens), file=word, graph=item.get("architecture"))
