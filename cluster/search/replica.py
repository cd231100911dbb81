"""The loop of one controller replica (Zoph & Le 2017, section 3.2, figure 3). Knows neither Ray nor the clock.

A replica keeps no state: what it sampled is in the ledger before it is trained, and what it learnt is on the shards
before the ledger says so. A replica that starts after another one died continues with the batch that was left open.
"""

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from child_trainer.outcome import Outcome
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.records import Batch, Batching, BatchResult, ReplicaLedger
from cluster.search.seeding import child_seed, derive
from controller.searcher import Child, ChildRecord, Searcher, Update, View
from ps.errors import LostPushes, TooFarAhead
from ps.store import ParameterStore, Push, Snapshot

T = TypeVar("T")

NOTHING = Snapshot(values={}, versions=(), incarnations=(), applied=())
"""The snapshot of a searcher that keeps nothing on shards."""


class Calls(Protocol):
    """Makes a replica's calls to the shards."""

    def __call__(self, request: Callable[[], T], /) -> Generator[None, None, T]:
        """Return what the request returns, or raise what it raises; yield while waiting for it."""
        ...


def blocking(request: Callable[[], T]) -> Generator[None, None, T]:
    """Make the request and wait for its answer."""
    yield from ()
    return request()


@dataclass(frozen=True, kw_only=True)
class Replica:
    """The parts of one replica.

    Attributes:
        index: which replica of the run this is.
        children: how many children it samples for each gradient (m).
        batching: `barrier` samples m, and waits for all of them before it learns (the paper). `stream` keeps m in
            training, and learns from any m that have ended.
        seed: the run's root seed.
        searcher: decides and learns.
        reward: from outcome to reward; the searcher does not see a child whose reward is `None`.
        store: where the searcher's parameters live, or `None` if it has none.
        evaluator: trains children.
        ledger: the run's record.
        history: returns the ended children in completion order.
        pause: called while the replica must wait for others.
        clock: monotonic seconds; measures how long pulls and pushes take.
        call: makes the calls to the shards.
    """

    index: int
    children: int
    batching: Batching
    seed: int
    searcher: Searcher
    reward: Callable[[Outcome], float | None]
    store: ParameterStore | None
    evaluator: Evaluator
    ledger: ReplicaLedger
    history: Callable[[], Sequence[ChildRecord]]
    pause: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    call: Calls = blocking


def replica_loop(replica: Replica) -> Iterator[None]:
    """Pull, ask, record, evaluate, record, learn and push, until the run's limit is reached.

    Yields after every poll of the evaluator, and while it waits for other replicas or the shards, so that one thread
    can drive many replicas in turn.
    """
    ledger, submitted = replica.ledger, set[int]()
    while True:
        snapshot, pull_seconds = yield from _pull(replica)
        # A shard that fell back to an older snapshot has lost pushes: their batches are learnt again, and pushed under
        # the same identity.
        batch = ledger.open_batch(replica.index, min(snapshot.applied, default=None))
        if batch is None and replica.batching == "stream":
            if (yield from _stream(replica, snapshot, submitted)):
                continue
            break
        if batch is None:
            number = max(ledger.last_batch(replica.index), *snapshot.applied, 0) + 1
            proposals = replica.searcher.ask(replica.children, _view(replica, snapshot, "ask", number))
            batch = ledger.admit(replica.index, number, proposals, snapshot.versions)
        if batch is None:
            break
        children = yield from _ended(replica, batch)
        update = _learn(replica, children, snapshot, batch.number)
        result = BatchResult(staleness=None, figures=update.figures, pull_seconds=pull_seconds)
        try:
            result = yield from _push(replica, batch, update, snapshot.applied, result)
        except LostPushes:
            continue  # a shard fell back while the children were trained: the pushes that it lacks come first
        ledger.learned(replica.index, batch.number, result)
    if replica.store:
        replica.store.leave(client(replica.index))


