"""The children that were requested or are in training, and the queue of those that wait for a worker.

Part of the pool. What follows an attempt is decided by `cluster.pool.failure_policy.next_attempt`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from child_trainer.outcome import Outcome
from cluster.pool.failure_policy import (
    AttemptHistory,
    FailurePolicy,
    Settled,
    Train,
    attempt_history,
    needs_larger_share,
    next_attempt,
)
from cluster.pool.protocol import PoolLedger, TrainingOrder
from cluster.pool.supervision import Begin, Waiting
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, Verdict

MAX_NEW = 20_000
"""How many of the newest children are remembered as no longer new: more than can be in training."""


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

    def load(self, attempts: Sequence[Attempt]) -> None:
        """Replace its history by the attempts in the ledger."""
        self.history = attempt_history(attempts)
        failed = [attempt for attempt in attempts if attempt.cause]
        self.avoid = {
            a.slot for a in failed if a.cause and not needs_larger_share(a.cause, a.gpu.share if a.gpu else None)
        }


class NewChildren:
    """Tells which children nobody can have attempted: those sampled since this pool started that it gets anew.

    It remembers the newest of them only; of any other child the ledger is asked for its attempts.

    Args:
        last: the child that had been sampled last when the pool started; there is no other pool since then.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._taken: set[int] = set()

    def take(self, child_id: int) -> bool:
        """Return whether the child is one of them, which it is once."""
        if child_id <= self._last or child_id in self._taken:
            return False
        self._taken.add(child_id)
        if len(self._taken) > MAX_NEW:
            self._last = sorted(self._taken)[MAX_NEW // 2]
            self._taken = {taken for taken in self._taken if taken > self._last}
        return True


class Backlog:
    """Accepts children, hands them out, and records in the ledger what an attempt gave before it acts on it.

    Only an outcome without a failure goes to its caller before, see `conclude`.

    Args:
        ledger: records what each attempt gave.
        policy: what follows a failure.
        batch_size: the budget's.
        on_waiting: called when a child waits for a worker.
        on_settled: called with the id of a child that has its outcome.
        on_trained: called with each attempt that has given an outcome without a failure, and the outcome.
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
    ) -> None:
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

    async def request(self, assignment: Assignment) -> asyncio.Future[Outcome]:
        """Return the child's outcome to come; a child that is not known yet is accepted.

        The caller must not cancel it: others, and its own successor, may request the same child.
        """
        child = self._child(assignment.child_id, assignment.seed)
        if child.assignment is None:
            child.assignment = assignment
            await self._admit(assignment.child_id, child)
        return child.result

    def requested(self, child_id: int) -> asyncio.Future[Outcome] | None:
        """Return the outcome to come of a child that was requested from this pool; `None` for every other."""
        child = self._children.get(child_id)
        return child.result if child and child.assignment else None

    async def resume(self, attempt: Attempt) -> None:
        """Accept a child that an earlier pool has handed to a worker, which may still have it."""
        child = self._child(attempt.child_id, attempt.seed)
        child.load(await self._ledger.attempts(attempt.child_id))
        child.out, child.key = True, attempt.key
        if child.history.isolated:
            self._isolated = attempt.child_id

    def hand_out(self, begin: Begin, key: str, place: str) -> TrainingOrder:
        """Take a waiting child from the queue, for the attempt `key` by the process at `place`."""
        del self.waiting[begin.child_id]
        child = self._children[begin.child_id]
        assert child.assignment is not None
        assert child.next is not None
        child.out, child.key = True, key
        return TrainingOrder(
            key=key,
            place=place,
            assignment=child.assignment,
            batch_size=child.next.batch_size,
            gpu=begin.gpu,
            gpu_limit_bytes=begin.gpu_limit_bytes,
        )

    async def conclude(self, attempt: Attempt, outcome: Outcome, *, preempt_requested: bool = False) -> None:
        """Record what an attempt gave, and act on it; a second outcome of the same attempt changes nothing.

        The first outcome without a failure is the child's, and goes to its caller at once: who learns from it records
        it before, which ends the attempt as well. The worker keeps it until it is recorded here or there.

        Args:
            attempt: which.
            outcome: what it gave.
            preempt_requested: the pool itself requested the child's preemption, see `next_attempt`.
        """
        self.settling += 1
        share = attempt.gpu and attempt.gpu.share
        try:
            known = self._children.get(attempt.child_id)
            history = known.history if known else AttemptHistory()
            step = next_attempt(
                self._policy,
                history,
                outcome,
                preempt_requested=preempt_requested,
                gpu_share=share,
                batch_size=self._batch_size,
                seed=attempt.seed,
            )
            is_first = known is not None and known.key == attempt.key
            if is_first and known:
                known.key = None
            is_sure = is_first and isinstance(step, Settled) and step.outcome is outcome and outcome.failure is None
            if is_sure and known and not known.result.done():
                known.result.set_result(outcome)
            can_wait = is_sure and not self.waiting
            if (
                not await self._ledger.end_attempt(attempt.key, outcome, step.verdict, can_wait=can_wait)
                and not is_sure
            ):
                return
            child = self._child(attempt.child_id, attempt.seed)
            if isinstance(step, Settled):
                if outcome.failure is None:
                    self._on_trained(attempt, outcome)
                self._settle(attempt.child_id, child, step.outcome)
            else:
                assert outcome.failure is not None
                cause = outcome.failure.cause
                if share is not None and needs_larger_share(cause, share):
                    child.history = child.history.after_small_share(share)
                else:
                    child.history = child.history.after_retry(cause)
                    child.avoid.add(attempt.slot)
                self._release_isolated(attempt.child_id)
                self._requeue(attempt.child_id, child)
        finally:
            self.settling -= 1

    async def void(self, attempt: Attempt, verdict: Verdict = Verdict.NOT_STARTED) -> None:
        """Record that an attempt never started, or that its end is unknown (`LOST`); the child gets another."""
        self.settling += 1
        if (known := self._children.get(attempt.child_id)) and known.key == attempt.key:
            known.key = None
        try:
            if await self._ledger.end_attempt(attempt.key, None, verdict):
                self._requeue(attempt.child_id, self._child(attempt.child_id, attempt.seed))
        finally:
            self.settling -= 1

    async def _admit(self, child_id: int, child: _Child) -> None:
        is_new = self.new is not None and self.new.take(child_id)
        attempts = () if is_new else await self._ledger.attempts(child_id)
        if child.result.done() or child.out or child_id in self.waiting or child_id in self._held:
            return  # settled or queued while the ledger answered
        child.load(attempts)
        self._queue(child_id, child)

    def _child(self, child_id: int, seed: int) -> _Child:
        if child_id not in self._children:
            self._children[child_id] = _Child(seed, asyncio.get_running_loop().create_future())
        return self._children[child_id]

    def _queue(self, child_id: int, child: _Child) -> None:
        """Put the child into the queue for its next attempt, or settle it if it gets none."""
        step = next_attempt(self._policy, child.history, batch_size=self._batch_size, seed=child.seed)
        if isinstance(step, Settled):
            self._settle(child_id, child, step.outcome)
            return
        child.next = step
        if child.history.isolated:
            if self._isolated not in (None, child_id):
                self._held.append(child_id)
                return
            self._isolated = child_id
        self.waiting[child_id] = Waiting(
            child_id=child_id,
            avoid=frozenset(child.avoid),
            gpu_bytes=child.assignment and child.assignment.gpu_bytes,
            out_of_memory_at=child.history.out_of_memory_at,
        )
        self._on_waiting()
        if self.waiting:
            self._ledger.hasten()  # a worker may be free once the end of its last attempt is recorded

    def _release_isolated(self, child_id: int) -> None:
        """Queue the next isolated child if this is the one in training; an attempt at it has ended normally."""
        if self._isolated == child_id:
            self._isolated = None
            if self._held:
                following = self._held.popleft()
                self._queue(following, self._children[following])

    def _requeue(self, child_id: int, child: _Child) -> None:
        child.out = False
        if child.assignment is not None:  # else the caller that requests it brings the assignment
            self._queue(child_id, child)

    def _settle(self, child_id: int, child: _Child, outcome: Outcome) -> None:
        child.out = False
        if not child.result.done():
            child.result.set_result(outcome)
        del self._children[child_id]  # from now on the ledger knows
        self._release_isolated(child_id)
        self._on_settled(child_id)
