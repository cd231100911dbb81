"""Architectures that are given to be evaluated: JSON of files, folders and standard input, or objects of Python."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from child_trainer.architectures.architecture import Architecture
from cluster.config.flags import UsageError
from cluster.formatting import first_line
from cluster.monitoring.status import Best

STDIN = "-"
"""The word that stands for standard input."""

SUFFIXES = (".json", ".jsonl")
"""Of the files that are taken of a folder."""

FORM = "give an object with `kind`, `nodes` and `outputs`, as `nascluster best NAME --json` prints under `architecture`"


@dataclass(frozen=True, slots=True)
class Submitted:
    """What was given as one architecture.

    Attributes:
        source: where it is from, in a few words.
        architecture: what it is; `None` if it is none.
        fault: why it is none, in a sentence.
    """

    source: str
    architecture: Architecture | None
    fault: str = ""


def submitted_words(words: Sequence[str], stdin: IO[str]) -> list[Submitted]:
    """Return what the words of a command line name: files, folders of files, and `-` for standard input.

    Raises:
        UsageError: nothing is named, or a folder has no such file.
    """
    if not words:
        raise UsageError(
            "name what to evaluate, before the flags: JSON files with architectures, a folder of them, or `-` for"
            " standard input"
        )
    return [found for word in words for found in _of_word(word, stdin)]


def _of_word(word: str, stdin: IO[str]) -> Iterator[Submitted]:
    return _of_text(stdin.read(), "standard input") if word == STDIN else _of_path(Path(word).expanduser())


def _of_path(path: Path) -> Iterator[Submitted]:
    if not path.is_dir():
        yield from _of_file(path)
        return
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise UsageError(f"the folder {path} has no file that ends in {' or '.join(SUFFIXES)}")
    for file in files:
        yield from _of_file(file)


def _of_file(path: Path) -> Iterator[Submitted]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        yield Submitted(str(path), None, f"the file cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        yield Submitted(str(path), None, f"the file is not text in UTF-8: {FORM}")
    else:
        yield from _of_text(text, str(path))


def _of_text(text: str, source: str) -> Iterator[Submitted]:
    """Yield what a text holds: JSON of an architecture or of a list of them, or such JSON on each line."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if len(lines) > 1 and _is_whole(lines[0][1]):
            for number, line in lines:
                yield from _of_text(line, f"{source}, line {number}")
        else:
            what = f"it is no JSON ({first_line(str(error))})" if text.strip() else "it is empty"
            yield Submitted(source, None, f"{what}: {FORM}")
        return
    if isinstance(data, list):
        for number, item in enumerate(data, start=1):
            yield _of_data(item, f"{source}, number {number}")
    else:
        yield _of_data(data, source)


def _is_whole(line: str) -> bool:
    """Return whether a line is JSON by itself, and so the first of JSON lines."""
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _of_data(data: Any, source: str) -> Submitted:
    if isinstance(data, Mapping) and "architecture" in data and "nodes" not in data:  # as `best --json` prints
        data = data["architecture"]
    try:
        return Submitted(source, Architecture.from_json(data))
    except (ValueError, TypeError) as error:
        return Submitted(source, None, str(error))


def submitted_objects(items: object) -> list[Submitted]:
    """Return what a caller in Python gives.

    Args:
        items: a list of `Architecture`, of dicts as their `to_json` gives or `best --json` prints, of best children
            (`Run.best`), of texts of JSON, and of paths of files and folders; or one of these.

    Raises:
        UsageError: it is none of these, or there are none.
    """
    alone = isinstance(items, Architecture | Best | Mapping | str | Path)
    if not alone and not isinstance(items, list | tuple):
        raise UsageError(f"give a list of architectures, got {type(items).__name__}")
    given: Sequence[object] = [items] if alone else list(items)  # pyright: ignore[reportArgumentType]
    if not given:
        raise UsageError("give at least one architecture, got none")
    return [found for number, item in enumerate(given) for found in _of_object(item, f"architectures[{number}]")]


def _of_object(item: object, source: str) -> Iterator[Submitted]:
    if isinstance(item, Architecture):
        yield Submitted(source, item)
    elif isinstance(item, Best):
        yield _of_data(dict(item.graph), source)
    elif isinstance(item, str) and Path(item).suffix not in SUFFIXES and not _is_folder(item):
        yield from _of_text(item, source)
    elif isinstance(item, str | Path):
        yield from _of_path(Path(item).expanduser())
    else:
        yield _of_data(item, source)


def _is_folder(text: str) -> bool:
    try:
        return Path(text).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # it is no path: a text of JSON
        return False