def _ended(replica: Replica, batch: Batch) -> Generator[None, None, list[ChildRecord]]:
    """Return the batch's children once all of them have ended."""
    ended = {child.id: child.record for child in batch.children if child.outcome is not None}
    for child in batch.children:
        if child.id not in ended:
            replica.evaluator.submit(_assignment(replica, child))
    while len(ended) < len(batch.children):
        for child_id, outcome in replica.evaluator.completed():
            ended[child_id] = replica.ledger.finish(child_id, outcome, replica.reward(outcome))
        yield
    return [ended[child.id] for child in batch.children]


def _stream(replica: Replica, snapshot: Snapshot, submitted: set[int]) -> Generator[None, None, bool]:
    """Make one step of a stream: form a batch of children that have ended, or else train until more have.

    Args:
        replica: has no batch to learn from.
        snapshot: the parameters that new children are sampled from.
        submitted: the ids of the children that its evaluator has; this step adds the ones that it submits.

    Returns:
        False at the end of the search, when there are no children left.
    """
    ledger, evaluator = replica.ledger, replica.evaluator
    stream = ledger.stream(replica.index)
    number = max(stream.last_batch, *snapshot.applied, 0) + 1
    if stream.is_due(replica.children):
        ledger.form_batch(replica.index, number, replica.children)
        yield  # the caller may make the batch durable only now, and it must be durable before the push
        return True
    if missing := stream.missing(replica.children):
        # The first proposals after a batch use the seed of barrier mode, so that both modes sample the same children.
        place = (stream.unbatched,) if stream.unbatched else ()
        proposals = replica.searcher.ask(missing, _view(replica, snapshot, "ask", number, *place))
        stream = ledger.add_children(replica.index, number, stream.unbatched, proposals, snapshot.versions)
    for child in stream.outstanding:
        if child.id not in submitted:
            submitted.add(child.id)
            evaluator.submit(_assignment(replica, child))
    ended = not stream.outstanding
    while not ended:
        for child_id, outcome in evaluator.completed():
            ledger.finish(child_id, outcome, replica.reward(outcome))
            submitted.discard(child_id)
            ended = True
        yield
    return stream.unbatched > 0


def _pull(replica: Replica) -> Generator[None, None, tuple[Snapshot, float | None]]:
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


def _learn(replica: Replica, children: Sequence[ChildRecord], snapshot: Snapshot, number: int) -> Update:
    """Learn from the children of a batch that have a reward; the searcher does not see the others."""
    rewarded = [child for child in children if child.reward is not None]
    if not rewarded:
        return Update(gradients={}, figures={})
    return replica.searcher.learn(rewarded, _view(replica, snapshot, "learn", number))


def _assignment(replica: Replica, child: Child) -> Assignment:
    seed = child_seed(replica.seed, child.id)
    return Assignment(child_id=child.id, architecture=child.proposal.architecture, seed=seed)


def client(index: int) -> str:
    """Return the name by which the shards know a replica."""
    return f"replica-{index}"


def _push(
    replica: Replica, batch: Batch, update: Update, applied: tuple[int, ...], result: BatchResult
) -> Generator[None, None, BatchResult]:
    """Push an update, and return the batch's result with the staleness and the seconds of the push.

    The push has the same identity after a restart, so that a shard applies it only once. An update without gradients
    is pushed, too: other replicas may wait for this one.
    """
    push = Push(
        client=client(replica.index),
        sequence=batch.number,
        gradients=update.gradients,
        versions=batch.versions,
        applied=applied,
    )
    store = replica.store
    if store is None:
        return result
    begun = replica.clock()
    ack = yield from replica.call(lambda: store.push(push))
    return replace(result, staleness=ack.staleness, push_seconds=replica.clock() - begun)


def _view(replica: Replica, snapshot: Snapshot, step: str, *place: int) -> View:
    return View(
        parameters=snapshot.values,
        completed=replica.ledger.completed(),
        history=replica.history,
        pending=replica.ledger.pending,
        rng=random.Random(derive(replica.seed, step, replica.index, *place)),
    )
