"""`Replayed`: what a replay has computed again and found equal."""

from dataclasses import dataclass

from cluster.replay.record import Record
from cluster.replay.shard_history import END
from ps.shard.order_log import reach


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What a replay has computed again and found equal.

    Attributes:
        children, batches: of the run.
        pushes: applied updates, the same on several shards counted once.
        shards: with weights; 0 if the searcher has no parameters.
        restarts: how often shards went on from a snapshot.
        lost: updates that shards had applied and lost, and that were sent again.
    """

    children: int
    batches: int
    pushes: int
    shards: int
    restarts: int
    lost: int


def result_of(record: Record) -> Replayed:
    """Return what a record has that a replay computes again."""
    lineages = [one for shard in record.lineages for one in shard.values()]
    pushes = [one for lineage in lineages for one in lineage.pushes]
    kept = sum(reach(shard[END]) for shard in record.lineages)
    return Replayed(
        children=len(record.children),
        batches=len(record.batches),
        pushes=len({(one.client, one.sequence) for one in pushes}),
        shards=len(record.lineages),
        restarts=sum(lineage.before is not None and lineage.incarnation != END for lineage in lineages),
        lost=len(pushes) - kept,
    )
