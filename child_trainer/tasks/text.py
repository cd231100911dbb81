"""Text as numbered words: folders of Penn Treebank, WikiText-2 or one's own, and the prose that ships with Python.

A line is its words, separated by white space, and then `END`. The vocabulary is that of the training text, the most
frequent word first; words that it lacks are `UNKNOWN`.
"""

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from child_trainer.tasks.folder_hint import folder_hint
from child_trainer.training.task import TaskError

END = "<eos>"
UNKNOWN = "<unk>"

PARTS = ("train", "valid", "test")

Lines = Callable[[str], Iterator[list[str]]]
"""From a part's name to the words of each of its lines."""

FILES: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "ptb": tuple((f"ptb.{part}.txt", f"{part}.txt") for part in PARTS),
        "wikitext2": tuple((f"{part}.txt", f"wiki.{part}.tokens") for part in PARTS),
        "text-folder": tuple((f"{part}.txt",) for part in PARTS),
    }
)
"""For each task the names that the file of each part may have."""


def check_folder(name: str, data: Path | None) -> Path:
    """Return the folder of a task, once it is sure that each part exists and is not empty.

    Raises:
        TaskError: no folder is given, or a part is missing or empty.
    """
    wanted = ", ".join(names[0] for names in FILES[name])
    if data is None:
        raise TaskError(f"the task {name!r} needs `--data DIR`, a folder that holds {wanted}")
    if not data.is_dir():
        raise TaskError(f"`--data` {data} is not a folder; the task {name!r} needs one that holds {wanted}")
    for part in PARTS:
        path = _file(name, data, part)
        if not path.stat().st_size:
            raise TaskError(f"{path} is empty; the task {name!r} needs a folder that holds {wanted}")
    return data


def _file(name: str, data: Path, part: str) -> Path:
    names = FILES[name][PARTS.index(part)]
    found = [data / one for one in names if (data / one).is_file()]
    if not found:
        raise TaskError(
            f"{data} holds no {' or '.join(names)}; the task {name!r} needs texts to train on, to validate and to test"
            f"{folder_hint(data, *names)}"
        )
    return found[0]


def lines_of(name: str, data: Path | None) -> Lines:
    """Return the lines of each part of a task.

    Raises:
        TaskError: as `check_folder` does; while they are read, if a file cannot be read or is not text in UTF-8.
    """
    if name == "text":
        return _prose
    folder = check_folder(name, data)

    def read(part: str) -> Iterator[list[str]]:
        path = _file(name, folder, part)
        try:
            # With or without a byte order mark, which is no part of the first word.
            with path.open(encoding="utf-8-sig") as file:
                for line in file:
                    yield line.split()
        except UnicodeDecodeError as error:
            raise TaskError(f"{path} is not text in UTF-8") from error
        except OSError as error:
            raise TaskError(f"{path} cannot be read ({error.strerror}); it must be text in UTF-8") from error

    return read


def make_vocabulary(lines: Iterator[list[str]], maximum: int | None) -> tuple[str, ...]:
    """Return at most `maximum` words of a text, the most frequent first; `END` and `UNKNOWN` are always among them."""
    counts: Counter[str] = Counter({END: 0, UNKNOWN: 0})
    for line in lines:
        counts.update(line)
        counts[END] += 1
    # By the word itself where two are as frequent, so that the order never depends on where they stand.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    if maximum is None or len(ranked) <= maximum:
        return tuple(ranked)
    kept = {END, UNKNOWN, *[word for word in ranked if word not in (END, UNKNOWN)][: maximum - 2]}
    return tuple(word for word in ranked if word in kept)


def numbered(lines: Iterator[list[str]], vocabulary: tuple[str, ...]) -> Tensor:
    """Return `[N]` int64: every word's number, and that of `END` after each line."""
    numbers = {word: number for number, word in enumerate(vocabulary)}
    unknown, end = numbers[UNKNOWN], numbers[END]
    found: list[int] = []
    for line in lines:
        found += [numbers.get(word, unknown) for word in line]
        found.append(end)
    return torch.tensor(found, dtype=torch.int64)


def _prose(part: str) -> Iterator[list[str]]:
    """Yield the lines of a part: of ten paragraphs of Python's own manual, one validates and one tests."""
    turns = {"train": range(8), "valid": (8,), "test": (9,)}[part]
    return (list(words) for number, words in enumerate(_paragraphs()) if number % 10 in turns)


@cache
def _paragraphs() -> tuple[tuple[str, ...], ...]:
    """Return the words of each paragraph of the manual, in lower case."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    texts = (text for name in sorted(topics) for text in topics[name].split("\n\n"))
    paragraphs = (tuple(re.findall(r"[a-z]+(?:'[a-z]+)?|[^\sa-z]", text.lower())) for text in texts)
    # Code, tables and headings are no prose: they have few words for their signs, or few words at all.
    return tuple(p for p in paragraphs if len(p) >= 8 and sum(word[0].isalpha() for word in p) >= 0.6 * len(p))
