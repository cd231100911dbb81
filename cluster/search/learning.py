"""A replica's calls to the shards: pull the parameters, learn from a batch, push. Knows neither Ray nor the clock."""

from collections.abc import Generator, Sequence
from dataclasses import replace

from cluster.search.records import Batch, BatchResult
from cluster.search.replica import Replica, client, view_of
from controller.searcher import ChildRecord, Update
from ps.errors import TooFarAhead
from ps.store import Ack, Push, Snapshot

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
        update = _learn(replica, children, snapshot, batch.number, turn)
        sequence = (batch.number - 1) * replica.passes + turn + 1
        ack, push_seconds = yield from _push(replica, sequence, update, versions, snapshot.applied)
        if turn == first and ack:
            # A push without gradients is stale by nothing: it changes no parameter.
            result = replace(result, staleness=ack.staleness if update.gradients else (), push_seconds=push_seconds)
        result = replace(result, figures=update.figures)
    return result


def _learn(replica: Replica, children: Sequence[ChildRecord], snapshot: Snapshot, number: int, turn: int) -> Update:
    """Learn from the children of a batch that have a reward; the searcher does not see the others."""
    rewarded = [child for child in children if child.reward is not None]
    if not rewarded:
        return Update(gradients={}, figures={})
    place = (turn,) if turn else ()
    view = replace(view_of(replica, snapshot, "learn", number, *place), turn=turn)
    with replica.computing:
        return replica.searcher.learn(rewarded, view)


def _push(
    replica: Replica, sequence: int, update: Update, versions: tuple[int, ...], applied: tuple[int, ...]
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
    )
    store = replica.store
    if store is None:
        return None, None
    begun = replica.clock()
    ack = yield from replica.call(lambda: store.push(push))
    return ack, replica.clock() - begun
