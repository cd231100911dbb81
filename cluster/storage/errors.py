"""The errors of run folders. Standard library only."""

import sqlite3
from collections.abc import Sequence

LedgerError = sqlite3.Error
"""What reading or writing the ledger raises where its file or its disk is the reason."""


class RunFolderError(ValueError):
    """There is no such run, there already is one, or it cannot be made or read."""


class Stopped(Exception):
    """The run was asked to stop, and nothing is in training any more."""


def missing_run(name: str, place: str, others: Sequence[str]) -> RunFolderError:
    """The error of a run that is not among the others of its place."""
    there = f"the runs there are {', '.join(others)}" if others else "there are no runs there"
    return RunFolderError(f"no run named {name!r} in {place}; {there} (--storage-path names another folder)")
