"""Where the children in training keep the state to go on from: one file each, in the run's folder.

A child's file is replaced at every save, and removed when its outcome is in the ledger; what a killed run left behind
of children that have ended is removed when the run goes on. So there are never more files than children in training.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from child_trainer.training.checkpoint_file import CheckpointFile


class CheckpointFolder:
    """The files of one run.

    Args:
        path: the folder; made when the first file comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, child_id: int) -> bytes | None:
        """What the child saved last, or `None`."""
        return CheckpointFile(self._file(child_id)).load()

    def save(self, child_id: int, data: bytes) -> None:
        """Replace what the child saved before; when this returns, it is on disk.

        Raises:
            OSError: it is not; what was there before still is.
        """
        self._path.mkdir(exist_ok=True)
        CheckpointFile(self._file(child_id)).save(data)

    def forget(self, child_id: int) -> None:
        """The child has ended: its file goes, and what a save that failed, as on a full disk, left beside it."""
        for file in self._path.glob(f"{self._file(child_id).name}*"):
            file.unlink(missing_ok=True)

    def keep_only(self, children: Iterable[int]) -> None:
        """Remove what is not of these children, and what a death left half written."""
        kept = {self._file(child).name for child in children}
        for file in self._path.glob("child-*"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _file(self, child_id: int) -> Path:
        return self._path / f"child-{child_id:08d}.safetensors"


class KeepsCheckpoints(Protocol):
    """The folder, or what stands for it elsewhere."""

    def load(self, child_id: int) -> bytes | None:
        """What the child saved last, or `None`; raises `OSError`."""
        ...

    def save(self, child_id: int, data: bytes) -> None:
        """Replace what the child saved before; raises `OSError`."""
        ...


@dataclass(frozen=True, slots=True)
class ChildSlot:
    """One child's place among the checkpoints; see `child_trainer.training.checkpoint.CheckpointSlot`."""

    folder: KeepsCheckpoints
    child_id: int

    def load(self) -> bytes | None:
        """What the child saved last, or `None`."""
        return self.folder.load(self.child_id)

    def save(self, data: bytes) -> None:
        """Replace what the child saved before; raises `OSError`."""
        self.folder.save(self.child_id, data)
