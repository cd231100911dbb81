"""A checkpoint slot in one file: replaced atomically, durable when `save` returns. Standard library only."""

from pathlib import Path

from child_trainer.atomic_file import replace_file


class CheckpointFile:
    """One child's latest checkpoint in a file (a `CheckpointSlot`); the file's folder must exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        """Return the file's content, or `None` if there is no file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """Replace the file; when this returns, it survives a crash of the machine.

        Raises:
            OSError: the file could not be replaced, and is as it was before.
        """
        replace_file(self.path, data, durable=True)
