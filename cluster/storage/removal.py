"""Removes the folder of a run: it is renamed first and deleted then, so that a kill leaves the whole run or none."""

import os
import re
import secrets
import shutil
from pathlib import Path

from child_trainer.atomic_file import sync
from cluster.storage.errors import RunFolderError, missing_run
from cluster.storage.find_run import local_runs
from cluster.storage.locks import WRITERS
from cluster.storage.object_store.object_names import LEDGER
from cluster.storage.run_folder import DRIVER, RunFolder

REMOVED = ".removed"
"""Suffix of what is left of a run whose removal was interrupted."""


def check_removable(folder: RunFolder) -> None:
    """Check that this is a run of this machine that no process uses.

    Raises:
        RunFolderError: it is a link, no run, or in use; the message says how that is known.
    """
    path = folder.path
    if path.is_symlink():
        raise RunFolderError(
            f"{path} is a link to {os.readlink(path)}, and no link is followed: remove the run in the storage path in"
            " which it is, and the link with rm"
        )
    if (path / LEDGER).is_dir():
        raise RunFolderError(
            f"{path} holds the objects of a run in an object store: give `--storage-path {path.parent.as_uri()}`"
        )
    if not folder.is_run():
        _check_not_starting(folder)
        if path.exists():
            raise RunFolderError(
                f"{path} is no run: it has neither a ledger nor a run's configuration, and is left as it is"
            )
        raise missing_run(folder.name, str(path.parent), local_runs(path.parent))
    for lock in (path / DRIVER, path / WRITERS):
        if lock.is_symlink():  # to lock a file is to open it for writing
            raise RunFolderError(f"{lock} is a link to {os.readlink(lock)}, and no link is followed: remove the link")
    if folder.is_held():
        raise RunFolderError(
            f"the run {folder.name!r} is running: its driver holds the lock {path / DRIVER};"
            f" `{folder.command('stop')}` stops it"
        )
    _check_not_starting(folder)


def _check_not_starting(folder: RunFolder) -> None:
    # The driver holds its own lock as soon as there is a folder; until it has ended, this one tells of it, too.
    if folder.is_starting():
        raise RunFolderError(f"the run {folder.name!r} is being launched: its driver holds the lock {folder.starting}")


def remove_folder(folder: RunFolder) -> None:
    """Remove a run that `check_removable` has passed. A link in it is removed, and not what it leads to.

    Raises:
        RunFolderError: another process has begun to use the run.
        OSError: something cannot be deleted; if the folder has its new name already, the run is gone nevertheless.
    """
    rest = folder.path.with_name(f".{folder.name}.{secrets.token_hex(4)}{REMOVED}")
    with folder.held():
        folder.path.rename(rest)
        sync(rest.parent)
        shutil.rmtree(rest)


def rests_of(folder: RunFolder) -> list[Path]:
    """Return what is left of runs of this name whose removal was interrupted."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}{re.escape(REMOVED)}")
    try:
        return sorted(path for path in folder.path.parent.iterdir() if pattern.fullmatch(path.name))
    except FileNotFoundError:
        return []


def remove_rests(folder: RunFolder) -> int:
    """Delete what is left of runs of this name whose removal was interrupted; return how many there were."""
    rests = rests_of(folder)
    for rest in rests:
        shutil.rmtree(rest)
    return len(rests)
