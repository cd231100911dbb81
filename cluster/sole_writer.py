"""That a file of a run has one writer, on whichever node."""

from pathlib import Path
from typing import IO

from cluster.locks import lock
from cluster.run_folder import RunFolderError


def sole_writer(path: Path, patience_s: float) -> IO[str]:
    """Wait until no other process is the sole writer of this file, and be it until the file is closed or the end.

    Where Ray loses sight of a node it starts the actors elsewhere that were there. If the node lives, so do they.

    Raises:
        RunFolderError: another one has not gone in `patience_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.lock").open("w")
    if not lock(file, patience_s):
        file.close()
        raise RunFolderError(
            f"{path} must have one writer, but a process from before, on this node or another, has held"
            f" {path.name}.lock for {patience_s:g} s: end it"
        )
    return file
