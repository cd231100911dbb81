"""The weights of trained children from which others may begin: one file each, in the run's folder.

A child's file is written before its outcome is recorded, and removed once the searcher needs it no more. Its name has
the checksum that the outcome has: an attempt that ended too late, with other weights, replaces nothing.
"""

import errno
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from child_trainer.atomic_file import replace_file, sync
from child_trainer.inheritance.trained_weights import TrainedWeights, WeightsError

REMOVALS = "removals"
"""The file in the folder that changes before each removal, by which a copy that is being made knows of one."""

LASTING = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EIO)
"""Errors of a file that is as good as gone until someone mends it; others, such as too many open files, pass."""

SHOWN = 16
"""Digits of the checksum in a file's name."""


class WeightsFolder:
    """The weights of one run's children.

    Args:
        path: the folder; the first save creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, child_id: int, checksum: str) -> bytes | None:
        """Return the child's weights with this checksum, or `None`."""
        try:
            return weights_file(self._path, child_id, checksum).read_bytes()
        except FileNotFoundError:
            return None

    def save(self, child_id: int, checksum: str, data: bytes) -> None:
        """Keep a child's weights; when this returns, they are on disk.

        Raises:
            OSError: they could not be written.
        """
        if not self._path.exists():
            self._path.mkdir(exist_ok=True)
            sync(self._path.parent)
        replace_file(weights_file(self._path, child_id, checksum), data, durable=True)

    def forget(self, children: Collection[int]) -> None:
        """Remove the weights of these children."""
        self._remove([file for file in self._path.glob("child-*") if child_of(file.name) in children])

    def keep_only(self, children: Collection[int]) -> None:
        """Remove the weights of all other children, and all half-written drafts."""
        files = [file for file in self._path.glob("child-*") if child_of(file.name) is not None]
        self._remove([file for file in files if child_of(file.name) not in children or file.suffix != ".safetensors"])

    def _remove(self, files: Collection[Path]) -> None:
        if files:
            replace_file(self._path / REMOVALS, secrets.token_bytes(8), durable=False)
        for file in files:
            file.unlink(missing_ok=True)


def last_removal(folder: Path) -> bytes:
    """Return a value that changes before any file is removed from the folder."""
    try:
        return (folder / REMOVALS).read_bytes()
    except FileNotFoundError:
        return b""


def weights_file(folder: Path, child_id: int, checksum: str) -> Path:
    """Return the file of a child's weights in the folder of all of them."""
    return folder / f"child-{child_id:08d}-{checksum[:SHOWN]}.safetensors"


def child_of(name: str) -> int | None:
    """Return the child whose weights are in the file of this name, or `None` if the name is another's."""
    number = name.split("-")[1]
    return int(number) if number.isdecimal() else None


class WeightsStorage(Protocol):
    """A `WeightsFolder`, or a proxy of one on another node."""

    def load(self, child_id: int, checksum: str) -> bytes | None:
        """Return the child's weights with this checksum, or `None`.

        Raises:
            OSError: they cannot be read; without a number if their folder cannot be reached.
        """
        ...

    def save(self, child_id: int, checksum: str, data: bytes) -> None:
        """Keep a child's weights durably; raises `OSError`."""
        ...


class LostWeights(Exception):
    """Weights with which a child must begin are gone: no attempt at it can begin, here or elsewhere.

    Attributes:
        child_id: the child that must begin with them.
        parent: the child whose weights they are.
        checksum: theirs.
        fault: a clause on what is wrong with their file.
    """

    def __init__(self, child_id: int, parent: int, checksum: str, fault: str) -> None:
        super().__init__(child_id, parent, checksum, fault)  # by which it is pickled
        self.child_id, self.parent, self.checksum, self.fault = child_id, parent, checksum, fault

    def __str__(self) -> str:
        return f"the weights of child {self.parent}, with which child {self.child_id} begins: their file {self.fault}"


def load_weights(storage: WeightsStorage, child_id: int, checksum: str) -> TrainedWeights:
    """Return a child's weights.

    Raises:
        WeightsError: they are not there, or not whole; the message is a clause about their file.
        OSError: they cannot be read now, and another attempt may succeed.
    """
    try:
        data = storage.load(child_id, checksum)
    except OSError as error:
        if error.errno not in LASTING:
            raise
        raise WeightsError(f"cannot be read ({error.strerror})") from error
    if data is None:
        raise WeightsError("is missing")
    weights = TrainedWeights.from_bytes(data)
    if weights.checksum != checksum:
        raise WeightsError("has other weights than the child's outcome says")
    return weights


@dataclass(frozen=True, slots=True)
class ChildWeightsSlot:
    """Where one child's weights are kept; see `child_trainer.inheritance.trained_weights.WeightsSlot`."""

    storage: WeightsStorage
    child_id: int

    def save(self, checksum: str, data: bytes) -> None:
        """Keep the weights durably; raises `OSError`."""
        self.storage.save(self.child_id, checksum, data)
