"""What a replay of a run asks of its ledger."""

import json
import sqlite3
from dataclasses import dataclass

from cluster.storage.ledger.rows import AS_BEFORE, RECORD_COLUMNS, all_records
from controller.searcher import ChildRecord


@dataclass(frozen=True, slots=True)
class ReplayedChild:
    """A child's row, as far as a replay can say whether it is right.

    Attributes:
        record: what a searcher sees of it.
        replica: that sampled it.
        batch: its batch's number; 0 if it is in none.
        seed: it was trained with.
        versions: of the shards, that it was sampled from; `None`: its batch's.
        origin: what it was sampled from; empty if that was not recorded.
        completion: 1 for the child that ended first; `None` if it has not ended.
    """

    record: ChildRecord
    replica: int
    batch: int
    seed: int
    versions: tuple[int, ...] | None
    origin: str
    completion: int | None


@dataclass(frozen=True, slots=True)
class ReplayedBatch:
    """A batch's row.

    Attributes:
        versions: the shards', the oldest of its children's.
        staleness: of its push by shard; empty if nothing was pushed yet, or a push without gradients.
    """

    versions: tuple[int, ...]
    staleness: tuple[int, ...]


def replayed_children(db: sqlite3.Connection) -> dict[int, ReplayedChild]:
    """Return all children by id, in the order of their ids."""
    query = f"SELECT replica, batch, seed, versions, origin, completion, {RECORD_COLUMNS} FROM children ORDER BY id"
    rows = db.execute(query).fetchall()
    children: dict[int, ReplayedChild] = {}
    known = ""
    for (replica, batch, seed, versions, origin, completion, *_), record in zip(
        rows, all_records(row[6:] for row in rows), strict=True
    ):
        seen = None if versions is None else tuple(json.loads(versions))
        if origin != AS_BEFORE:
            known = origin or ""
        children[record.id] = ReplayedChild(record, replica, batch, seed, seen, known, completion)
    return children


def replayed_batches(db: sqlite3.Connection) -> dict[tuple[int, int], ReplayedBatch]:
    """Return all batches by replica and number."""
    query = "SELECT replica, number, versions, coalesce(staleness, 'null') FROM batches"
    return {
        (replica, number): ReplayedBatch(tuple(json.loads(versions)), tuple(json.loads(staleness) or ()))
        for replica, number, versions, staleness in db.execute(query)
    }
