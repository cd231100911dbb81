"""The loop of one controller replica (Zoph & Le 2017, section 3.2, figure 3). Knows neither Ray nor the clock.

A replica owns nothing: what it sampled is in the ledger before it is trained, what it learnt is on the shards
before the ledger says so. One that starts after another died goes on from the batch that was left open.
"""

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from child_trainer.outcome import Outcome
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.records import Batch, Batching, Lesson, ReplicaLedger
from cluster.search.seeding import child_seed, derive
from controller.searcher import Child, ChildRecord, Searcher, Update, View
from ps.errors import LostPushes, TooFarAhead
from ps.store import ParameterStore, Push, Snapshot

T = TypeVar("T")

NOTHING = Snapshot(values={}, versions=(), incarnations=(), applied=())
"""What is pulled where the searcher keeps nothing on shards."""


class Calls(Protocol):
    """How a replica reaches the shards."""

    def __call__(self, request: Callable[[], T], /) -> Generator[None, None, T]:
        """What the request gives or raises; yields while it waits for that."""
        ...


def at_once(request: Callable[[], T]) -> Generator[None, None, T]:
    """The call that waits for its answer, and lets nothing else be done meanwhile."""
    yield from ()
    return request()


@dataclass(frozen=True, kw_only=True)
class Replica:
    """The parts that a replica works with.

    Attributes:
        index: which replica of the run this is.
        children: how many children it samples for each gradient (m).
        batching: `barrier`: it samples m, and waits for all of them before it learns (the paper). `stream`: it keeps m
            in training, and learns from each m that have ended, whichever they are.
        seed: the run's root seed.
        searcher: what decides and learns.
        reward: from outcome to reward; `None` keeps a child from the searcher.
        store: where the searcher's parameters live, or `None` if it has none.
        evaluator: what trains children.
        ledger: the run's record.
        history: the ended children of that, in completion order.
        pause: called while the replica must wait for others.
        clock: seconds, never going back; it only tells how long pulls and pushes take.
        call: how it reaches the shards.
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
    call: Calls = at_once


def replica_loop(replica: Replica) -> Iterator[None]:
    """Pull, ask, record, evaluate, record, learn, push, until the run's limit is reached.

    Yields after every look at the evaluator, and while it waits for others or the shards, so that one thread can drive
    many replicas in turn.
    """
    ledger, submitted = replica.ledger, set[int]()
    while True:
        snapshot, pull_seconds = yield from _pull(replica)
        # A shard that fell back to an older snapshot has lost pushes: they are learnt again, under the same identity.
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
        lesson = Lesson(staleness=None, figures=update.figures, pull_seconds=pull_seconds)
        try:
            lesson = yield from _push(replica, batch, update, snapshot.applied, lesson)
        except LostPushes:
            continue  # a shard fell back while the children were trained: what it lacks comes first
        ledger.learned(replica.index, batch.number, lesson)
    if replica.store:
        replica.store.leave(client(replica.index))


def _ended(replica: Replica, batch: Batch) -> Generator[None, None, list[ChildRecord]]:
    """The batch's children, once all of them have ended."""
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
    """One step of a stream: record a batch of children that have ended, or else train until some more have.

    Args:
        replica: whose; it has no batch to learn from.
        snapshot: what new children are sampled from.
        submitted: the children that its evaluator has been given; this step's are added.

    Returns:
        false at the end of the search, when there are no children left.
    """
    ledger, evaluator = replica.ledger, replica.evaluator
    stream = ledger.stream(replica.index)
    number = max(stream.last_batch, *snapshot.applied, 0) + 1
    if stream.is_due(replica.children):
        ledger.gather(replica.index, number, replica.children)
        yield  # whoever drives this may make what was recorded durable only now, and it must be before the push
        return True
    if wanted := stream.wanted(replica.children):
        # What is asked first after a batch is asked as it is where children wait for each other.
        place = (stream.loose,) if stream.loose else ()
        proposals = replica.searcher.ask(wanted, _view(replica, snapshot, "ask", number, *place))
        stream = ledger.extend(replica.index, number, stream.loose, proposals, snapshot.versions)
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
    return stream.loose > 0


def _pull(replica: Replica) -> Generator[None, None, tuple[Snapshot, float | None]]:
    """The parameters, as soon as the store's consistency lets this replica go on, and the seconds that they took."""
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
    """What the batch teaches; children without a reward are kept from the searcher."""
    known = [child for child in children if child.reward is not None]
    if not known:
        return Update(gradients={}, figures={})
    return replica.searcher.learn(known, _view(replica, snapshot, "learn", number))


def _assignment(replica: Replica, child: Child) -> Assignment:
    seed = child_seed(replica.seed, child.id)
    return Assignment(child_id=child.id, architecture=child.proposal.architecture, seed=seed)


def client(index: int) -> str:
    """The name by which the shards know a replica."""
    return f"replica-{index}"


def _push(
    replica: Replica, batch: Batch, update: Update, applied: tuple[int, ...], lesson: Lesson
) -> Generator[None, None, Lesson]:
    """Push under an identity that is the same after a restart, so that a shard takes it only once; what came of it.

    An update without gradients is pushed, too: others may wait for this replica to have done its part.
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
        return lesson
    begun = replica.clock()
    ack = yield from replica.call(lambda: store.push(push))
    return replace(lesson, staleness=ack.staleness, push_seconds=replica.clock() - begun)


def _view(replica: Replica, snapshot: Snapshot, step: str, *place: int) -> View:
    return View(
        parameters=snapshot.values,
        completed=replica.ledger.completed(),
        history=replica.history,
        pending=replica.ledger.pending,
        rng=random.Random(derive(replica.seed, step, replica.index, *place)),
    )
