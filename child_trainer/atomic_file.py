"""Files that are replaced atomically: readers see the old content or the new one. Standard library only.

`ps/shard/snapshot.py` has code of its own for this: `ps` and `child_trainer` must not import each other.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until its content is on disk; a crash may still lose its name.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Create or replace a file atomically.

    Args:
        path: the file; its folder must exist.
        data: the new content.
        durable: return only when the file survives a crash of the machine.

    Raises:
        OSError: the file cannot be written; unless only the last step, syncing its folder, failed, the old content
            is still there.
    """
    with replacing(path) as draft:
        if durable:
            write_durably(draft, data)
        else:
            draft.write_bytes(data)
    if durable:
        sync(path.parent)


def write_output(path: Path, data: bytes) -> None:
    """Write a file that a user named: follow a link, write into a FIFO or a device, replace a regular file.

    Raises:
        OSError: it cannot be written, or no process reads the FIFO.
    """
    try:
        special = not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        special = False
    if not special:
        replace_file(path.resolve(), data, durable=True)
        return
    # Without O_NONBLOCK, a FIFO that no process reads would block for ever.
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a draft, which replaces the file atomically if the block ends without an error.

    The draft's name begins with the file's name and ends in `.tmp`. It is unique, so that several writers do not
    disturb each other: the last one wins. An error removes the draft; a killed process leaves it.

    Raises:
        OSError: the file cannot be replaced; the old content is still there.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
