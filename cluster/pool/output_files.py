"""The files of what children printed: in the run's folder, one for each attempt that printed anything.

`outputs/00012/12345-2.log` is what the second attempt at child 12,345 printed; a folder has a thousand children.
Standard library only.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from child_trainer.atomic_file import replace_file
from cluster.search.records import Attempt

OUTPUTS = "outputs"
"""The folder of all outputs, in the run's folder."""

KEPT_BYTES = 64 * 1024
"""At most so much of an attempt's output is kept: the last part."""

FRESH = "new"
"""The folder with a link to each file that must be copied elsewhere; it exists only where outputs are copied."""

Keep = Callable[[int, str, str], object]
"""Stores an output: called with the child's id, the attempt's key and the text; raises nothing."""

OutputCapture = Callable[[int, str], AbstractContextManager[object]]
"""Captures, while the block lasts, what the child with this id prints in the attempt with this key."""


def no_capture(child_id: int, key: str) -> AbstractContextManager[object]:
    """Leave the child's output where it goes: an `OutputCapture` that captures nothing."""
    return nullcontext()


class AttemptReader(Protocol):
    """The part of the ledger that knows the attempts' numbers."""

    def attempts(self, child_id: int) -> Sequence[Attempt]:
        """Return the attempts at a child, oldest first."""
        ...


def output_name(child_id: int, number: int) -> str:
    """Return the path of this attempt's file (from 1) below the folder of all outputs."""
    return f"{child_id // 1000:05d}/{child_id}-{number}.log"


def output_of(file: str) -> str:
    """Return the path below the folder of all outputs for a file's name without its folder."""
    return output_name(*map(int, file.removesuffix(".log").split("-")))


class OutputFolder:
    """The outputs of one run.

    Args:
        path: the folder; the first file creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, child_id: int, number: int, text: str) -> None:
        """Create or replace the file of this attempt; readers see the whole file or none.

        Raises:
            OSError: it cannot be written.
        """
        file = self._path / output_name(child_id, number)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode(), durable=False)
        fresh = self._path / FRESH
        if fresh.is_dir():
            link = fresh / file.name
            link.unlink(missing_ok=True)
            os.link(file, link)

    def read(self, child_id: int, number: int) -> str | None:
        """Return what this attempt printed; `None` if it printed nothing."""
        try:
            return (self._path / output_name(child_id, number)).read_text(errors="replace")
        except FileNotFoundError:
            return None


def keep_output(ledger: AttemptReader, folder: OutputFolder, child_id: int, key: str, text: str) -> None:
    """Keep what the attempt with this key printed; lose it on a full disk, which the ledger reports."""
    for number, attempt in enumerate(ledger.attempts(child_id), start=1):
        if attempt.key == key:
            with suppress(OSError):
                folder.keep(child_id, number, text)
