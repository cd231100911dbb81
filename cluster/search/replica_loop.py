"""The loop of one controller replica (Zoph & Le 2017, section 3.2, figure 3). Knows neither Ray nor the clock.

A replica keeps no state: what it sampled is in the ledger before it is trained, and what it learnt is on the shards
before the ledger says so. A replica that starts after another one died continues with the batch that was left open.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Steps
from cluster.search.evaluator import Assignment, assignment_of
from cluster.search.learning import last_batch_of, learn_from, pull
from cluster.search.needed_weights import unneeded_weights
from cluster.search.records import Batch, Ended, Turn
from cluster.search.replica import Replica, children_of, client, origin_of_view, view_of
from cluster.search.seeding import child_seed
from cluster.search.views import ViewChildren
from controller.searcher import Child, ChildRecord, Proposal, View, is_exclusive
from ps.errors import LostPushes
from ps.store import Snapshot


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The answer of a searcher that was asked for children.

    Attributes:
        proposals: the children to try; none if the searcher waits, or if the search ends.
        view: from which it answered.
        ends: whether the searcher has nothing more to try, whatever the pending children are worth.
        after: the last child that had been sampled before the view, for an exclusive searcher; otherwise `None`.
        origin: what the ledger is to say of the view; empty where nothing is recorded.
    """

    proposals: Sequence[Proposal]
    view: View
    ends: bool
    after: int | None
    origin: str


