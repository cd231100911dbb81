"""One controller replica: its parts, and what it shows its searcher. Knows neither Ray nor the clock."""

import random
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from child_trainer.outcome import Outcome
from cluster.search.evaluator import Evaluator
from cluster.search.origin import Origin
from cluster.search.records import Batching, ReplicaLedger
from cluster.search.seeding import derive
from cluster.search.views import ViewChildren
from controller.searcher import ChildRecord, Lane, Searcher, View, passes_of
from ps.store import ParameterStore, Snapshot

T = TypeVar("T")


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
        end_round: called with a batch's number when all of its children have ended, before it is learnt from; `None`
            where nothing waits for that.
        leave_lane: called with the lane of a child that has failed, before that is recorded; `None` where no lane waits
            for another.
        forget_weights: called with the ids of children whose weights are needed no more; `None` where none are kept.
        computing: held while the searcher computes. Threads of one process share a lock: PyTorch lets go of Python's
            own at every operation, and threads that all compute would switch a hundred thousand times a second.
        records_origins: whether the ledger and the shards get what each step was computed from, for a replay.
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
    end_round: Callable[[int], None] | None = None
    leave_lane: Callable[[Lane], None] | None = None
    forget_weights: Callable[[Collection[int]], None] | None = None
    computing: AbstractContextManager[object] = field(default_factory=nullcontext)
    records_origins: bool = False

    @property
    def passes(self) -> int:
        """How many pushes the replica makes for each batch."""
        return passes_of(self.searcher)


def client(index: int) -> str:
    """Return the name by which the shards know a replica."""
    return f"replica-{index}"


def children_of(replica: Replica, completed: int | None = None) -> ViewChildren:
    """Return the children as the replica's searcher sees them now, or when so many had ended, a moment ago."""
    return ViewChildren(replica.ledger, replica.history, completed)


def origin_of_view(snapshot: Snapshot, children: ViewChildren) -> Origin:
    """Return what a view shows of the shards and the children, once the searcher has looked at it."""
    known, unknown = children.known()
    return Origin(
        versions=snapshot.versions,
        incarnations=snapshot.incarnations,
        completed=children.completed,
        known=known,
        unknown=unknown,
    )


def view_of(replica: Replica, snapshot: Snapshot, children: ViewChildren, step: str, *place: int) -> View:
    """Return what the searcher may use in this step; the step's name and place give the seed of its draws."""
    return View(
        parameters=snapshot.values,
        completed=children.completed,
        history=children.history,
        pending=children.pending,
        rng=random.Random(derive(replica.seed, step, replica.index, *place)),
    )
