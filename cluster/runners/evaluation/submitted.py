"""Architectures that are given to be evaluated: JSON of files, folders and standard input, or objects of Python."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from child_trainer.architectures.architecture import Architecture
from cluster.config.flags import UsageError
from cluster.formatting import first_line
from cluster.monitoring.status import Best

STDIN = "-"
"""The word that stands for standard input."""

LINES = ".jsonl"
"""Ends the name of a file with JSON on each line."""

SUFFIXES = (".json", LINES)
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


def submitted_words(words: Sequence[str], stdin: TextIO | None) -> list[Submitted]:
    """Return what the words of a command line name: files, folders of files, and `-` for standard input.

    Args:
        words: which may name one thing twice.
        stdin: standard input, which is read once; `None` if it is closed.

    Raises:
        UsageError: nothing is named, a folder has no such file, or standard input cannot be read.
    """
    if not words:
        raise UsageError(
            "name what to evaluate, before the flags: JSON files with architectures, a folder of them, or `-` for"
            " standard input"
        )
    read = cache(lambda: _read(stdin))
    return [found for word in words for found in _of_word(word, read)]


def _of_word(word: str, read: Callable[[], bytes]) -> Iterator[Submitted]:
    return _of_bytes(read(), "standard input") if word == STDIN else _of_path(Path(word).expanduser())


def _read(stdin: TextIO | None) -> bytes:
    """Return all of standard input; raises `UsageError` if it cannot be read."""
    why = "it is closed"
    if stdin is not None and not stdin.closed:
        try:
            return stdin.buffer.read()
        except OSError as error:
            why = str(error.strerror or error)
    raise UsageError(f"standard input cannot be read ({why}): pipe JSON into the command, or name a file for `{STDIN}`")


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
        data = path.read_bytes()
    except OSError as error:
        yield Submitted(str(path), None, f"the file cannot be read: {error.strerror}")
    else:
        yield from _of_bytes(data, str(path), lines=path.suffix == LINES)


def _of_bytes(data: bytes, source: str, *, lines: bool = False) -> Iterator[Submitted]:
    """Yield what a text in UTF-8 holds, with or without a byte order mark; see `_of_text`."""
    # A byte that is not of UTF-8 is one of a surrogate here, so that it spoils its own line only.
    return _of_text(data.decode("utf-8-sig", errors="surrogateescape"), source, lines=lines)


def _of_text(text: str, source: str, *, lines: bool = False) -> Iterator[Submitted]:
    """Yield what a text holds: JSON of an architecture or of a list of them, or such JSON on each line.

    Args:
        text: with a surrogate in place of what is not text.
        source: where it is from.
        lines: whether it is JSON on each line, unless it is JSON as a whole; unset: if one of its lines is.
    """
    try:
        text.encode()
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        parts = [(number, line) for number, line in enumerate(NEWLINE.split(text), start=1) if line.strip()]
        if len(parts) > 1 and (lines or _has_whole([line for _, line in parts])):
            for number, line in parts:
                yield from _of_text(line, f"{source}, line {number}")
        elif isinstance(error, UnicodeEncodeError):
            yield Submitted(source, None, f"it is not text in UTF-8: {FORM}")
        else:
            what = f"it is no JSON ({first_line(str(error))})" if text.strip() else "it is empty"
            yield Submitted(source, None, f"{what}: {FORM}")
        return
    if isinstance(data, list):
        for number, item in enumerate(data, start=1):
            yield _of_data(item, f"{source}, number {number}")
    else:
        yield _of_data(data, source)


NEWLINE = re.compile(r"\r\n|\r|\n")
"""Ends a line of JSON. Python's `splitlines` also splits at characters that a text within JSON may have."""


def _has_whole(lines: Sequence[str]) -> bool:
    """Return whether a line is JSON by itself; one that is indented more than others is a part of what has several."""
    margin = min(map(_indent, lines))
    return any(_indent(line) == margin and _is_whole(line) for line in lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_whole(line: str) -> bool:
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
        UsageError: it is none of these.
    """
    alone = isinstance(items, Architecture | Best | Mapping | str | Path)
    if not alone and not isinstance(items, list | tuple):
        raise UsageError(f"give a list of architectures, got {type(items).__name__}")
    given: Sequence[object] = [items] if alone else list(items)  # pyright: ignore[reportArgumentType]
    return [found for number, item in enumerate(given) for found in _of_object(item, f"architectures[{number}]")]


def _of_object(item: object, source: str) -> Iterator[Submitted]:
    if isinstance(item, Architecture):
        yield Submitted(source, item)
    elif isinstance(item, Best):
        yield _of_data(dict(item.graph), source)
    elif isinstance(item, str) and Path(item).suffix not in SUFFIXES and not _is_folder(item):
        yield from _of_text(item.removeprefix("\ufeff"), source)  # a byte order mark, as of a file
    elif isinstance(item, str | Path):
        yield from _of_path(Path(item).expanduser())
    else:
        yield _of_data(item, source)


def _is_folder(text: str) -> bool:
    try:
        return Path(text).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # it is no path: a text of JSON
        return False
