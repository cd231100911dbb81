"""The children that were asked for or are in training, and what each attempt at them means. Part of the pool."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from child_trainer.outcome import Cause, Outcome
from cluster.pool.failure_policy import Past, Reactions, past_of
from cluster.pool.protocol import Order, PoolLedger
from cluster.pool.supervision import Waiting
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, Verdict


@dataclass(slots=True)
class _Child:
    """One of them.

    Attributes:
        past: its earlier attempts.
        result: its outcome, once there is one.
        assignment: `None` while nobody of this pool's callers has asked for it.
        avoid: the slots at which it has failed.
        out: a worker has it.
    """

    past: Past
    result: asyncio.Future[Outcome]
    assignment: Assignment | None = None
    avoid: set[int] = field(default_factory=set)
    out: bool = False

    def remember(self, attempts: Sequence[Attempt]) -> None:
        """Take up what the ledger knows of it."""
        self.past = past_of(attempts)
        self.avoid = {attempt.slot for attempt in attempts if attempt.cause}


class Backlog:
    """Takes children in, gives them out, and settles them in the ledger before anywhere else.

    Args:
        ledger: told of what each attempt came to.
        reactions: what follows a failure.
        batch_size: the budget's.
        on_waiting: called when a child waits for a worker.
        on_settled: called with the id of a child that has its outcome.
    """

    def __init__(
        self,
        ledger: PoolLedger,
        reactions: Reactions,
        batch_size: int,
        *,
        on_waiting: Callable[[], None],
        on_settled: Callable[[int], None],
    ) -> None:
        self._ledger, self._reactions, self._batch_size = ledger, reactions, batch_size
        self._on_waiting, self._on_settled = on_waiting, on_settled
        self._children: dict[int, _Child] = {}
        self.waiting: dict[int, Waiting] = {}
        """Those that wait for a worker, in the order in which they came."""
        self._suspect: int | None = None  # the one such child that waits or is in training, see `LOST_ALONE`
        self._held: deque[int] = deque()  # the others, which wait for it to end
        self.settling = 0
        """Attempts whose end is being recorded."""

    async def result(self, assignment: Assignment) -> Outcome:
        """The child's outcome, as soon as there is one; it is taken in if it is not known yet."""
        child = self._child(assignment.child_id)
        if child.assignment is None:
            child.assignment = assignment
            await self._admit(assignment.child_id, child)
        # A caller that dies must not take the training with it: its successor asks for the same child.
        return await asyncio.shield(child.result)

    async def resume(self, attempt: Attempt) -> None:
        """An earlier pool has given the child to a worker, which may still have it."""
        child = self._child(attempt.child_id)
        child.remember(await self._ledger.attempts(attempt.child_id))
        child.out = True
        if child.past.suspected:
            self._suspect = attempt.child_id

    def give_out(self, child_id: int, key: str, place: str) -> Order:
        """Take a child that waits from the queue, to be trained as the attempt `key` by the process at `place`."""
        del self.waiting[child_id]
        child = self._children[child_id]
        assert child.assignment is not None
        child.out = True
        size = self._reactions.batch_size(self._batch_size, child.past)
        smaller = None if size == self._batch_size else size
        return Order(key=key, place=place, assignment=child.assignment, batch_size=smaller)

    async def conclude(self, attempt: Attempt, outcome: Outcome, *, taken_back: bool = False) -> None:
        """Settle what an attempt means; a later word on the same attempt changes nothing.

        Args:
            attempt: which.
            outcome: what it came to.
            taken_back: the child was asked back, and goes on later whatever is to follow a preemption.
        """
        self.settling += 1
        try:
            known = self._children.get(attempt.child_id)
            cause = outcome.failure and outcome.failure.cause
            returned = taken_back and cause == Cause.PREEMPTED
            past = known.past if known else Past()
            again = cause is not None and (returned or self._reactions.again(cause, past))
            verdict = Verdict.RETRY if again else Verdict.OUTCOME
            if not await self._ledger.end_attempt(attempt.key, outcome, verdict):
                return
            child = self._child(attempt.child_id)
            if cause and again:
                child.past = Past((*child.past.causes, cause))
                child.avoid.add(attempt.slot)
                self._acquit(attempt.child_id)
                self._requeue(attempt.child_id, child)
            else:
                self._settle(attempt.child_id, child, outcome)
        finally:
            self.settling -= 1

    async def void(self, attempt: Attempt, verdict: Verdict = Verdict.NOT_STARTED) -> None:
        """The attempt never began, or nobody can tell any more (`LOST`): the child gets another whatever was before."""
        self.settling += 1
        try:
            if await self._ledger.end_attempt(attempt.key, None, verdict):
                self._requeue(attempt.child_id, self._child(attempt.child_id))
        finally:
            self.settling -= 1

    async def _admit(self, child_id: int, child: _Child) -> None:
        attempts = await self._ledger.attempts(child_id)
        if child.result.done() or child.out or child_id in self.waiting or child_id in self._held:
            return  # settled or taken up while the ledger was asked
        settled = next((a.outcome for a in attempts if a.verdict == Verdict.OUTCOME), None)
        if settled is not None:
            self._settle(child_id, child, settled)
            return
        child.remember(attempts)
        if reason := self._reactions.hopeless(child.past):
            assert child.assignment is not None
            self._settle(child_id, child, Outcome.failed(Cause.CRASHED, reason, seed=child.assignment.seed))
            return
        self._queue(child_id, child)

    def _child(self, child_id: int) -> _Child:
        if child_id not in self._children:
            self._children[child_id] = _Child(Past(), asyncio.get_running_loop().create_future())
        return self._children[child_id]

    def _queue(self, child_id: int, child: _Child) -> None:
        if child.past.suspected:
            if self._suspect not in (None, child_id):
                self._held.append(child_id)
                return
            self._suspect = child_id
        self.waiting[child_id] = Waiting(child_id=child_id, avoid=frozenset(child.avoid))
        self._on_waiting()

    def _acquit(self, child_id: int) -> None:
        """An attempt at the child came to an end of its own: it is the next suspect's turn, if it was one."""
        if self._suspect == child_id:
            self._suspect = None
            if self._held:
                following = self._held.popleft()
                self._queue(following, self._children[following])

    def _requeue(self, child_id: int, child: _Child) -> None:
        child.out = False
        if child.assignment is not None:  # else whoever asks for it will bring it
            self._queue(child_id, child)

    def _settle(self, child_id: int, child: _Child, outcome: Outcome) -> None:
        child.out = False
        child.result.set_result(outcome)
        del self._children[child_id]  # from now on the ledger knows
        self._acquit(child_id)
        self._on_settled(child_id)
