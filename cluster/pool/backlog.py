"""The children that were requested or are in training, and the queue of those that wait for a worker.

Part of the pool. What follows an attempt is decided by `cluster.pool.failure_policy.next_attempt`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from child_trainer.outcome import Outcome
from cluster.pool.failure_policy import (
    AttemptHistory,
    FailurePolicy,
    Settled,
    Train,
    attempt_history,
    may_be_fused,
    next_attempt,
)
from cluster.pool.lack_of_memory import memory_lacked_in
from cluster.pool.new_children import NewChildren
from cluster.pool.protocol import PoolLedger, TrainingOrder
from cluster.pool.seed_groups import seed_groups
from cluster.pool.supervision import Begin, Waiting
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, AttemptEnd, Verdict, fused_key


@dataclass(slots=True)
class _Child:
    """A child that has no outcome yet.

    Attributes:
        seed: the child's.
        result: a future for its outcome.
        history: its earlier attempts.
        assignment: `None` until a caller of this pool has requested the child.
        next: its next attempt, while it waits for a worker.
        key: of its attempt, until that has ended.
        avoid: the slots at which it has failed.
        out: whether a worker has it.
    """

    seed: int
    result: asyncio.Future[Outcome]
    history: AttemptHistory = field(default_factory=AttemptHistory)
    assignment: Assignment | None = None
    next: Train | None = None
    key: str | None = None
    avoid: set[int] = field(default_factory=set)
    out: bool = False

    def accept(self, assignment: Assignment) -> bool:
        """Take the assignment of a child that has none; return whether it had none."""
        is_new, self.assignment = self.assignment is None, self.assignment or assignment
        return is_new

    def load(self, attempts: Sequence[Attempt]) -> None:
        """Replace its history by the attempts in the ledger."""
        self.history = attempt_history(attempts)
        self.avoid = {a.slot for a in attempts if a.cause and memory_lacked_in(a) is None}


class Backlog:
    """Accepts children, hands them out, and records in the ledger what an attempt gave before it acts on it.

    Only an outcome without a failure goes to its caller before, see `conclude`.

    Args:
        ledger: records what each attempt gave.
        policy: what follows a failure.
        batch_size: the budget's.
        on_waiting: called when children wait for a worker.
        on_settled: called with the id of a child that has its outcome.
        on_trained: called with each attempt that has given an outcome without a failure, and the outcome.
        fuse_seeds: seeds of one architecture that are trained as one network, at most.
    """

    def __init__(
        self,
        ledger: PoolLedger,
        policy: FailurePolicy,
        batch_size: int,
        *,
        on_waiting: Callable[[], None],
        on_settled: Callable[[int], None],
        on_trained: Callable[[Attempt, Outcome], None] = lambda attempt, outcome: None,
        fuse_seeds: int = 1,
    ) -> None:
        self._fuse_seeds = fuse_seeds
        self._unfused: set[str] = set()  # the digests of architectures whose seeds must each be trained alone
        self._ledger, self._policy, self._batch_size = ledger, policy, batch_size
        self._on_trained = on_trained
        self._on_waiting, self._on_settled = on_waiting, on_settled
        self._children: dict[int, _Child] = {}
        self.waiting: dict[int, Waiting] = {}
        """The children that wait for a worker, in the order in which they came."""
        self._isolated: int | None = None  # the one isolated child that waits or is in training, see the policy
        self._held: deque[int] = deque()  # the other isolated children, which wait for that one
        self.settling = 0
        """Attempts whose end is being recorded."""
        self.new: NewChildren | None = None
        """Tells new children, once the pool knows which are; `None`: any child may have been trained before."""

    async def request(self, assignments: Sequence[Assignment]) -> list[asyncio.Future[Outcome]]:
        """Return the children's outcomes to come; those that are not known yet are accepted, all of them together.

        The caller must not cancel them: others, and its own successor, may request the same child.
        """
        children = [self._child(one.child_id, one.seed) for one in assignments]
        accepted = [
            (one.child_id, child) for one, child in zip(assignments, children, strict=True) if child.accept(one)
        ]
        known = {child_id: () for child_id, _ in accepted if self.new is not None and self.new.take(child_id)}
        asked = [child_id for child_id, _ in accepted if child_id not in known]
        if asked:
            found = await asyncio.gather(*(self._ledger.attempts(child_id) for child_id in asked))
            known |= dict(zip(asked, found, strict=True))
        self._announce([self._admit(child_id, child, known[child_id]) for child_id, child in accepted])
        return [child.result for child in children]

    def requested(self, child_id: int) -> asyncio.Future[Outcome] | None:
        """Return the outcome to come of a child that was requested from this pool; `None` for every other."""
        child = self._children.get(child_id)
        return child.result if child and child.assignment else None

    async def resume(self, attempts: Sequence[Attempt]) -> None:
        """Accept the children that an earlier pool has handed to a worker, which may still have them."""
        for attempt in attempts:
            child = self._child(attempt.child_id, attempt.seed)
            child.load(await self._ledger.attempts(attempt.child_id))
            child.out, child.key = True, attempt.key
            if child.history.isolated:
                self._isolated = attempt.child_id

    def groups(self) -> dict[int, Waiting]:
        """Return the children that wait, those that are to be trained as one together, in the order of the queue."""
        if self._fuse_seeds == 1:
            return self.waiting
        fusable = [assignment for child_id in self.waiting if (assignment := self._fusable(child_id)) is not None]
        group_of: dict[int, list[int]] = {}
        for group in seed_groups(fusable, self._fuse_seeds):
            children = [one.child_id for one in group]
            group_of |= dict.fromkeys(children, children)
        groups: dict[int, Waiting] = {}
        for child_id, waiting in self.waiting.items():
            group = group_of.get(child_id, [child_id])
            if group[0] not in groups:
                groups[group[0]] = self._as_one(group) if len(group) > 1 else waiting
        return groups

    def train_alone(self, assignment: Assignment) -> None:
        """Train all children of this one's architecture alone from now on."""
        if assignment.architecture is not None:
            self._unfused.add(assignment.architecture.digest)

    def hand_out(self, begin: Begin, key: str, place: str) -> TrainingOrder:
        """Take the waiting children from the queue, for the attempts of the order `key` by the process at `place`."""
        assignments: list[Assignment] = []
        batch_size = None
        for number, child_id in enumerate((begin.child_id, *begin.others)):
            del self.waiting[child_id]
            child = self._children[child_id]
            assert child.assignment is not None
            assert child.next is not None
            child.out, child.key, batch_size = True, fused_key(key, number), child.next.batch_size
            assignments.append(child.assignment)
        return TrainingOrder(
            key=key,
            place=place,
            assignment=assignments[0],
            batch_size=batch_size,
            gpu=begin.gpu,
            gpu_limit_bytes=begin.gpu_limit_bytes,
            others=tuple(assignments[1:]),
        )

    async def conclude(
        self, attempts: Sequence[Attempt], outcomes: Sequence[Outcome], *, preempt_requested: bool = False
    ) -> None:
        """Record what an attempt gave, or several that were made as one, and act on it.

        A second outcome of the same attempt changes nothing. The ends of all are recorded before any child is trained
        again: so those that are given back together wait together.

        The first outcome without a failure is the child's, and goes to its caller at once: who learns from it records
        it before, which ends the attempt as well. The worker keeps it until it is recorded here or there.

        Args:
            attempts: which.
            outcomes: what each gave.
            preempt_requested: the pool itself requested the preemption, see `next_attempt`.
        """
        self.settling += 1
        try:
            steps = [
                self._next_step(attempt, outcome, preempt_requested=preempt_requested)
                for attempt, outcome in zip(attempts, outcomes, strict=True)
            ]
            ends = [
                AttemptEnd(attempt.key, outcome, step.verdict)
                for attempt, outcome, step in zip(attempts, outcomes, steps, strict=True)
            ]
            is_sure = self._hand_on(attempts, outcomes, steps)
            first = await self._ledger.end(ends, can_wait=is_sure and not self.waiting)
            self._announce(
                [
                    self._act(attempt, outcome, step)
                    for attempt, outcome, step, is_first in zip(attempts, outcomes, steps, first, strict=True)
                    if is_first or is_sure
                ]
            )
        finally:
            self.settling -= 1

    async def void(self, attempts: Sequence[Attempt], verdict: Verdict = Verdict.NOT_STARTED) -> None:
        """Record that attempts never started, or that their end is unknown (`LOST`); the children get others."""
        self.settling += 1
        for attempt in attempts:
            self._has_ended(attempt)
        try:
            first = await self._ledger.end([AttemptEnd(attempt.key, None, verdict) for attempt in attempts])
            again = [attempt for attempt, is_first in zip(attempts, first, strict=True) if is_first]
            self._announce([self._requeue(one.child_id, self._child(one.child_id, one.seed)) for one in again])
        finally:
            self.settling -= 1

    def _has_ended(self, attempt: Attempt) -> bool:
        """Note the end of an attempt; return whether it is the one that this pool waits for."""
        child = self._children.get(attempt.child_id)
        if child is None or child.key != attempt.key:
            return False
        child.key = None
        return True

    def _hand_on(
        self, attempts: Sequence[Attempt], outcomes: Sequence[Outcome], steps: Sequence[Train | Settled]
    ) -> bool:
        """Give a child its outcome before the record, if it is sure to be the child's; return whether it was.

        Attempts that were made as one share their time, which is recorded before anybody sees it.
        """
        awaited = [self._has_ended(attempt) for attempt in attempts]
        if awaited != [True] or outcomes[0].failure is not None or not isinstance(steps[0], Settled):
            return False
        result = self._children[attempts[0].child_id].result
        if not result.done():
            result.set_result(outcomes[0])
        return True

    def _next_step(self, attempt: Attempt, outcome: Outcome, *, preempt_requested: bool) -> Train | Settled:
        known = self._children.get(attempt.child_id)
        return next_attempt(
            self._policy,
            known.history if known else AttemptHistory(),
            outcome,
            preempt_requested=preempt_requested,
            gpu_share=attempt.gpu and attempt.gpu.share,
            batch_size=self._batch_size,
            seed=attempt.seed,
        )

    def _act(self, attempt: Attempt, outcome: Outcome, step: Train | Settled) -> bool:
        """Settle the child or put it into the queue again; return whether any child has come into the queue."""
        child = self._child(attempt.child_id, attempt.seed)
        if isinstance(step, Settled):
            if outcome.failure is None:
                self._on_trained(attempt, outcome)
            return self._settle(attempt.child_id, child, step.outcome)
        before, child.history = child.history, child.history.after_failure(outcome, attempt.gpu and attempt.gpu.share)
        if child.history.retried != before.retried:
            child.avoid.add(attempt.slot)
        released = self._release_isolated(attempt.child_id)
        return self._requeue(attempt.child_id, child) or released

    def _announce(self, queued: Sequence[bool]) -> None:
        if any(queued):
            self._on_waiting()
            self._ledger.hasten()  # a worker may be free once the end of its last attempt is recorded

    def _fusable(self, child_id: int) -> Assignment | None:
        """Return a waiting child if it may be trained as one network with others."""
        child = self._children[child_id]
        assignment, network = child.assignment, child.assignment and child.assignment.architecture
        if child.next is None or not may_be_fused(child.next, child.history):
            return None
        return None if network is not None and network.digest in self._unfused else assignment

    def _as_one(self, children: Sequence[int]) -> Waiting:
        """Return what the pool sees of waiting children that are to be trained as one."""
        each = [self.waiting[child_id] for child_id in children]
        sizes = [one.gpu_bytes for one in each if one.gpu_bytes is not None]
        return replace(
            each[0],
            others=tuple(children[1:]),
            avoid=frozenset().union(*(one.avoid for one in each)),
            gpu_bytes=sum(sizes) if len(sizes) == len(each) else None,
        )

    def _admit(self, child_id: int, child: _Child, attempts: Sequence[Attempt]) -> bool:
        if child.result.done() or child.out or child_id in self.waiting or child_id in self._held:
            return False  # settled or queued while the ledger answered
        child.load(attempts)
        return self._queue(child_id, child)

    def _child(self, child_id: int, seed: int) -> _Child:
        if child_id not in self._children:
            self._children[child_id] = _Child(seed, asyncio.get_running_loop().create_future())
        return self._children[child_id]

    def _queue(self, child_id: int, child: _Child) -> bool:
        """Put the child into the queue for its next attempt, or settle it if it gets none.

        Returns:
            Whether any child has come into the queue.
        """
        step = next_attempt(self._policy, child.history, batch_size=self._batch_size, seed=child.seed)
        if isinstance(step, Settled):
            return self._settle(child_id, child, step.outcome)
        child.next = step
        if child.history.isolated:
            if self._isolated not in (None, child_id):
                self._held.append(child_id)
                return False
            self._isolated = child_id
        self.waiting[child_id] = Waiting(
            child_id=child_id,
            avoid=frozenset(child.avoid),
            gpu_bytes=child.assignment and child.assignment.gpu_bytes,
            out_of_memory_at=child.history.out_of_memory_at,
        )
        return True

    def _release_isolated(self, child_id: int) -> bool:
        """Queue the next isolated child if this is the one in training; an attempt at it has ended normally."""
        if self._isolated == child_id:
            self._isolated = None
            if self._held:
                following = self._held.popleft()
                return self._queue(following, self._children[following])
        return False

    def _requeue(self, child_id: int, child: _Child) -> bool:
        child.out = False
        # Without an assignment the caller that requests it brings one.
        return child.assignment is not None and self._queue(child_id, child)

    def _settle(self, child_id: int, child: _Child, outcome: Outcome) -> bool:
        """Give the child its outcome; return whether another one has come into the queue."""
        child.out = False
        if not child.result.done():
            child.result.set_result(outcome)
        del self._children[child_id]  # from now on the ledger knows
        released = self._release_isolated(child_id)
        self._on_settled(child_id)
        return released
