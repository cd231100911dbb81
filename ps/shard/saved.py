"""The tensors in the files of a store's shards, for readers that start no shard and change nothing."""

from pathlib import Path

from ps.shard.shard import Shard
from ps.shard.snapshot import SnapshotFile
from ps.split_merge import merge_values
from ps.store import Layout, Snapshot


def saved_values(layout: Layout, directory: Path) -> Snapshot | None:
    """Return all tensors as the shards last wrote them; `None` if a shard has written nothing.

    Shards that write from time to time do so at different times, so that their parts may differ by some steps.

    Args:
        layout: of the tensors.
        directory: the folder of the shards' files.

    Raises:
        WrongRun, CorruptSnapshot, OSError: see `SnapshotFile.newest`.
    """
    states = [SnapshotFile(directory, layout, index).newest() for index in range(layout.shards)]
    shards = [Shard(layout, index) for index in range(layout.shards)]
    for shard, state in zip(shards, states, strict=True):
        if state is None or not state.metadata["initialized"]:
            return None
        shard.restore(state)
    return merge_values(layout, [shard.pull() for shard in shards], None)
