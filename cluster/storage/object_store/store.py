"""Named objects in a folder of an object store, through fsspec: S3, Google Cloud, Azure, a file system, memory."""

import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cluster.formatting import opening

MAX_PARALLEL_REQUESTS = 32
"""Objects that are read, written or removed at the same time."""

PART_BYTES = 2**20
"""Bytes of a file that are read at once while it is written to an object."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # No retries at this level: s3fs retries requests itself, and a mirror retries its rounds without limit.
    **{protocol: {"config_kwargs": {"retries": {"total_max_attempts": 1}}} for protocol in ("s3", "s3a")},
}
"""Options of the backends, by protocol."""

INSTALL = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
}
"""The package that implements a protocol."""

EXCLUSIVE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "file", "local", "memory"})
"""Protocols for which `create` is atomic: if several callers try at the same time, only one succeeds.

According to their packages' code, s3fs sends `If-None-Match: *`, gcsfs `ifGenerationMatch=0`, and adlfs uploads with
overwriting disabled; a file is linked to its name. Memory belongs to this process, where a lock is enough. All other
protocols use fsspec's default, which first checks and then writes.
"""

_CREATING = threading.Lock()


class StorageError(ValueError):
    """The object store cannot be used: unknown protocol, missing package, missing bucket or no permission."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store reports about an object: bytes, and a text that changes with the content, if it has one."""

    size: int
    state: str


class Storage(Protocol):
    """Objects by name; names are relative paths with slashes. Methods raise the backend's errors."""

    def read(self, name: str) -> bytes | None:
        """Return an object's content, `None` if the object does not exist."""
        ...

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of several objects, without those that do not exist."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Create or replace an object; readers see the old content or the new one."""
        ...

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """Write several objects; if one write fails, others may have been written."""
        ...

    def write_file(self, name: str, file: BinaryIO) -> None:
        """Create an object from an open file of any size; if that fails, a part of it may have been written."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Create an object unless it exists, and return whether this call did; of several callers, one gets `True`."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that do not exist are ignored."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Return all names that begin with `folder` and a slash, at any depth, sorted."""
        ...


