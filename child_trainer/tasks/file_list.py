"""A list of files with their sizes as a short text, and how two such lists differ. Standard library only."""

import base64
import binascii
import os
import zlib
from collections.abc import Mapping

from child_trainer.training.task import TaskError


def packed(files: Mapping[str, int]) -> str:
    """Return the files and their sizes in bytes as a text for `unpacked`, compressed; an equal one for equal files."""
    text = b"".join(b"%d %s\0" % (files[name], os.fsencode(name)) for name in sorted(files))
    return base64.b64encode(zlib.compress(text, 9)).decode()


def unpacked(text: str) -> Mapping[str, int]:
    """Return the files of a text that `packed` made.

    Raises:
        TaskError: it is damaged.
    """
    try:
        lines = zlib.decompress(base64.b64decode(text, validate=True)).split(b"\0")[:-1]
        return {os.fsdecode(name): int(size) for size, _, name in (line.partition(b" ") for line in lines)}
    except (binascii.Error, zlib.error, ValueError) as error:
        raise TaskError(f"the list of the data's files in the run's configuration is damaged: {error}") from error


def difference(recorded: Mapping[str, int], there: Mapping[str, int]) -> str:
    """Return how many files are missing, new or of another size, and one of each; empty if none is."""
    kinds = {
        "missing": sorted(recorded.keys() - there.keys()),
        "new": sorted(there.keys() - recorded.keys()),
        "of another size": sorted(name for name, size in recorded.items() if there.get(name, size) != size),
    }
    return ", ".join(
        f"{names[0]} is {kind}" if len(names) == 1 else f"{len(names):,} are {kind}, such as {names[0]}"
        for kind, names in kinds.items()
        if names
    )
