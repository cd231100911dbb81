"""One request into its shards' parts, and the shards' answers into one."""

from collections.abc import Sequence

from ps.admission import check_names
from ps.partition import Partition, join, split
from ps.shard import ShardAck, ShardPush, ShardValues
from ps.store import Ack, Layout, Push, Snapshot


def split_names(layout: Layout, parts: Partition, names: Sequence[str] | None) -> list[list[str]]:
    """For each shard, the wanted tensors that it holds a part of; `None` wants all.

    Raises:
        UnknownParameter: a name that is not in the layout.
    """
    wanted = set(layout.shapes if names is None else names)
    check_names(layout.shapes, list(wanted))
    return [[segment.name for segment in segments if segment.name in wanted] for segments in parts]


def split_push(parts: Partition, push: Push) -> list[ShardPush]:
    """Each shard's part of a push. A shard without a named tensor gets one too: its version belongs in the ack."""
    return [
        ShardPush(client=push.client, sequence=push.sequence, gradients=part, seen_version=seen)
        for part, seen in zip(split(parts, push.gradients), push.versions, strict=True)
    ]


def merge_acks(acks: Sequence[ShardAck]) -> Ack:
    """One ack of all the shards', which are given in their order."""
    return Ack(
        versions=tuple(ack.version for ack in acks),
        incarnations=tuple(ack.incarnation for ack in acks),
        staleness=tuple(ack.staleness for ack in acks),
        duplicate=all(ack.duplicate for ack in acks),
    )


def merge_values(layout: Layout, parts: Partition, pulled: Sequence[ShardValues]) -> Snapshot:
    """A snapshot of whole tensors, in the layout's order, from each shard's slices."""
    present = {name for part in pulled for name in part.values}
    shapes = {name: shape for name, shape in layout.shapes.items() if name in present}
    return Snapshot(
        values=join(parts, shapes, [part.values for part in pulled]),
        versions=tuple(part.version for part in pulled),
        incarnations=tuple(part.incarnation for part in pulled),
    )