class FsspecStorage:
    """Objects below a path of an fsspec file system. Safe for use by several threads.

    Args:
        file_system: as fsspec returns it for a URL.
        root: the folder's path in the file system.
    """

    def __init__(self, file_system: Any, root: str) -> None:
        self._fs = file_system
        self._root = root.rstrip("/")
        names = file_system.protocol
        self._protocols = frozenset({names} if isinstance(names, str) else names)
        # Writing a file is not atomic, unlike writing an object: a file needs a draft.
        self._needs_draft = "file" in self._protocols

    def below(self, folder: str) -> "FsspecStorage":
        """Return the objects of a folder, with names relative to it."""
        return FsspecStorage(self._fs, self._path(folder))

    def read(self, name: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `Storage.read_all`."""
        requested = list(names)
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS) as threads:
            contents = zip(requested, threads.map(self.read, requested), strict=True)
            return {name: content for name, content in contents if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """See `Storage.write`."""
        if self._needs_draft:
            os.replace(self._draft(name, BytesIO(content)), self._path(name))
        else:
            self._fs.pipe_file(self._path(name), content)

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """See `Storage.write_all`."""
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS) as threads:
            list(threads.map(self.write, contents.keys(), contents.values()))

    def write_file(self, name: str, file: BinaryIO) -> None:
        """See `Storage.write_file`."""
        if self._needs_draft:
            os.replace(self._draft(name, file), self._path(name))
            return
        with self._fs.open(self._path(name), "wb") as object_file:
            shutil.copyfileobj(file, object_file, PART_BYTES)

    def create(self, name: str, content: bytes) -> bool:
        """See `Storage.create`."""
        if self._needs_draft:
            draft = self._draft(name, BytesIO(content))
            try:
                os.link(draft, self._path(name))
            except FileExistsError:
                return False
            finally:
                os.unlink(draft)
            return True
        # Not every backend has exclusive writes, and the reply to one that succeeds may be lost: read first and last.
        with _CREATING:
            if self.read(name) is not None:
                return False
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except OSError:
                existing = self.read(name)
                if existing is None:
                    raise
                return existing == content
            return self.read(name) == content

    def is_exclusive(self, name: str) -> bool:
        """Return whether `create` is known to be atomic, also among drivers on different machines.

        Args:
            name: an object that exists and never changes. Some S3-compatible services ignore the condition of an
                exclusive write: they are recognised as they replace this object, by the same content.

        Raises:
            Exception: whatever the backend raises.
        """
        if not self._protocols & EXCLUSIVE:
            return False
        if self._needs_draft:
            return True
        content = self._fs.cat_file(self._path(name))
        try:
            self._fs.pipe_file(self._path(name), content, mode="create")
        except OSError:
            return True
        return False

    def remove(self, names: Iterable[str]) -> None:
        """See `Storage.remove`."""
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS) as threads:
            list(threads.map(self._remove, names))

    def folders(self) -> list[str]:
        """Return the names of the folders."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`."""
        return sorted(self._entries(folder))

    def contents(self) -> dict[str, Stored]:
        """Return all names with what the store reports about each object."""
        return {name: Stored(int(entry["size"]), _state(entry)) for name, entry in sorted(self._entries().items())}

    def _entries(self, folder: str = "") -> dict[str, Any]:
        # A cached listing would lack the objects that other machines wrote.
        self._fs.invalidate_cache()
        start = len(self._root) + 1
        listing = self._fs.find(self._path(folder) if folder else self._root, detail=True)
        names = {path[start:]: entry for path, entry in listing.items()}
        return {name: entry for name, entry in names.items() if not name.rpartition("/")[2].startswith(".")}

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object of any size to a file of this machine."""
        self._fs.get_file(self._path(name), str(path))

    def _remove(self, name: str) -> None:
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _draft(self, name: str, content: BinaryIO) -> Path:
        path = Path(self._path(name))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            shutil.copyfileobj(content, file, PART_BYTES)
            file.flush()
            os.fsync(file.fileno())
        return draft


def _state(entry: Mapping[str, Any]) -> str:
    values = (entry.get(key) for key in ("ETag", "etag", "md5Hash", "md5", "mtime"))
    return next((str(value) for value in values if value), "")


def open_storage(url: str, what: str = "the storage path") -> FsspecStorage:
    """Return the objects below a URL, after one request that checks that the store can be used.

    Args:
        url: of a folder in an object store.
        what: the user's name for the URL, for errors.

    Raises:
        StorageError: the store cannot be used; gives the service's reason.
    """
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    package = INSTALL.get(protocol)
    try:
        if package:
            import_module(package)
        file_system, root = url_to_fs(url, **OPTIONS.get(protocol, {}))
    except ImportError as error:
        needed = f"the package {package} (`pip install {package}`)" if package else f"a package: {error}"
        raise StorageError(f"{what} {url} needs {needed}") from None
    except ValueError as error:
        raise StorageError(f"{what} {url} cannot be used: {error}") from None
    try:
        if protocol in ("s3", "s3a"):
            # s3fs raises the same error for a missing bucket and a missing object.
            bucket, _, prefix = root.partition("/")
            file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        else:
            with suppress(FileNotFoundError):
                file_system.info(root)
    except Exception as error:  # each backend has its own classes of errors
        raise StorageError(f"{what} {url} cannot be used: {reason(error)}") from None
    return FsspecStorage(file_system, root)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn a backend's errors into one sentence.

    Raises:
        StorageError: the place cannot be used; gives the service's reason.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise StorageError(f"{place} cannot be used: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return the first line of an error's text, or its class if it has none."""
    return opening(str(error)) or type(error).__name__
