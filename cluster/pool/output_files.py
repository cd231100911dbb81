"""What children have printed while they trained: in the run's folder, a file for each attempt that printed anything.

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
"""The folder of all, in the run's."""

KEPT_BYTES = 64 * 1024
"""At most so much of an attempt's output is kept: the last of it."""

FRESH = "new"
"""The folder with a link to each file that is to be copied elsewhere; there only where somebody copies."""

Keep = Callable[[int, str, str], object]
"""Told the child's id, the attempt's key and what it printed; raises nothing."""

Takes = Callable[[int, str], AbstractContextManager[object]]
"""Takes, while the block lasts, what the child with this id prints in the attempt with this key."""


def untaken(child_id: int, key: str) -> AbstractContextManager[object]:
    """Leave what the child prints to go where it goes."""
    return nullcontext()


class HasAttempts(Protocol):
    """The part of the ledger that knows the attempts' numbers."""

    def attempts(self, child_id: int) -> Sequence[Attempt]:
        """The attempts at a child, oldest first."""
        ...


def output_name(child_id: int, number: int) -> str:
    """The file of this attempt (from 1) below the folder of all."""
    return f"{child_id // 1000:05d}/{child_id}-{number}.log"


def output_of(file: str) -> str:
    """The same for the file's own name, without its folder."""
    return output_name(*map(int, file.removesuffix(".log").split("-")))


class OutputFolder:
    """The files of one run.

    Args:
        path: the folder; made when the first file comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, child_id: int, number: int, text: str) -> None:
        """Make or replace the file of this attempt; readers see it whole or not at all.

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
        """What this attempt printed; `None` if it printed nothing."""
        try:
            return (self._path / output_name(child_id, number)).read_text(errors="replace")
        except FileNotFoundError:
            return None


def keep_output(ledger: HasAttempts, folder: OutputFolder, child_id: int, key: str, text: str) -> None:
    """Keep what the attempt with this key printed; a full disk, which the ledger tells of, loses it."""
    for number, attempt in enumerate(ledger.attempts(child_id), start=1):
        if attempt.key == key:
            with suppress(OSError):
                folder.keep(child_id, number, text)
