"""A run that a launch on this machine is starting: it has no folder yet, but readers can know of it.

A launch may start Ray, load PyTorch and check the data for many seconds before it writes anything. Meanwhile it holds a
lock on a file next to where the run's folder will be, and removes the file when it ends.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.storage.errors import RunFolderError, RunStarting
from cluster.storage.find_run import existing_run, run_folder
from cluster.storage.locks import exclusive_within
from cluster.storage.run_folder import RunFolder

LAUNCH_TIMEOUT_S = 10.0
"""Seconds to wait for a launch that may have been typed just before, until it holds its lock."""

POLL_INTERVAL_S = 0.2
"""Seconds between two checks whether the run exists."""


@contextmanager
def starting(folder: RunFolder) -> Iterator[None]:
    """Let readers on this machine know that the run is being started, until the block ends."""
    file, made = None, [path for path in (folder.starting.parent, *folder.starting.parent.parents) if not path.exists()]
    with suppress(OSError):  # the launch says itself what is wrong with the storage path
        folder.starting.parent.mkdir(parents=True, exist_ok=True)
        file = exclusive_within(folder.starting, 0.0)
    try:
        yield
    finally:
        if file is not None:
            _remove(folder.starting, made)
            file.close()


def _remove(file: Path, folders: list[Path]) -> None:
    """Remove the file, and the folders that were made for it, the innermost first, as far as they are empty."""
    with suppress(OSError):
        file.unlink()
        for path in folders:
            path.rmdir()


def wait_for_run(storage_path: str | Path, name: str, report: Callable[[str], object]) -> RunFolder:
    """Return the folder of an existing run, as `existing_run`; wait for one that is being started.

    Args:
        storage_path, name: see `existing_run`.
        report: called with a sentence if there is no run yet.

    Raises:
        RunFolderError: there is none, and no launch starts one.
        StorageError: the object store cannot be used.
    """
    deadline, reported = time.monotonic() + LAUNCH_TIMEOUT_S, False
    while True:
        try:
            return existing_run(storage_path, name)
        except RunStarting:
            pass
        except RunFolderError:
            if run_folder(storage_path, name).path.exists() or time.monotonic() > deadline:
                raise
        if not reported:
            report(f"There is no run {name!r} yet; waiting for its launch ...")
            reported = True
        time.sleep(POLL_INTERVAL_S)
