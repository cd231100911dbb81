"""Locks on files: they end with the process that has them, however it ends. Standard library only."""

import fcntl
import time
from pathlib import Path
from typing import IO

from cluster.storage.errors import RunFolderError

WRITERS = "writers.lock"
"""The file in a run's folder that all share who write into it."""


def lock(file: IO[str], patience_s: float) -> bool:
    """Wait for so many seconds to be alone in having the file locked; whether that came true."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.1)
        else:
            return True


def writing(folder: Path) -> IO[str]:
    """Say, until the file is closed or the process ends, that this process writes into a run's folder."""
    file = open(folder / WRITERS, "w")  # noqa: SIM115 - the lock is to outlive this function
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def sole_writer(path: Path, patience_s: float) -> IO[str]:
    """Wait until no other process is the sole writer of this file, and be it until the file is closed or the end.

    Where Ray loses sight of a node it starts the actors elsewhere that were there. If the node lives, so do they.

    Raises:
        RunFolderError: another one has not gone in `patience_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.lock").open("w")
    if not lock(file, patience_s):
        file.close()
        raise RunFolderError(
            f"{path} must have one writer, but a process from before, on this node or another, has held"
            f" {path.name}.lock for {patience_s:g} s: end it"
        )
    return file
