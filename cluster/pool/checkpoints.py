"""The checkpoints of the children in training: one file each, in the run's folder.

A child's file is replaced at every save, and removed when its outcome is in the ledger. A resume removes the files that
a killed run has left of children that have ended. So there are never more files than children in training.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from child_trainer.training.checkpoint_file import CheckpointFile


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        path: the folder; the first save creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, child_id: int) -> bytes | None:
        """Return the child's last checkpoint, or `None`."""
        return CheckpointFile(self._file(child_id)).load()

    def save(self, child_id: int, data: bytes) -> None:
        """Replace the child's checkpoint; when this returns, the new one is on disk.

        Raises:
            OSError: it could not be written; the old one is kept.
        """
        self._path.mkdir(exist_ok=True)
        CheckpointFile(self._file(child_id)).save(data)

    def forget(self, child_id: int) -> None:
        """Remove the file of a child that has ended, and the draft of a save that failed, as on a full disk."""
        for file in self._path.glob(f"{self._file(child_id).name}*"):
            file.unlink(missing_ok=True)

    def keep_only(self, children: Iterable[int]) -> None:
        """Remove the files of all other children, and all half-written drafts."""
        kept = {self._file(child).name for child in children}
        for file in self._path.glob("child-*"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _file(self, child_id: int) -> Path:
        return self._path / f"child-{child_id:08d}.safetensors"


class CheckpointStorage(Protocol):
    """A `CheckpointFolder`, or a proxy of one on another node."""

    def load(self, child_id: int) -> bytes | None:
        """Return the child's last checkpoint, or `None`; raises `OSError`."""
        ...

    def save(self, child_id: int, data: bytes) -> None:
        """Replace the child's checkpoint; raises `OSError`."""
        ...


@dataclass(frozen=True, slots=True)
class ChildSlot:
    """One child's checkpoint; see `child_trainer.training.checkpoint.CheckpointSlot`."""

    folder: CheckpointStorage
    child_id: int

    def load(self) -> bytes | None:
        """Return the child's last checkpoint, or `None`."""
        return self.folder.load(self.child_id)

    def save(self, data: bytes) -> None:
        """Replace the child's checkpoint; raises `OSError`."""
        self.folder.save(self.child_id, data)