def replica_loop(replica: Replica) -> Iterator[None]:
    """Pull, ask, record, evaluate, record, learn and push, until the run's limit is reached or the searcher ends.

    Yields after every poll of the evaluator, and while it waits for other replicas or the shards, so that one thread
    can drive many replicas in turn.
    """
    ledger, submitted = replica.ledger, set[int]()
    while True:
        snapshot, pull_seconds = yield from pull(replica)
        # A shard that fell back to an older snapshot has lost pushes: their batches are learnt again, and pushed under
        # the same identity.
        applied = min(snapshot.applied, default=None)
        turn = ledger.turn(replica.index, None if applied is None else applied // replica.passes)
        batch = turn.batch
        if batch is None and replica.batching == "stream":
            if (yield from _stream(replica, snapshot, submitted)):
                continue
            break
        if batch is None:
            batch, again = yield from _sample_batch(replica, snapshot, turn)
            if again:
                continue
        if batch is None:
            break
        children = yield from _ended(replica, batch)
        if replica.end_round is not None:
            yield from replica.call(partial(replica.end_round, batch.number))
        try:
            result = yield from learn_from(replica, batch, children, snapshot, pull_seconds)
        except LostPushes:
            continue  # a shard fell back while the children were trained: the pushes that it lacks come first
        ledger.learned(replica.index, batch.number, result)
    if replica.store:
        replica.store.leave(client(replica.index))


def _next_number(replica: Replica, last_batch: int, snapshot: Snapshot) -> int:
    """Return the number of the replica's next batch."""
    return max(last_batch, last_batch_of(max(snapshot.applied, default=0), replica.passes)) + 1


def _ask(replica: Replica, n: int, snapshot: Snapshot, number: int, *place: int, completed: int | None = None) -> Asked:
    """Ask the searcher for children; `number` and `place` say which of its steps this is.

    `completed` is how many children have ended, if that was just read.
    """
    ledger = replica.ledger
    after = ledger.last_child() if is_exclusive(replica.searcher) else None
    children = children_of(replica, None if is_exclusive(replica.searcher) else completed)
    view = view_of(replica, snapshot, children, "ask", number, *place)
    with replica.computing:
        proposals = replica.searcher.ask(n, view)
    if len(proposals) > n:
        raise ValueError(f"the searcher was asked for at most {n} proposals, and returned {len(proposals)}")
    origin = _origin(replica, snapshot, children, (number, *place), n) if proposals else ""
    # Another replica may have sampled children since the view, or its last pending one may have ended.
    ends = not proposals and not view.pending() and not ledger.pending() and ledger.completed() == view.completed
    return Asked(proposals=proposals, view=view, ends=ends, after=after, origin=origin)


def _origin(replica: Replica, snapshot: Snapshot, children: ViewChildren, step: tuple[int, ...], asked: int) -> str:
    """Return what the ledger is to say of a view from which children were proposed."""
    if not replica.records_origins:
        return ""
    return replace(origin_of_view(snapshot, children), step=step, asked=asked).to_text()


def _wait(replica: Replica, asked: Asked) -> Generator[None, None, None]:
    """Wait until a child has ended since the searcher was asked."""
    while replica.ledger.completed() == asked.view.completed:
        replica.pause()
        yield


def _is_outdated(replica: Replica, asked: Asked) -> bool:
    """Return whether another replica has sampled children since an exclusive searcher was asked."""
    return asked.after is not None and replica.ledger.last_child() != asked.after


def _sample_batch(replica: Replica, snapshot: Snapshot, turn: Turn) -> Generator[None, None, tuple[Batch | None, bool]]:
    """Record a new batch, or wait until the searcher may have one.

    Returns:
        The batch, and whether to try again; neither at the end of the search.
    """
    number = _next_number(replica, turn.last_batch, snapshot)
    asked = _ask(replica, replica.children, snapshot, number, completed=turn.completed)
    if asked.proposals:
        admitted = asked.proposals, snapshot.versions, asked.after, asked.origin
        batch = replica.ledger.admit(replica.index, number, *admitted)
        if batch is not None:
            _forget_weights(replica, asked, batch.children)
        return batch, batch is None and _is_outdated(replica, asked)
    if not asked.ends:
        yield from _wait(replica, asked)
    return None, not asked.ends


def _forget_weights(replica: Replica, asked: Asked, admitted: Sequence[Child]) -> None:
    """Remove the weights that no child begins with any more, after children of this answer were recorded."""
    if replica.forget_weights is not None and (unneeded := unneeded_weights(replica.searcher, asked.view, admitted)):
        with suppress(OSError):  # the next time they are removed with the others
            replica.forget_weights(unneeded)


def _ended(replica: Replica, batch: Batch) -> Generator[None, None, list[ChildRecord]]:
    """Return the batch's children once all of them have ended."""
    ended = {child.id: child.record for child in batch.children if child.outcome is not None}
    left = [child for child in batch.children if child.id not in ended]
    if trained := [child for child in left if child.proposal.same_as is None]:
        replica.evaluator.submit(*(_assignment(replica, child) for child in trained))
    ended |= {child.id: _take_known_outcome(replica, child) for child in left if child.proposal.same_as is not None}
    children = {child.id: child for child in batch.children}
    while len(ended) < len(batch.children):
        ended |= {child.id: child for child in _finish(replica, children, replica.evaluator.completed())}
        yield
    return [ended[child.id] for child in batch.children]


def _finish(
    replica: Replica, children: Mapping[int, Child], outcomes: Sequence[tuple[int, Outcome]]
) -> Sequence[ChildRecord]:
    """Record outcomes with their rewards, in their order; steps on shared weights, even failed ones, earn none."""
    if replica.leave_lane is not None:
        for child_id, outcome in outcomes:
            lane = children[child_id].lane
            if outcome.failure and lane is not None:  # its worker keeps the lease of the lane, which stands still
                replica.leave_lane(lane)
    ended = [
        Ended(
            child_id, outcome, None if isinstance(children[child_id].proposal.job, Steps) else replica.reward(outcome)
        )
        for child_id, outcome in outcomes
    ]
    return replica.ledger.finish_all(ended) if ended else ()


def _take_known_outcome(replica: Replica, child: Child) -> ChildRecord:
    """Record the outcome of the child whose architecture this one repeats; its training takes no time."""
    known = next((other for other in reversed(replica.history()) if other.id == child.proposal.same_as), None)
    if known is None or known.outcome is None or known.architecture_id != child.proposal.architecture_id:
        raise ValueError(
            f"the searcher gives child {child.id} the outcome of child {child.proposal.same_as}, "
            + ("which has not ended" if known is None else "which has another architecture")
        )
    (record,) = _finish(replica, {child.id: child}, [(child.id, replace(known.outcome, seconds=0.0))])
    return record


def _stream(replica: Replica, snapshot: Snapshot, submitted: set[int]) -> Generator[None, None, bool]:
    """Make one step of a stream: form a batch of children that have ended, or else train until more have.

    Args:
        replica: has no batch to learn from.
        snapshot: the parameters that new children are sampled from.
        submitted: the ids of the children that its evaluator has; this step adds the ones that it submits.

    Returns:
        False at the end of the search, when there are no children left.
    """
    ledger = replica.ledger
    stream = ledger.stream(replica.index)
    number = _next_number(replica, stream.last_batch, snapshot)
    asked = None
    if missing := 0 if stream.is_due(replica.children) else stream.missing(replica.children):
        # The first proposals after a batch use the seed of barrier mode, so that both modes sample the same children.
        before = stream.unbatched
        place = (before,) if before else ()
        asked = _ask(replica, missing, snapshot, number, *place)
        if asked.proposals:
            added = asked.proposals, snapshot.versions, asked.after, asked.origin
            stream = ledger.add_children(replica.index, number, before, *added)
            if _is_outdated(replica, asked) and stream.unbatched == before:
                return True
            _forget_weights(replica, asked, stream.outstanding)
    if stream.is_due(replica.children) or (asked and asked.ends and stream.ended):
        ledger.form_batch(replica.index, number, replica.children)
        yield  # the caller may make the batch durable only now, and it must be durable before the push
        return True
    if stream.outstanding:
        yield from _train_until_one_ends(replica, stream.outstanding, submitted)
        return True
    if asked is None or asked.ends:
        return False
    if asked.proposals:  # other replicas have sampled the run's last children
        return stream.ended > 0
    yield from _wait(replica, asked)
    return True


def _train_until_one_ends(
    replica: Replica, outstanding: Sequence[Child], submitted: set[int]
) -> Generator[None, None, None]:
    """Submit the children that the evaluator does not have, and record outcomes until at least one has ended."""
    repeated = [child for child in outstanding if child.proposal.same_as is not None]
    for child in repeated:
        _take_known_outcome(replica, child)
    if begin := [child for child in outstanding if child.proposal.same_as is None and child.id not in submitted]:
        submitted.update(child.id for child in begin)
        replica.evaluator.submit(*(_assignment(replica, child) for child in begin))
    children = {child.id: child for child in outstanding}
    ended = bool(repeated)
    while not ended:
        for record in _finish(replica, children, replica.evaluator.completed()):
            submitted.discard(record.id)
            ended = True
        yield


def _assignment(replica: Replica, child: Child) -> Assignment:
    return assignment_of(child, child_seed(replica.seed, child.id))
