"""One request into its shards' parts, and the shards' answers into one."""

from collections.abc import Callable, Sequence

from ps.errors import TooFarAhead
from ps.partition import Partition, join, split
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.store import Ack, Layout, Push, Snapshot
from ps.validation import check_names


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
    applied = push.applied or (0,) * len(parts)
    return [
        ShardPush(
            client=push.client, sequence=push.sequence, gradients=part, seen_version=version, seen_applied=sequence
        )
        for part, version, sequence in zip(split(parts, push.gradients), push.versions, applied, strict=True)
    ]


def merge_acks(acks: Sequence[ShardAck]) -> Ack:
    """One ack of all the shards', which are given in their order."""
    return Ack(
        versions=tuple(ack.version for ack in acks),
        incarnations=tuple(ack.incarnation for ack in acks),
        staleness=tuple(ack.staleness for ack in acks),
        duplicate=all(ack.duplicate for ack in acks),
        dropped=any(ack.dropped for ack in acks),
    )


def merge_values(layout: Layout, parts: Partition, pulled: Sequence[ShardValues]) -> Snapshot:
    """A snapshot of whole tensors, in the layout's order, from each shard's slices."""
    present = {name for part in pulled for name in part.values}
    shapes = {name: shape for name, shape in layout.shapes.items() if name in present}
    return Snapshot(
        values=join(parts, shapes, [part.values for part in pulled]),
        versions=tuple(part.version for part in pulled),
        incarnations=tuple(part.incarnation for part in pulled),
        applied=tuple(part.applied for part in pulled if part.applied is not None),
    )


def pull_admitted(pull: Callable[[bool], Sequence[ShardValues | TooFarAhead]]) -> Sequence[ShardValues]:
    """Every shard's values, if the client may go on.

    A client whose last push is missing on some shards may: whoever waits for that push there would wait for ever if
    the client had to wait, on the shards that have it, for them.

    Args:
        pull: asks every shard; its argument is `catching_up` of `Shard.pull`.

    Raises:
        TooFarAhead: the first shard's that refused.
    """
    answers = pull(False)
    refusals = [answer for answer in answers if isinstance(answer, TooFarAhead)]
    if refusals and len({answer.applied for answer in answers}) > 1:
        answers = pull(True)
        refusals = [answer for answer in answers if isinstance(answer, TooFarAhead)]
    if refusals:
        raise refusals[0]
    return [answer for answer in answers if isinstance(answer, ShardValues)]
