"""What a shard counts. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardStatus:
    """One shard's counters. `version`, `pushes` and `dropped` survive a restart; the others count since the last start.

    Attributes:
        index: which shard.
        version: optimizer steps taken.
        incarnation: starts so far, this one included.
        initialized: whether it has values.
        pushes: pushes applied, those included that wait in sums for their step.
        dropped: pushes that were too stale and changed no value; not counted in `pushes`.
        duplicates: pushes acked again without being applied.
        rejected: bad pushes that reached the shard (most are refused before anything is sent).
        elements: length of its range of the flattened vector.
        clients: clients in its deduplication table.
        writes: snapshots written.
        snapshot_age_s: seconds since the last of them was on disk.
        snapshot_write_s: seconds that it took to write.
        snapshot_bytes: its size; 0 where none is written.
    """

    index: int
    version: int
    incarnation: int
    initialized: bool
    pushes: int
    dropped: int
    duplicates: int
    rejected: int
    elements: int
    clients: int
    writes: int = 0
    snapshot_age_s: float = 0.0
    snapshot_write_s: float = 0.0
    snapshot_bytes: int = 0
