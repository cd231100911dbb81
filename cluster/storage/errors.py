"""The errors of run folders. Standard library only."""

import sqlite3
from collections.abc import Sequence
from typing import ClassVar

LedgerError = sqlite3.Error
"""What reading or writing the ledger raises where its file or its disk is the reason."""


class RunFolderError(ValueError):
    """A run does not exist, exists already, or cannot be created or read."""


class RunStarting(RunFolderError):
    """A launch on this machine is starting the run, which has no folder yet."""


class RunMissing(RunFolderError):
    """There is no run of this name."""


class EndedEarly(Exception):
    """The run has ended before its last child, and no child is in training any more; the message says why.

    Attributes:
        state: that the run has now.
    """

    state: ClassVar[str]


class Stopped(EndedEarly):
    """The run was stopped on request."""

    state = "stopped"

    def __init__(self) -> None:
        super().__init__("as asked")


class CeilingReached(EndedEarly):
    """One of the run's ceilings is used up."""

    state = "finished"


def missing_run(name: str, place: str, others: Sequence[str]) -> RunMissing:
    """Return the error for a run that does not exist in a place with these other runs."""
    runs = f"the runs there are {', '.join(others)}" if others else "there are no runs there"
    return RunMissing(f"no run named {name!r} in {place}; {runs} (--storage-path names another folder)")
