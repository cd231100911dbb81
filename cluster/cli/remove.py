"""`nascluster remove`: removes a run from the disk, or from its object store."""

import time
from os.path import lexists
from typing import Annotated

import tyro

from cluster.cli.command import parse_command
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.locations import is_url
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.formatting import counted, file_size
from cluster.monitoring.run_list import DAMAGED, folder_bytes, read_row
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import run_folder
from cluster.storage.removal import check_removable, remove_folder, remove_rests, rests_of
from cluster.storage.run_folder import RunFolder

Yes = Annotated[bool, tyro.conf.arg(help="Do not ask.")]
Objects = Annotated[
    bool, tyro.conf.arg(help="With a URL: remove the run's objects from the store, not only the copy on this machine.")
]

LEFT = 1
"""Exit status if the answer was no."""


def remove(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name, *, storage_path: StoragePath = DEFAULT_STORAGE, yes: Yes = False, objects: Objects = False
    ) -> int:
        """Remove a run and all its files, unless it is running. Links in its folder are removed, and not followed.

        With a URL as the storage path it removes this machine's working copy, and with --objects the run itself.
        """
        folder = run_folder(storage_path, name)
        if objects and not is_url(storage_path):
            raise UsageError(f"`--objects` is for runs in an object store, and {storage_path} is a folder")
        if objects:
            return _remove_stored(folder, storage_path, yes=yes)
        if not lexists(folder.path) and rests_of(folder):
            return _remove_rests(folder)
        if folder.url is not None and not folder.path.exists():
            raise RunFolderError(
                f"this machine has no working copy of the run {name!r}: `--objects` removes what is in {folder.place}"
            )
        check_removable(folder)
        size = file_size(folder_bytes(folder.path) or 0)
        if not yes and not _agreed(f"Remove {_described(folder, storage_path)}, {size} in {folder.path}?"):
            return LEFT
        _remove_folder(folder)
        print(f"Removed {folder.path} ({size})" + (f"; {folder.place} is as it was" if folder.url else ""))
        _tell_set_aside(folder)
        return 0

    return parse_command("remove", run, arguments)


def _described(folder: RunFolder, storage_path: str) -> str:
    if folder.url is not None:
        return f"the working copy of the run {folder.name!r}, which stays in {folder.place}"
    row = read_row(storage_path, folder.name, time.time())
    if row.state == DAMAGED:
        return f"the run {folder.name!r}, which is damaged"
    return f"the run {folder.name!r} ({row.state}, {counted(row.finished + row.failed, 'child')} ended)"


def _agreed(question: str) -> bool:
    """Return whether the user's answer is yes.

    Raises:
        UsageError: there is nobody to answer.
    """
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        raise UsageError("a removal is asked about, and there is no answer to read: give `--yes`") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted before anything was removed") from None
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was removed")
    return False


def _tell_set_aside(folder: RunFolder) -> None:
    """Name the working copies that were set aside: they may have what no other copy has, and are left."""
    if folder.url is None:
        return
    from cluster.storage.object_store.working_copy import set_aside

    if copies := set_aside(folder):
        print(f"Left what was set aside of its earlier working copies: {' and '.join(map(str, copies))}")


def _remove_folder(folder: RunFolder) -> None:
    """Remove the folder; once it has its new name, the run is gone, and an error says what is left."""
    try:
        remove_folder(folder)
        remove_rests(folder)
    except (OSError, KeyboardInterrupt) as error:
        if folder.path.exists():
            raise
        rests = " and ".join(map(str, rests_of(folder)))
        what = "the working copy of the run" if folder.url else "the run"
        text = f"{what} {folder.name!r} is removed, but not {rests}: `{folder.command('remove')}` tries again"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted: {text}") from None
        raise OSError(error.errno, f"{text} ({error.strerror})") from error


def _remove_rests(folder: RunFolder) -> int:
    """Finish removals that were interrupted, which were agreed to."""
    count = remove_rests(folder)
    print(f"Removed what {counted(count, 'interrupted removal')} had left of the run {folder.name!r}")
    return 0


def _remove_stored(folder: RunFolder, storage_path: str, *, yes: bool) -> int:
    """Remove a run from its object store, and before that the working copy on this machine.

    Until the last object is gone the same command finds the run, and removes what is left of it.
    """
    from cluster.storage.object_store.stored_runs import check_stored, remove_objects, stored_bytes

    here = lexists(folder.path)
    if here:
        check_removable(folder)
    last = check_stored(folder, lambda text: print(text, flush=True))
    size = file_size(stored_bytes(folder))
    copy = " and the working copy on this machine" if here else ""
    if not yes and not _agreed(f"Remove the run {folder.name!r}, {size} in {folder.place},{copy or ' for good'}?"):
        return LEFT
    if here:
        _remove_folder(folder)
    remove_rests(folder)
    others = remove_objects(folder, last)
    print(f"Removed {folder.place} ({size}){copy}")
    if others:
        print(f"Left {counted(len(others), 'object')} there that no run has made, such as {others[0]}")
    _tell_set_aside(folder)
    return 0
