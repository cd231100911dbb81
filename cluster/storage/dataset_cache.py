"""The task's data on this node: a folder that is there already, or a copy of one in an object store.

A copy is made once per node, whoever asks first; the others wait for it. It is used when every file has the size that
the store tells, so that a copy which broke off, or of which something was removed, is completed before it is read.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from child_trainer.atomic_file import replace_file, replacing, sync
from cluster.config.locations import is_url
from cluster.storage.object_store.store import FsspecStorage, StorageError, Stored, explained, open_storage

CACHE_VARIABLE = "NASCLUSTER_DATA_CACHE"
"""Names another folder for the copies, where the home folder is small or not of this node alone."""

USUAL_CACHE = "~/.cache/nascluster/data"

AT_ONCE = 8
"""Files that are fetched at the same time."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Where the copy of one URL is on this node.

    Attributes:
        folder: the files themselves, as in the store.
        record: what the store told of them when the copy was whole, JSON; written last.
        lock: held by whoever looks or fetches.
    """

    folder: Path
    record: Path
    lock: Path


def at_url(data: Path | str | None) -> bool:
    """Whether a task's data is at a URL, from where each node copies it."""
    return data is not None and is_url(str(data))


def located(data: str | Path | None) -> str | Path | None:
    """What `--data` names, independent of the present folder: an absolute path, or a URL as it is."""
    if data is None or is_url(str(data)):
        return data
    return Path(data).expanduser().absolute()


def copy_of(url: str, cache: str | Path | None = None) -> Copy:
    """Where this node has the copy of a URL, or would have it.

    Args:
        url: of the folder in the object store.
        cache: folder of all copies; unset: what `NASCLUSTER_DATA_CACHE` names, or else `USUAL_CACHE`.
    """
    root = Path(cache or os.environ.get(CACHE_VARIABLE) or USUAL_CACHE).expanduser().absolute()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", url).strip("-")[:60]
    name = f"{readable}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:16]}"
    return Copy(root / name, root / f"{name}.json", root / f"{name}.lock")


def data_folder(data: str | Path | None) -> Path | None:
    """The folder in which this node has the data, or would have it once it is fetched."""
    if data is None:
        return None
    return copy_of(str(data)).folder if is_url(str(data)) else Path(data)


def local_data(data: str | Path | None, *, cache: str | Path | None = None) -> Path | None:
    """The folder with the data on this node, fetched from the object store first if need be.

    Raises:
        StorageError: the store cannot be used and there is no whole copy, it holds nothing there, or the copy cannot
            be written.
    """
    if data is None or not at_url(data):
        return data_folder(data)
    url = str(data)
    copy = copy_of(url, cache)
    try:
        with _alone(copy):
            _bring_up_to_date(url, copy)
    except OSError as error:
        raise StorageError(
            f"`--data` {url} cannot be copied to {copy.folder}: {error.strerror or error} ({CACHE_VARIABLE} names"
            " another folder)"
        ) from error
    return copy.folder


def check_stored(url: str) -> None:
    """Make sure that the object store holds files there; fetches none.

    Raises:
        StorageError: it cannot be used, or holds nothing there.
    """
    _some(url, _stored(url)[1])


def _stored(url: str) -> tuple[FsspecStorage, Mapping[str, Stored]]:
    store = open_storage(url, what="`--data`")
    with explained(f"`--data` {url}"):
        return store, store.contents()


def _some(url: str, found: Mapping[str, Stored]) -> None:
    if not found:
        raise StorageError(f"`--data` {url} holds no files; it must be a folder with the data in torchvision's layout")


def _bring_up_to_date(url: str, copy: Copy) -> None:
    before = _recorded(copy)
    try:
        store, wanted = _stored(url)
    except StorageError:
        if before and not _missing(copy, before, before):
            return  # the store is away, and what is here is whole
        raise
    _some(url, wanted)
    if outside := [name for name in wanted if ".." in name.split("/")]:
        raise StorageError(f"`--data` {url} holds {outside[0]!r}, a name that points outside it; rename that object")
    missing = _missing(copy, wanted, before)
    if missing or before != wanted:
        copy.record.unlink(missing_ok=True)
        _fetch(url, store, copy, missing)
        if torn := _missing(copy, wanted, wanted):
            raise StorageError(f"`--data` {url} has changed while {torn[0]} was copied; try again")
        record = {name: asdict(stored) for name, stored in wanted.items()}
        replace_file(copy.record, json.dumps(record).encode(), durable=True)


def _missing(copy: Copy, wanted: Mapping[str, Stored], before: Mapping[str, Stored]) -> list[str]:
    """The files that are not here as wanted: not at all, in another size, or of another state of the store's."""
    return [
        name
        for name, stored in wanted.items()
        if _size(copy.folder / name) != stored.size or before.get(name) != stored
    ]


def _fetch(url: str, store: FsspecStorage, copy: Copy, names: list[str]) -> None:
    def fetch(name: str) -> None:
        path = copy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            with explained(f"`--data` {url}"):
                store.fetch(name, draft)
            sync(draft)

    with ThreadPoolExecutor(AT_ONCE) as threads:
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


@contextmanager
def _alone(copy: Copy) -> Iterator[None]:
    copy.lock.parent.mkdir(parents=True, exist_ok=True)
    with copy.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
