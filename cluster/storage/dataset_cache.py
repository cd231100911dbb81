"""The task's data on this node: an existing folder, or a copy of a folder in an object store.

A node makes one copy; the first process that needs it does, and the others wait. The copy is used when every file has
the size that the store reports. So a copy that was interrupted, or that lost files, is completed before it is read.
"""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from child_trainer.atomic_file import replace_file, replacing, sync
from child_trainer.tasks.file_list import packed
from child_trainer.training.task import TaskError
from cluster.config.locations import is_url
from cluster.config.task_options import TaskOptions
from cluster.storage.locks import exclusive
from cluster.storage.object_store.store import FsspecStorage, StorageError, Stored, explained, open_storage
from cluster.storage.url_folder import url_folder

CACHE_VARIABLE = "NASCLUSTER_DATA_CACHE"
"""Environment variable that names another folder for the copies, for a small or shared home folder."""

DEFAULT_CACHE = "~/.cache/nascluster/data"

HASH_DIGITS = 16
"""Digits of the URL's hash in the name of a copy."""

MAX_PARALLEL_FETCHES = 8
"""Files that are fetched at the same time."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Where the copy of one URL is on this node.

    Attributes:
        folder: the files, named as in the store.
        record: what the store reported about them when the copy was complete, JSON; written last.
        lock: locked by the process that checks or fetches files.
    """

    folder: Path
    record: Path
    lock: Path


def at_url(data: Path | str | None) -> bool:
    """Return whether a task's data is at a URL, from which each node copies it."""
    return data is not None and is_url(str(data))


def located(data: str | Path | None) -> str | Path | None:
    """Return `--data` independent of the current folder: an absolute path, or the URL unchanged."""
    if data is None or is_url(str(data)):
        return data
    return Path(data).expanduser().absolute()


def copy_of(url: str, cache: str | Path | None = None) -> Copy:
    """Return where this node has, or would have, the copy of a URL.

    Args:
        url: of the folder in the object store.
        cache: folder of all copies; if `None`, the one that `NASCLUSTER_DATA_CACHE` names, or else `DEFAULT_CACHE`.
    """
    root = Path(cache or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE).expanduser().absolute()
    name = url_folder(url, HASH_DIGITS)
    return Copy(root / name, root / f"{name}.json", root / f"{name}.lock")


def data_folder(data: str | Path | None) -> Path | None:
    """Return the folder in which this node has the data, or will have it once the data is fetched."""
    if data is None:
        return None
    return copy_of(str(data)).folder if is_url(str(data)) else Path(data)


def local_data(data: str | Path | None, *, cache: str | Path | None = None) -> Path | None:
    """Return the folder with the data on this node; fetch the data from the object store first if necessary.

    Raises:
        StorageError: the store cannot be used and there is no complete copy, the store has no files at the URL, or the
            copy cannot be written.
    """
    if data is None or not at_url(data):
        return data_folder(data)
    url = str(data)
    copy = copy_of(url, cache)
    try:
        copy.lock.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(copy.lock):
            _update(url, copy)
    except OSError as error:
        raise StorageError(
            f"`--data` {url} cannot be copied to {copy.folder}: {error.strerror or error} ({CACHE_VARIABLE} names"
            " another folder)"
        ) from error
    return copy.folder


def with_file_list(options: TaskOptions) -> TaskOptions:
    """Return a run's task with the files of its data as they are now, by which later starts and other nodes know it.

    Unchanged if it has them, if the task does not ask for them, or if they are not here, as on a driver's node that
    trains nothing. Those at a URL are as the object store reports them.
    """
    entry, data = options.entry, options.data
    if options.file_list or entry.files is None or data is None:
        return options
    try:
        if at_url(data):
            stored = _list(str(data))[1]
            files = {name: found.size for name, found in stored.items() if entry.uses(options.options, name)}
        else:
            files = entry.files(options.options, Path(data))
    except (TaskError, StorageError):  # the part that needs the data says so
        return options
    return replace(options, file_list=packed(files))


def check_stored(url: str) -> None:
    """Check that the object store has files at the URL, without fetching any.

    Raises:
        StorageError: the store cannot be used, or has no files there.
    """
    _check_not_empty(url, _list(url)[1])


def _list(url: str) -> tuple[FsspecStorage, Mapping[str, Stored]]:
    store = open_storage(url, what="`--data`")
    with explained(f"`--data` {url}"):
        return store, store.contents()


def _check_not_empty(url: str, contents: Mapping[str, Stored]) -> None:
    if not contents:
        raise StorageError(f"`--data` {url} has no files: it must be a folder with the data in torchvision's layout")


def _update(url: str, copy: Copy) -> None:
    before = _recorded(copy)
    try:
        store, stored = _list(url)
    except StorageError:
        if before and not _missing(copy, before, before):
            return  # the store is unavailable, and the copy is complete
        raise
    _check_not_empty(url, stored)
    if outside := [name for name in stored if ".." in name.split("/")]:
        raise StorageError(f"`--data` {url} has {outside[0]!r}, a name that points outside it: rename that object")
    missing = _missing(copy, stored, before)
    if missing or before != stored:
        for gone in before.keys() - stored.keys():
            (copy.folder / gone).unlink(missing_ok=True)
        copy.record.unlink(missing_ok=True)
        _fetch(url, store, copy, missing)
        if torn := _missing(copy, stored, stored):
            raise StorageError(f"`--data` {url} changed while {torn[0]} was copied: try again")
        record = {name: asdict(entry) for name, entry in stored.items()}
        replace_file(copy.record, json.dumps(record).encode(), durable=True)


def _missing(copy: Copy, stored: Mapping[str, Stored], before: Mapping[str, Stored]) -> list[str]:
    """Return the files that the copy lacks, has in another size, or has from an earlier state of the store."""
    return [
        name for name, entry in stored.items() if _size(copy.folder / name) != entry.size or before.get(name) != entry
    ]


def _fetch(url: str, store: FsspecStorage, copy: Copy, names: list[str]) -> None:
    def fetch(name: str) -> None:
        path = copy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            with explained(f"`--data` {url}"):
                store.fetch(name, draft)
            sync(draft)

    with ThreadPoolExecutor(MAX_PARALLEL_FETCHES) as threads:
        list(threads.map(fetch, names))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _recorded(copy: Copy) -> dict[str, Stored]:
    try:
        return {name: Stored(**fields) for name, fields in json.loads(copy.record.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
