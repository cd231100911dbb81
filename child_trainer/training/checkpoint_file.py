"""A checkpoint slot that is one file: whole at any moment, on disk when `save` returns. Standard library only."""

from pathlib import Path

from child_trainer.atomic_file import replace_file


class CheckpointFile:
    """One child's newest checkpoint in a file (`CheckpointSlot`); the folder that it is to lie in must be there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        """The file's content, or `None` if there is no file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """Replace the file; when this returns, it survives a crash of the machine.

        Raises:
            OSError: what was there before is there still.
        """
        replace_file(self.path, data, durable=True)
