"""Named objects in a folder of an object store, through fsspec: S3, Google Cloud, Azure, a file system, memory."""

import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from child_trainer.atomic_file import write_durably
from cluster.formatting import opening

AT_ONCE = 32
"""Objects that are moved at the same time."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # One try at each level is enough: s3fs repeats requests by itself, and a mirror repeats its rounds for ever.
    **{protocol: {"config_kwargs": {"retries": {"total_max_attempts": 1}}} for protocol in ("s3", "s3a")},
}
"""What a backend is told, by protocol."""

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
"""The package that brings a protocol."""

EXCLUSIVE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "file", "local", "memory"})
"""Protocols whose `create` leaves it to the service that of several at once one makes the object.

By their packages' code: s3fs sends `If-None-Match: *`, gcsfs `ifGenerationMatch=0`, and adlfs uploads without leave to
replace; a file is linked to its name. Memory is this process's own, in which a lock does it. All others have fsspec's
way, which looks first and writes then.
"""

_CREATING = threading.Lock()


class StorageError(ValueError):
    """The object store cannot be used: an unknown protocol, a missing package, no bucket, no right to it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store tells of one object: bytes, and a text that changes with the content, where there is one."""

    size: int
    state: str


class Storage(Protocol):
    """Objects by name, names being relative paths with slashes. Errors are the backend's own."""

    def read(self, name: str) -> bytes | None:
        """An object's content, `None` if there is no such object."""
        ...

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Several at once; those that do not exist are left out."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Make or replace an object; readers see the old content or the new one."""
        ...

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """Several at once; where one fails, others may have been written."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Make an object if there is none; of several that try at once, one gets `True`."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """All names that begin with `folder` and a slash, in any depth, sorted."""
        ...


class FsspecStorage:
    """Objects below a path of an fsspec file system. May be used by several threads.

    Args:
        file_system: what fsspec makes of a URL.
        root: the path of the folder there.
    """

    def __init__(self, file_system: Any, root: str) -> None:
        self._fs = file_system
        self._root = root.rstrip("/")
        names = file_system.protocol
        self._protocols = frozenset({names} if isinstance(names, str) else names)
        # A file system replaces a file in steps, an object store at once.
        self._in_steps = "file" in self._protocols

    def below(self, folder: str) -> "FsspecStorage":
        """The objects of a folder, named from there."""
        return FsspecStorage(self._fs, self._path(folder))

    def read(self, name: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `Storage.read_all`."""
        asked = list(names)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = zip(asked, threads.map(self.read, asked), strict=True)
            return {name: content for name, content in found if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """See `Storage.write`."""
        if self._in_steps:
            draft = self._draft(name, content)
            os.replace(draft, self._path(name))
        else:
            self._fs.pipe_file(self._path(name), content)

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """See `Storage.write_all`."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self.write, contents.keys(), contents.values()))

    def create(self, name: str, content: bytes) -> bool:
        """See `Storage.create`."""
        if self._in_steps:
            draft = self._draft(name, content)
            try:
                os.link(draft, self._path(name))
            except FileExistsError:
                return False
            finally:
                os.unlink(draft)
            return True
        # Not every backend knows exclusive writing, and the answer to one that was done may be lost: look twice.
        with _CREATING:
            if self.read(name) is not None:
                return False
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except OSError:
                found = self.read(name)
                if found is None:
                    raise
                return found == content
            return self.read(name) == content

    def is_exclusive(self, name: str) -> bool:
        """Whether `create` is known to give `True` to one only, of drivers on different machines, too.

        Args:
            name: an object that is there and never changes. A service that is S3 in all but this, as some are,
                shows by replacing it, by itself.

        Raises:
            Exception: whatever the backend raises.
        """
        if not self._protocols & EXCLUSIVE:
            return False
        if self._in_steps:
            return True
        content = self._fs.cat_file(self._path(name))
        try:
            self._fs.pipe_file(self._path(name), content, mode="create")
        except OSError:
            return True
        return False

    def remove(self, names: Iterable[str]) -> None:
        """See `Storage.remove`."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._remove, names))

    def folders(self) -> list[str]:
        """The names of the folders here."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory")

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`."""
        return sorted(self._entries(folder))

    def contents(self) -> dict[str, Stored]:
        """What is there, as `names` gives it, with what the store tells of each object."""
        return {name: Stored(int(entry["size"]), _state(entry)) for name, entry in sorted(self._entries().items())}

    def _entries(self, folder: str = "") -> dict[str, Any]:
        # Listings that fsspec remembers would hide what another machine wrote.
        self._fs.invalidate_cache()
        start = len(self._root) + 1
        found = self._fs.find(self._path(folder) if folder else self._root, detail=True)
        names = {path[start:]: entry for path, entry in found.items()}
        return {name: entry for name, entry in names.items() if not name.rpartition("/")[2].startswith(".")}

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object, of any size, to a file of this machine."""
        self._fs.get_file(self._path(name), str(path))

    def _remove(self, name: str) -> None:
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _draft(self, name: str, content: bytes) -> Path:
        path = Path(self._path(name))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(draft, content)
        return draft


def _state(entry: Mapping[str, Any]) -> str:
    told = (entry.get(key) for key in ("ETag", "etag", "md5Hash", "md5", "mtime"))
    return next((str(value) for value in told if value), "")


def open_storage(url: str, what: str = "the storage path") -> FsspecStorage:
    """The objects below a URL, which were looked at once to see that it can be used.

    Args:
        url: of a folder in an object store.
        what: what the user calls it, for the errors.

    Raises:
        StorageError: it cannot; with the service's reason.
    """
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    package = INSTALL.get(protocol)
    try:
        if package:
            import_module(package)
        file_system, root = url_to_fs(url, **OPTIONS.get(protocol, {}))
    except ImportError as error:
        way = f"the package {package} (`pip install {package}`)" if package else f"a package: {error}"
        raise StorageError(f"{what} {url} needs {way}") from None
    except ValueError as error:
        raise StorageError(f"{what} {url} cannot be used: {error}") from None
    try:
        if protocol in ("s3", "s3a"):
            # A missing bucket is no other error for s3fs than a missing object.
            bucket, _, prefix = root.partition("/")
            file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        else:
            with suppress(FileNotFoundError):
                file_system.info(root)
    except Exception as error:  # each backend has a family of its own
        raise StorageError(f"{what} {url} cannot be used: {reason(error)}") from None
    return FsspecStorage(file_system, root)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what a backend raises into one sentence.

    Raises:
        StorageError: the place cannot be used; with the service's reason.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise StorageError(f"{place} cannot be used: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The first line of an error's text, or its name."""
    return opening(str(error)) or type(error).__name__
