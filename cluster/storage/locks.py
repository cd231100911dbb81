"""Locks on files (`flock`), which the system releases when the process that holds them ends. Standard library only."""

import fcntl
import time
from pathlib import Path
from typing import IO

from cluster.storage.errors import RunFolderError

WRITERS = "writers.lock"
"""The file in a run's folder on which every process that writes into the folder holds a shared lock."""

POLL_INTERVAL_S = 0.1
"""Seconds between two attempts to take a lock for which there is a timeout."""


def shared(path: Path) -> IO[str]:
    """Return the file with a shared lock on it; closing the file releases the lock.

    Waits as long as another process holds an exclusive lock. Creates the file if it does not exist.
    """
    return _locked(path, fcntl.LOCK_SH)


def exclusive(path: Path) -> IO[str]:
    """Return the file with an exclusive lock on it; closing the file releases the lock.

    Waits as long as another process holds any lock. Creates the file if it does not exist.
    """
    return _locked(path, fcntl.LOCK_EX)


def exclusive_within(path: Path, timeout_s: float) -> IO[str] | None:
    """Return the file with an exclusive lock on it, or `None` if others hold the lock for `timeout_s` seconds.

    Creates the file if it does not exist. Closing the file releases the lock.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_INTERVAL_S)


def is_locked(path: Path, *, writable: bool = False) -> bool:
    """Return whether a process holds an exclusive lock on the file. Does not wait.

    Args:
        path: the file.
        writable: open the file for writing, too, which fails in a folder that is read-only here.

    Raises:
        OSError: the file does not exist or cannot be opened.
    """
    with path.open("r+" if writable else "r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def writing(folder: Path) -> IO[str]:
    """Mark this process as one that writes into a run's folder, until the file is closed or the process ends."""
    return shared(folder / WRITERS)


def sole_writer(path: Path, timeout_s: float) -> IO[str]:
    """Wait until no other process is the sole writer of this file; then be it, until the returned file is closed.

    When Ray loses contact with a node, it restarts the node's actors elsewhere. If the node still runs, so do the
    old actors.

    Raises:
        RunFolderError: another process is still the sole writer after `timeout_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = exclusive_within(path.with_name(f"{path.name}.lock"), timeout_s)
    if file is None:
        raise RunFolderError(
            f"{path} must have one writer, but an earlier process, on this node or another, has held"
            f" {path.name}.lock for {timeout_s:g} s: end it"
        )
    return file


def _locked(path: Path, operation: int) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, operation)
    except BaseException:
        file.close()
        raise
    return file
