"""Files that survive a crash of the machine once they are written. Standard library only.

The shards' snapshots (`ps/shard/snapshot.py`) keep to themselves how they do it: `ps` and `child_trainer` stand alone.
"""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Make a file; when this returns, its content is on disk, though perhaps not its name.

    Raises:
        OSError: it is not.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Make or replace a file, which is whole at any moment; when this returns, it survives a crash of the machine.

    Raises:
        OSError: what was there before is there still.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    write_durably(temporary, content)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
