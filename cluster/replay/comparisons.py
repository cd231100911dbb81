"""Compares what a replay has computed with what the run has recorded."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import torch

from cluster.replay.difference import Difference
from cluster.replay.lookups import Place
from cluster.replay.record import Record
from controller.searcher import ChildRecord, Proposal
from ps.shard.messages import ShardState


def compare_sample(child: ChildRecord, proposal: Proposal) -> None:
    """Compare a child with what its searcher proposes again.

    Raises:
        Difference: they differ.
    """
    recorded = {
        "tokens": child.tokens,
        "architecture": child.architecture_id,
        "log-probability": child.log_prob,
        "notes": dict(child.notes),
        "outcome of": child.same_as,
        "job": child.job,
    }
    sampled = {
        "tokens": proposal.tokens,
        "architecture": proposal.architecture_id,
        "log-probability": proposal.log_prob,
        "notes": dict(proposal.notes),
        "outcome of": proposal.same_as,
        "job": proposal.job,
    }
    for what, value in recorded.items():
        if value != sampled[what]:
            raise Difference(
                f"the row of child {child.id} in the ledger has the {what} {_shown(value)}, and the searcher samples"
                f" {_shown(sampled[what])}"
            )


def compare_states(index: int, replayed: ShardState, recorded: ShardState) -> None:
    """Compare a shard's state with that in its snapshot.

    Raises:
        Difference: they differ.
    """
    for what in ("version", "clients", "pushes", "dropped"):
        found, expected = replayed.metadata.get(what, 0), recorded.metadata.get(what, 0)
        if found != expected:
            raise Difference(f"the snapshot of shard {index} has the {what} {expected}, and the replay {found}")
    if set(replayed.tensors) != set(recorded.tensors):
        raise Difference(f"the snapshot of shard {index} has other tensors than the replay")
    for name, tensor in recorded.tensors.items():
        if not torch.equal(replayed.tensors[name], tensor.reshape(-1)):
            place = int((replayed.tensors[name] != tensor.reshape(-1)).nonzero()[0])
            raise Difference(
                f"the snapshot of shard {index} has {tensor.reshape(-1)[place].item()!r} at element {place} of {name},"
                f" and the replay {replayed.tensors[name][place].item()!r}"
            )


def compare_staleness(
    record: Record, replayed: Mapping[Place, Sequence[AbstractSet[int]]], *, sent_again: bool
) -> None:
    """Compare each batch's staleness with that of its push.

    A push that was sent again because one shard had lost it has, on the others, the staleness of the replica's
    newest one.

    Args:
        record: of the run.
        replayed: the staleness of each batch's pushes, by shard.
        sent_again: whether there were such pushes.

    Raises:
        Difference: at the first batch whose staleness is another one.
    """
    for (replica, number), batch in record.batches.items():
        for index, staleness in enumerate(batch.staleness):
            found = {
                one
                for (other, later), by_shard in replayed.items()
                if other == replica and (later == number or (sent_again and later > number))
                for one in by_shard[index]
            }
            if staleness not in found:
                raise Difference(
                    f"the row of batch {number} of replica {replica} in the ledger has the staleness {staleness} on"
                    f" shard {index}, and it was {' or '.join(map(str, sorted(found))) or 'none'}"
                )


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else text[:200] + " ..."
