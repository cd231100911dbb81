"""Looks up what a record says of requests for children, of batches and of pushes."""

from collections.abc import Mapping

from cluster.replay.difference import Difference, NotReplayable
from cluster.replay.record import Record
from cluster.replay.shard_history import Seen
from cluster.search.learning import last_batch_of
from cluster.search.origin import Origin
from cluster.search.replica import client
from controller.searcher import ChildRecord
from ps.shard.order import Applied

Request = tuple[int, tuple[int, ...]]
"""A request for children: its replica and its step."""

Place = tuple[int, int]
"""A batch: its replica and its number."""

Sent = tuple[str, int, str]
"""A push as a shard has recorded it: its client, its sequence and its note."""


def requests_of(record: Record) -> dict[Request, tuple[Origin, list[ChildRecord]]]:
    """Return the requests for children, with what the searcher saw and the children that were recorded.

    Raises:
        Difference: two children of one request were sampled from different things.
    """
    requests: dict[Request, tuple[Origin, list[ChildRecord]]] = {}
    for child_id, child in record.children.items():
        origin = record.origins[child_id]
        known = requests.setdefault((child.replica, origin.step), (origin, []))
        if known[0] != origin:
            raise Difference(
                f"the row of child {child_id} in the ledger has another origin than child {known[1][0].id}, with which"
                " it was sampled"
            )
        known[1].append(child.record)
    return requests


def steps_by_replica(requests: Mapping[Request, object]) -> dict[int, list[tuple[int, ...]]]:
    """Return each replica's steps, in their order."""
    steps: dict[int, list[tuple[int, ...]]] = {}
    for replica, step in requests:
        steps.setdefault(replica, []).append(step)
    return steps


def batches_of(record: Record) -> dict[Place, list[ChildRecord]]:
    """Return the children of each batch; those in none are under number 0."""
    batches: dict[Place, list[ChildRecord]] = {}
    for child in record.children.values():
        batches.setdefault((child.replica, child.batch), []).append(child.record)
    return batches


def sent_of(one: Applied) -> Sent:
    """Return what identifies a push on all shards."""
    return one.client, one.sequence, one.note


def place_of(one: Applied, passes: int) -> Place:
    """Return the batch behind a push, of a replica that makes `passes` for each batch.

    Raises:
        NotReplayable: no replica has sent it.
    """
    return replica_of(one.client), last_batch_of(one.sequence, passes)


def origin_of(name: str, sequence: int, note: str) -> Origin:
    """Return what a push was computed from.

    Raises:
        NotReplayable: its note does not say it.
    """
    try:
        return Origin.from_text(note)
    except ValueError as error:
        raise NotReplayable(
            f"the shards' log says of update {sequence} of {name} what is no origin: {error}"
        ) from error


def seen_of(origin: Origin, index: int) -> Seen:
    """Return the state of a shard that a step was computed from."""
    if len(origin.versions) <= index or len(origin.incarnations) <= index:
        return -1, -1  # no state is this one
    return origin.incarnations[index], origin.versions[index]


def replica_of(name: str) -> int:
    """Return the number of the replica that the shards know by this name.

    Raises:
        NotReplayable: it is no replica's.
    """
    number = name.rpartition("-")[2]
    if not number.isdecimal() or name != client(int(number)):
        raise NotReplayable(f"the shards' log has updates of {name!r}, which is no replica")
    return int(number)
