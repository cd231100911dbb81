"""Finds a run by its name, in a folder of this machine or in an object store."""

from collections.abc import Callable
from pathlib import Path

from cluster.config.locations import is_url, local_folder
from cluster.storage.errors import RunFolderError, RunStarting, missing_run
from cluster.storage.object_store.object_names import LEDGER
from cluster.storage.run_folder import RunFolder


def run_folder(storage_path: str | Path, name: str) -> RunFolder:
    """Return the folder of the run called `name`, which need not exist.

    Args:
        storage_path: a folder of this machine, or the URL of one in an object store.
        name: the run's name.

    Raises:
        RunFolderError: this is no name: it would lead to another folder.
    """
    _check_name(name)
    if is_url(str(storage_path)):
        from cluster.storage.object_store.working_copy import working_copy

        return working_copy(str(storage_path), name)
    return RunFolder(local_folder(storage_path) / name)


def existing_run(storage_path: str | Path, name: str, *, with_files: bool = False) -> RunFolder:
    """Return the folder of an existing run, for reading. A run in an object store is copied to this machine first.

    Args:
        storage_path: a folder of this machine, or the URL of one in an object store.
        name: the run's name.
        with_files: copy the files of shards and checkpoints, too.

    Raises:
        RunFolderError: the run does not exist; names the runs that do. `RunStarting` if a launch is starting it.
        StorageError: the object store cannot be used.
    """
    _check_name(name)
    if is_url(str(storage_path)):
        from cluster.storage.object_store.working_copy import reading_copy

        _check_not_starting(run_folder(storage_path, name))
        return reading_copy(str(storage_path), name, with_files=with_files)
    folder = run_folder(storage_path, name)
    if (folder.path / LEDGER).is_dir():
        raise RunFolderError(
            f"{folder.path} holds the objects of a run that was in an object store: give"
            f" `--storage-path {folder.path.parent.as_uri()}`"
        )
    if not folder.config.is_file():
        if folder.ledger.exists() or folder.had_begun():
            raise RunFolderError(
                f"the run {name!r} has lost its configuration {folder.config}: put the file back, the rest is there"
            )
        _check_not_starting(folder)
        raise missing_run(name, str(folder.path.parent), local_runs(folder.path.parent))
    return folder


def local_runs(storage_path: Path) -> list[str]:
    """Return the names of the runs in a folder of this machine, damaged ones included.

    Raises:
        OSError: the folder cannot be read; one that does not exist has no runs.
    """
    try:
        entries = sorted(storage_path.iterdir())
    except FileNotFoundError:
        return []
    return [path.name for path in entries if path.name[0] != "." and _is_run(RunFolder(path))]


def _is_run(folder: RunFolder) -> bool:
    """Return whether a folder is that of a run, or may be: one that cannot be read is reported as damaged."""
    try:
        return folder.is_run()
    except OSError:
        return True


def _check_not_starting(folder: RunFolder) -> None:
    """Raise `RunStarting` if a launch on this machine is starting the run, which has no folder yet."""
    if folder.is_starting() and not folder.config.exists():
        raise RunStarting(
            f"the run {folder.name!r} is being started and can be read in a moment:"
            f" `{folder.command('status')} --watch` waits for it"
        )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        raise RunFolderError(f"a run's name must be the name of its folder, got {name!r}")


def resumable_run(storage_path: str | Path, name: str, report: Callable[[str], object]) -> RunFolder:
    """Return the folder of an existing run, for resuming it.

    Args:
        storage_path: a folder of this machine, or the URL of one in an object store.
        name: the run's name.
        report: called with a message if it takes a while to check that no other driver runs it.

    Raises:
        RunFolderError: the run does not exist, or another driver runs it.
        StorageError: the object store cannot be used.
    """
    _check_name(name)
    if is_url(str(storage_path)):
        from cluster.storage.object_store.working_copy import resumable_copy

        return resumable_copy(str(storage_path), name, report)
    return existing_run(storage_path, name)


def check_new(folder: RunFolder) -> None:
    """Check that a new run can be created here.

    Raises:
        RunFolderError: the run exists, or its name is invalid.
        StorageError: the object store cannot be used.
    """
    folder.check_name()
    if folder.url is None:
        folder.check_absent()
        return
    from cluster.storage.object_store import working_copy

    working_copy.check_new(folder)


def request_stop(folder: RunFolder) -> None:
    """Request that the run's driver, on any machine, stop it once no child is in training.

    Raises:
        RunFolderError: the run does not exist in its object store.
        StorageError: the object store cannot be used.
    """
    if folder.url is None or folder.alive is None:
        folder.request_stop()
        return
    # This folder is a copy, and the driver is on another machine.
    from cluster.storage.object_store import working_copy

    working_copy.request_stop(folder.url, folder.name)
