"""Splitting a request into one part for each shard, and merging the shards' replies."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ps.errors import StoreError, TooFarAhead
from ps.partition import Partition, join, split
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.slices import Slices
from ps.store import Ack, Layout, Push, Snapshot
from ps.validation import check_names

_T = TypeVar("_T")


def split_names(layout: Layout, parts: Partition, names: Sequence[str] | None) -> Sequence[list[str] | None]:
    """Return for each shard the requested tensors that it has a part of; `None` requests all.

    Raises:
        UnknownParameter: a name is not in the layout.
    """
    if names is None:
        return [None] * len(parts)
    check_names(layout.shapes, names)
    requested = set(names)
    return [[segment.name for segment in segments if segment.name in requested] for segments in parts]


def split_push(parts: Partition, push: Push, gradients: Slices) -> list[ShardPush]:
    """Return each shard's part of a push, whose checked gradients are `gradients`.

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
            note=push.note,
        )
        for part, version, sequence in zip(split(parts, gradients), push.versions, applied, strict=True)
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


def merge_values(layout: Layout, pulled: Sequence[ShardValues], client: int | None) -> Snapshot:
    """Return a snapshot of whole tensors, in the layout's order, from each shard's slices.

    Args:
        layout: the layout.
        pulled: each shard's slices.
        client: the number of the snapshot's client among those that share the pull; `None` if it has none.
    """
    present = {name for part in pulled for name in part.values}
    shapes = {name: shape for name, shape in layout.shapes.items() if name in present}
    return Snapshot(
        values=join(shapes, [part.values for part in pulled]),
        versions=tuple(part.version for part in pulled),
        incarnations=tuple(part.incarnation for part in pulled),
        applied=() if client is None else tuple(part.applied[client] for part in pulled),
    )


def succeeded(replies: Sequence[_T | StoreError]) -> list[_T]:
    """Return the replies of all shards; raise the first error among them."""
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return [reply for reply in replies if not isinstance(reply, StoreError)]


def pull_with_catch_up(pull: Callable[[bool], Sequence[ShardValues | StoreError]]) -> Sequence[ShardValues]:
    """Return every shard's values, if the client may pull now.

    A client whose last push is missing on some shards always may. Otherwise there would be a deadlock: the client
    would wait, on the shards that have its push, for clients that wait for that push on the other shards.

    Args:
        pull: pulls from every shard; its argument is `catching_up` of `Shard.pull`.

    Raises:
        StoreError: a shard failed or refused; the first error, but a refusal only if there is no other.
    """
    replies = pull(False)
    paced = [reply for reply in replies if isinstance(reply, ShardValues | TooFarAhead)]
    succeeded([reply for reply in replies if not isinstance(reply, TooFarAhead)])
    if any(isinstance(reply, TooFarAhead) for reply in paced) and len({_applied(reply) for reply in paced}) > 1:
        replies = pull(True)
    return succeeded(replies)


def _applied(reply: ShardValues | TooFarAhead) -> int:
    return reply.applied if isinstance(reply, TooFarAhead) else reply.applied[0]
