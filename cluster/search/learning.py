"""A replica's calls to the shards: pull the parameters, learn from a batch, push. Knows neither Ray nor the clock."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.search.records import Batch, BatchResult
from cluster.search.replica import Replica, children_of, client, origin_of_view, view_of
from controller.searcher import ChildRecord, Searcher, Update, View
from ps.errors import TooFarAhead
from ps.identifiers import MAX_NOTE_LENGTH
from ps.store import Ack, Push, Snapshot

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = Snapshot(values={}, versions=(), incarnations=(), applied=())
"""The snapshot of a searcher that keeps nothing on shards."""


def last_batch_of(sequence: int, passes: int) -> int:
    """Return the number of the batch behind the push `sequence`, of a replica that makes `passes` for each batch."""
    return -(-sequence // passes)


def pull(replica: Replica) -> Generator[None, None, tuple[Snapshot, float | None]]:
    """Return the parameters once the store's consistency admits this replica, and the seconds that the pull took."""
    store = replica.store
    while store:
        begun = replica.clock()
        try:
            snapshot = yield from replica.call(lambda: store.pull(client=client(replica.index)))
            return snapshot, replica.clock() - begun
        except TooFarAhead:
            replica.pause()
            yield
    return NOTHING, None


def learn_from(
    replica: Replica, batch: Batch, children: Sequence[ChildRecord], snapshot: Snapshot, pull_seconds: float | None
) -> Generator[None, None, BatchResult]:
    """Make the searcher's steps on a batch that no shard has yet, and push each; return the batch's result.

    Args:
        replica: the replica.
        batch: to learn from.
        children: its children, which have ended.
        snapshot: the parameters for the first of the steps; each later one pulls its own.
        pull_seconds: the seconds that this pull took.

    Raises:
        LostPushes: a shard lacks earlier pushes.
    """
    done = min(snapshot.applied, default=0) - (batch.number - 1) * replica.passes
    first = min(max(done, 0), replica.passes - 1)
    result, versions = BatchResult(staleness=None, figures={}, pull_seconds=pull_seconds), batch.versions
    for turn in range(first, replica.passes):
        if turn > first:
            snapshot, _ = yield from pull(replica)
        if turn:
            versions = snapshot.versions
        update, note = _learn(replica, children, snapshot, batch.number, turn)
        sequence = (batch.number - 1) * replica.passes + turn + 1
        ack, push_seconds = yield from _push(replica, sequence, update, versions, snapshot.applied, note)
        if turn == first and ack:
            # A push without gradients is stale by nothing: it changes no parameter.
            result = replace(result, staleness=ack.staleness if update.gradients else (), push_seconds=push_seconds)
        result = replace(result, figures=update.figures)
    return result


def _learn(
    replica: Replica, children: Sequence[ChildRecord], snapshot: Snapshot, number: int, turn: int
) -> tuple[Update, str]:
    """Learn from the children of a batch that have a reward; the searcher does not see the others.

    Returns:
        The update, and the note of its push.
    """
    seen = children_of(replica)
    view = view_of(replica, snapshot, seen, "learn", *learning_place(number, turn))
    with replica.computing:
        update = learnt(replica.searcher, children, view, turn)
        checksum = checksum_of(update.gradients) if replica.records_origins else 0
    if not replica.records_origins:
        return update, ""
    note = replace(origin_of_view(snapshot, seen), checksum=checksum).to_text()
    return update, note if len(note) <= MAX_NOTE_LENGTH else ""


def learning_place(number: int, turn: int) -> tuple[int, ...]:
    """Return what gives the seed of a pass over a batch: the batch's number, and that of the pass after the first."""
    return (number, turn) if turn else (number,)


def learnt(searcher: Searcher, children: Sequence[ChildRecord], view: View, turn: int) -> Update:
    """Return what a searcher learns from those children of a batch that have a reward; nothing if none has."""
    rewarded = [child for child in children if child.reward is not None]
    return searcher.learn(rewarded, replace(view, turn=turn)) if rewarded else Update(gradients={}, figures={})


def checksum_of(gradients: Mapping[str, Tensor]) -> int:
    """Return the CRC-32 of the gradients and their names, which do not depend on the mapping's order."""
    names, content = sorted(gradients), b""
    if names:
        from ps.slices import flattened  # imports PyTorch, which a search without parameters does without

        content = flattened([gradients[name] for name in names]).detach().cpu().numpy().data
    return zlib.crc32(content, zlib.crc32("\n".join(names).encode()))


def _push(
    replica: Replica, sequence: int, update: Update, versions: tuple[int, ...], applied: tuple[int, ...], note: str
) -> Generator[None, None, tuple[Ack | None, float | None]]:
    """Push an update, and return the ack and the seconds that it took; neither without a store.

    The push has the same identity after a restart, so that a shard applies it only once. An update without gradients
    is pushed, too: other replicas may wait for this one.
    """
    push = Push(
        client=client(replica.index),
        sequence=sequence,
        gradients=update.gradients,
        versions=versions,
        applied=applied,
        note=note,
    )
    store = replica.store
    if store is None:
        return None, None
    begun = replica.clock()
    ack = yield from replica.call(lambda: store.push(push))
    return ack, replica.clock() - begun
