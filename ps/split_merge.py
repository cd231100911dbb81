"""Splitting a request into one part for each shard, and merging the shards' replies."""

from collections.abc import Callable, Sequence

from ps.errors import TooFarAhead
from ps.partition import Partition, join, split
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.store import Ack, Layout, Push, Snapshot
from ps.validation import check_names


def split_names(layout: Layout, parts: Partition, names: Sequence[str] | None) -> list[list[str]]:
    """Return for each shard the requested tensors that it has a part of; `None` requests all.

    Raises:
        UnknownParameter: a name is not in the layout.
    """
    requested = set(layout.shapes if names is None else names)
    check_names(layout.shapes, list(requested))
    return [[segment.name for segment in segments if segment.name in requested] for segments in parts]


def split_push(parts: Partition, push: Push) -> list[ShardPush]:
    """Return each shard's part of a push.

    A shard that has no part of a pushed tensor gets an empty one, because the ack needs its version.
    """
    applied = push.applied or (0,) * len(parts)
    return [
        ShardPush(
            client=push.client,
            sequence=push.sequence,
            gradients=part,
            seen_version=version,
            seen_applied=sequence,
            rates=push.rates,
        )
        for part, version, sequence in zip(split(parts, push.gradients), push.versions, applied, strict=True)
    ]


def merge_acks(acks: Sequence[ShardAck]) -> Ack:
    """Return one ack from the acks of all shards, in their order."""
    return Ack(
        versions=tuple(ack.version for ack in acks),
        incarnations=tuple(ack.incarnation for ack in acks),
        staleness=tuple(ack.staleness for ack in acks),
        duplicate=all(ack.duplicate for ack in acks),
        dropped=any(ack.dropped for ack in acks),
    )


def merge_values(layout: Layout, parts: Partition, pulled: Sequence[ShardValues]) -> Snapshot:
    """Return a snapshot of whole tensors, in the layout's order, from each shard's slices."""
    present = {name for part in pulled for name in part.values}
    shapes = {name: shape for name, shape in layout.shapes.items() if name in present}
    return Snapshot(
        values=join(parts, shapes, [part.values for part in pulled]),
        versions=tuple(part.version for part in pulled),
        incarnations=tuple(part.incarnation for part in pulled),
        applied=tuple(part.applied for part in pulled if part.applied is not None),
    )


def pull_with_catch_up(pull: Callable[[bool], Sequence[ShardValues | TooFarAhead]]) -> Sequence[ShardValues]:
    """Return every shard's values, if the client may pull now.

    A client whose last push is missing on some shards always may. Otherwise there would be a deadlock: the client
    would wait, on the shards that have its push, for clients that wait for that push on the other shards.

    Args:
        pull: pulls from every shard; its argument is `catching_up` of `Shard.pull`.

    Raises:
        TooFarAhead: a shard refused; the first such shard's error.
    """
    replies = pull(False)
    refusals = [reply for reply in replies if isinstance(reply, TooFarAhead)]
    if refusals and len({reply.applied for reply in replies}) > 1:
        replies = pull(True)
        refusals = [reply for reply in replies if isinstance(reply, TooFarAhead)]
    if refusals:
        raise refusals[0]
    return [reply for reply in replies if isinstance(reply, ShardValues)]
