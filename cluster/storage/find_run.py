"""Finds a run by its name: in a folder of this machine, or in an object store."""

from collections.abc import Callable
from pathlib import Path

from cluster.config.locations import is_url
from cluster.storage.errors import RunFolderError, missing_run
from cluster.storage.run_folder import RunFolder


def run_folder(storage_path: str | Path, name: str) -> RunFolder:
    """The folder of the run called `name`, whether or not it exists.

    Args:
        storage_path: a folder of this machine, or the URL of one in an object store.
        name: the run's name.
    """
    if is_url(str(storage_path)):
        from cluster.storage.object_store.working_copy import working_copy

        return working_copy(str(storage_path), name)
    return RunFolder(Path(storage_path).expanduser().absolute() / name)


def existing_run(storage_path: str | Path, name: str) -> RunFolder:
    """The folder of the run called `name`, to be read. One in an object store is copied to this machine first.

    Raises:
        RunFolderError: naming the runs that are there, if this one is not.
        StorageError: the object store cannot be used.
    """
    _check_name(name)
    if is_url(str(storage_path)):
        from cluster.storage.object_store.working_copy import reading_copy

        return reading_copy(str(storage_path), name)
    folder = run_folder(storage_path, name)
    if not folder.config.is_file():
        if folder.ledger.exists() or folder.had_begun():
            raise RunFolderError(
                f"the run {name!r} has no {folder.config}, which says what it is: put the file back, the rest is there"
            )
        parent = folder.path.parent
        others = sorted(p.parent.name for p in parent.glob("*/config.json"))
        raise missing_run(name, str(parent), others)
    return folder


def _check_name(name: str) -> None:
    if not name or "/" in name or name in (".", ".."):
        raise RunFolderError(f"a run's name is that of its folder, got {name!r}")


def resumable_run(storage_path: str | Path, name: str, say: Callable[[str], object]) -> RunFolder:
    """The same, to be gone on with; says so where it takes a while to see that no other driver does.

    Raises:
        RunFolderError, StorageError: as `existing_run`, or another driver is alive.
    """
    _check_name(name)
    if is_url(str(storage_path)):
        from cluster.storage.object_store.working_copy import resumable_copy

        return resumable_copy(str(storage_path), name, say)
    return existing_run(storage_path, name)


def check_new(folder: RunFolder) -> None:
    """Make sure that a run can be begun here.

    Raises:
        RunFolderError: it exists, or has a name that cannot be.
        StorageError: the object store cannot be used.
    """
    folder.check_name()
    if folder.url is None:
        folder.check_absent()
        return
    from cluster.storage.object_store import working_copy

    working_copy.check_new(folder)


def ask_to_stop(folder: RunFolder) -> None:
    """Ask the run's driver, here or elsewhere, to stop it once nothing is in training.

    Raises:
        RunFolderError, StorageError: the run is in an object store, and it or that cannot be used.
    """
    if folder.url is None or folder.alive is None:
        folder.ask_to_stop()
        return
    # This is a copy, and the driver is elsewhere.
    from cluster.storage.object_store.working_copy import request_stop

    request_stop(folder.url, folder.name)
