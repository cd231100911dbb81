"""Trains children in this process, one after another."""

from collections import deque
from collections.abc import Callable

from child_trainer.outcome import Cause, Outcome
from cluster.pool.failure_policy import Reactions, past_of
from cluster.pool.output_files import Takes, untaken
from cluster.search.evaluator import Assignment, Trains
from cluster.search.records import AttemptLedger, Verdict

HERE = "local"
"""Where a child is trained that needs no worker."""


class InProcessEvaluator:
    """Trains here and now, one child for each call of `completed`, or all that wait where they take no time.

    Args:
        trainer: trains a child.
        ledger: told of every attempt before it begins and when it has ended.
        reactions: what follows a failure.
        batch_size: the budget's.
        preempted: asked before each step whether the child is to be given back; the child then stays in the queue.
        on_settled: called with the id of a child that has its outcome.
        takes: takes what the children print.
        at_once: give the outcomes of all that wait together.
    """

    def __init__(  # noqa: PLR0913  (all but the first three are options)
        self,
        trainer: Trains,
        ledger: AttemptLedger,
        reactions: Reactions,
        *,
        batch_size: int,
        preempted: Callable[[], bool] | None = None,
        on_settled: Callable[[int], None] = lambda _: None,
        takes: Takes = untaken,
        at_once: bool = False,
    ) -> None:
        self._at_once = at_once
        self._interrupt: KeyboardInterrupt | None = None
        self._takes = takes
        self._trainer, self._ledger, self._reactions = trainer, ledger, reactions
        self._batch_size, self._preempted, self._on_settled = batch_size, preempted, on_settled
        self._waiting: deque[Assignment] = deque()

    def submit(self, assignment: Assignment) -> None:
        """Put the child into the queue."""
        self._waiting.append(assignment)

    def completed(self) -> list[tuple[int, Outcome]]:
        """The next child of the queue, after one attempt more; none if it is to be tried again."""
        self.raise_interrupt()
        ended: list[tuple[int, Outcome]] = []
        for _ in range(len(self._waiting) if self._at_once else 1):
            try:
                ended += self._next()
            except KeyboardInterrupt as interrupt:
                if not ended:
                    raise
                self._interrupt = interrupt  # once those that have ended are recorded
                break
        return ended

    def raise_interrupt(self) -> None:
        """Raise the `KeyboardInterrupt` that has come while some had ended that were still to be recorded, if any."""
        if self._interrupt:
            raise self._interrupt

    def _next(self) -> list[tuple[int, Outcome]]:
        if not self._waiting:
            return []
        assignment = self._waiting.popleft()
        outcome = self._outcome(assignment)
        if outcome is None:
            self._waiting.appendleft(assignment)
            return []
        self._on_settled(assignment.child_id)
        return [(assignment.child_id, outcome)]

    def _outcome(self, assignment: Assignment) -> Outcome | None:
        attempts = self._ledger.attempts(assignment.child_id)
        known = next((a.outcome for a in attempts if a.verdict == Verdict.OUTCOME), None)
        if known is not None:
            return known
        past = past_of(attempts)
        key = f"{assignment.child_id}-{len(attempts) + 1}"
        deaths = sum(attempt.verdict == Verdict.LOST and attempt.worker == HERE for attempt in attempts)
        if deaths >= self._reactions.max_attempts:
            message = f"the process died {deaths} times while it trained the child"
            return Outcome.failed(Cause.CRASHED, message, seed=assignment.seed)
        size = self._reactions.batch_size(self._batch_size, past)
        smaller = None if size == self._batch_size else size
        self._ledger.start(assignment.child_id, HERE, key, batch_size=smaller)
        try:
            with self._takes(assignment.child_id, key):
                outcome = self._trainer.train(assignment, batch_size=smaller, preempted=self._preempted)
        except KeyboardInterrupt:  # not a death: those are counted
            interrupted = Outcome.failed(Cause.PREEMPTED, "interrupted", seed=assignment.seed)
            self._ledger.end_attempt(key, interrupted, Verdict.RETRY)
            raise
        again = outcome.failure is not None and self._reactions.again(outcome.failure.cause, past)
        self._ledger.end_attempt(key, outcome, Verdict.RETRY if again else Verdict.OUTCOME)
        return None if again else outcome
