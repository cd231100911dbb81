"""`Journal`: what several shards of one process have committed, in one file, until their own files have it.

One write and one sync of the disk then make a push to all of these shards durable, where their own files would need
several for each shard. A record is `<magic><shard: u32><length: u64><content>`; the content is that of the shard's own
file, with its checksum. Two files take turns: while one is written into, what the other one has is written into the
shards' own files, after which it is emptied.
"""

import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_MAGIC = b"NASJ"
_HEAD = struct.Struct("<4sIQ")

Content = Sequence[bytes | memoryview]
"""The content of a shard's file, in parts."""


class Journal:
    """The two files of the shards that one process has; may be used from several threads.

    Args:
        directory: the folder of the shards' own files.
        first: the lowest index of these shards, which no other process has.

    Raises:
        OSError: the files cannot be created.
    """

    def __init__(self, directory: Path, first: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._paths = [directory / f"shards-{first:03d}.{part}.journal" for part in "ab"]
        # The shards have written their own files by now, so what a process before this one has left here is outdated.
        self._files = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666) for path in self._paths]
        sync_directory(directory)
        self._lock = threading.Lock()
        self._active = 0
        self._end = 0

    def append(self, contents: Iterable[tuple[int, Content]]) -> None:
        """Add the contents of some shards' files. When this returns, they survive a crash of the machine.

        Raises:
            OSError: they may or may not be on the disk. The next call overwrites them.
        """
        parts: list[bytes | memoryview] = []
        for shard, content in contents:
            parts += [_HEAD.pack(_MAGIC, shard, sum(map(len, content))), *content]
        data = memoryview(b"".join(parts))
        with self._lock:
            file, written = self._files[self._active], 0
            while written < len(data):
                written += os.pwrite(file, data[written:], self._end + written)
            os.fdatasync(file)
            self._end += written

    @property
    def size_bytes(self) -> int:
        """How much has been appended since the last `switch`."""
        return self._end

    def switch(self) -> None:
        """Append to the other file from now on, which is empty."""
        with self._lock:
            self._active = 1 - self._active
            self._end = 0

    def clear(self) -> None:
        """Empty the file that is not appended to, as the shards' own files have what it has.

        Raises:
            OSError: it could not be emptied.
        """
        os.ftruncate(self._files[1 - self._active], 0)

    def close(self, *, remove: bool) -> None:
        """Close the files, and remove them if the shards' own files have all that they have."""
        for file, path in zip(self._files, self._paths, strict=True):
            os.close(file)
            if remove:
                path.unlink(missing_ok=True)


def records(path: Path, shard: int) -> Iterator[bytes]:
    """Yield the contents that a journal has for a shard. The last ones may be torn, or older than those before them.

    Raises:
        OSError: the journal cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            magic, owner, length = _HEAD.unpack(head)
            if magic != _MAGIC or file.tell() + length > size:
                return
            if owner == shard:
                yield file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)


def journals(directory: Path) -> list[Path]:
    """Return the journals in a folder of shards, which need not exist."""
    return sorted(directory.glob("shards-*.journal"))


def sync_directory(directory: Path | str) -> None:
    """Make the names in a folder survive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
