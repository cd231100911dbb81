"""The shards' snapshots that were found corrupt and set aside, and what that means for the run. Imports no torch."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ps.identifiers import CORRUPT

Mark = tuple[int, int]
"""Tells one file from another of the same name: its number on the disk, and when it got the name, in nanoseconds."""

_NAME = re.compile(r"shard-(\d+)(\.previous)?")


def corrupt_files(shards: Path) -> Mapping[Path, Mark]:
    """Those in the shards' folder, which need not be there.

    Raises:
        OSError: they cannot be looked at.
    """
    found = {}
    for path in sorted(shards.glob(f"shard-*{CORRUPT}")):
        status = path.stat()
        found[path] = status.st_ino, status.st_ctime_ns
    return found


def corrupt_texts(files: Sequence[Path]) -> list[str]:
    """For people: a sentence for each shard that had such files, found at the same time."""
    by_shard: dict[int, list[Path]] = defaultdict(list)
    for path in files:
        if match := _NAME.fullmatch(path.stem):
            by_shard[int(match[1])].append(path)
    return [_text(shard, paths) for shard, paths in sorted(by_shard.items())]


def _text(shard: int, paths: Sequence[Path]) -> str:
    # The one before the newest is set aside only where no good one is left.
    if any(path.stem.endswith(".previous") for path in paths):
        return (
            f"no snapshot of shard {shard} was whole: it starts anew, and all of its updates are learnt again from the"
            f" ledger; the corrupt ones are {' and '.join(map(str, paths))}"
        )
    return (
        f"a snapshot of shard {shard} was corrupt and is {paths[0]} now: the shard goes on from the one before it, or"
        " anew if there was none, and the updates that it lacks are learnt again from the ledger"
    )
