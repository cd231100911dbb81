"""Corrupt snapshots of shards that were set aside, and what that means for the run. Imports no torch."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.storage.object_store.object_names import WEIGHTS
from cluster.storage.run_folder import RunFolder
from ps.identifiers import CORRUPT

Mark = tuple[int, int]
"""Identifies a file among those that had the same name: its inode, and when it got the name, in nanoseconds."""

_NAME = re.compile(r"shard-(\d+)(\.previous)?")


def corrupt_files(folder: RunFolder) -> Mapping[Path, Mark]:
    """Return the corrupt snapshots of a run's shards, those of shared weights included.

    Raises:
        OSError: a folder or a file cannot be read.
    """
    marks = {}
    for shards in (folder.shards, folder.weights):
        for path in sorted(shards.glob(f"shard-*{CORRUPT}")):
            status = path.stat()
            marks[path] = status.st_ino, status.st_ctime_ns
    return marks


def corrupt_texts(files: Sequence[Path]) -> list[str]:
    """Return a message for each shard with corrupt snapshots, of files that were found at the same time."""
    by_shard: dict[tuple[bool, int], list[Path]] = defaultdict(list)
    for path in files:
        if match := _NAME.fullmatch(path.stem):
            by_shard[path.parent.name == WEIGHTS, int(match[1])].append(path)
    return [(_weights_text if weights else _text)(shard, paths) for (weights, shard), paths in sorted(by_shard.items())]


def _text(shard: int, paths: Sequence[Path]) -> str:
    if _all_lost(paths):
        return (
            f"no snapshot of shard {shard} could be read: the shard starts from the beginning, and all of its updates"
            f" are applied again from the ledger; the corrupt files are {_listed(paths)}"
        )
    return (
        f"a snapshot of shard {shard} was corrupt and was renamed to {paths[0]}: the shard resumes from the previous"
        " snapshot, or from the beginning if there is none, and missing updates are applied again from the ledger"
    )


def _weights_text(shard: int, paths: Sequence[Path]) -> str:
    if _all_lost(paths):
        return (
            f"no snapshot of shard {shard} of the shared weights could be read: its part of the weights is lost; the"
            f" corrupt files are {_listed(paths)}"
        )
    return (
        f"a snapshot of shard {shard} of the shared weights was corrupt and was renamed to {paths[0]}: the shard"
        " resumes from the previous snapshot, and the steps since then are lost there, which are not repeated"
    )


def _all_lost(paths: Sequence[Path]) -> bool:
    # The previous snapshot is set aside only if no good one is left.
    return any(path.stem.endswith(".previous") for path in paths)


def _listed(paths: Sequence[Path]) -> str:
    return " and ".join(map(str, paths))
