"""The counters of a shard. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardStatus:
    """One shard's counters. `version`, `pushes` and `dropped` survive a restart; the others count since the last start.

    Attributes:
        index: the shard's number, from 0.
        version: optimizer steps taken.
        incarnation: starts so far, including this one.
        initialized: whether it has values.
        pushes: pushes applied, including those accumulated for a later step.
        dropped: pushes that were too stale and changed no value; not counted in `pushes`.
        duplicates: pushes acked again without being applied.
        rejected: bad pushes that reached the shard (clients refuse most before sending).
        elements: length of its range of the flattened vector.
        clients: clients in its deduplication table.
        writes: snapshots written.
        snapshot_age_s: seconds since the last write ended.
        snapshot_write_s: seconds that the last write took.
        snapshot_bytes: size of the last snapshot; 0 if none was written.
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
