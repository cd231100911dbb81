"""Trains children in the driver's own process, one after another or several seeds of a network as one."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from child_trainer.outcome import Cause, Outcome
from cluster.pool.child_weights import LostWeights
from cluster.pool.failure_policy import (
    AttemptHistory,
    FailurePolicy,
    Settled,
    Train,
    attempt_history,
    may_be_fused,
    next_attempt,
)
from cluster.pool.output_files import OutputCapture, no_capture
from cluster.pool.seed_groups import seed_groups
from cluster.search.evaluator import Assignment, ChildTrainer, SeedsTrainer
from cluster.search.records import LOCAL_WORKER, AttemptLedger, EndedAttempt, Verdict, fused_key
from cluster.storage.ledger.compact import usual_key

RecordEnd = Callable[[Outcome | None, Verdict], object]
"""Records how an attempt ended: its outcome, and what that means for the child."""

_LOG = logging.getLogger(__name__)


class InProcessEvaluator:
    """Trains one child in each call of `completed`, or all waiting ones with `at_once`.

    Args:
        trainer: trains a child.
        ledger: records every attempt, before it begins and when it has ended.
        policy: decides what follows a failure.
        batch_size: the budget's.
        preempted: called before each step; if it returns `True`, the run stops and the child stays in the queue.
        on_settled: called with the id of a child that has its outcome.
        capture: captures what the children print.
        at_once: return the outcomes of all waiting children together, for children whose training takes no time. An
            attempt is recorded once, when it has ended: its caller records the outcomes in the same `together`.
        seeds: trains several seeds of one network as one; `None`: every child is trained alone.
        fuse_seeds: seeds that it trains as one, at most.
    """

    def __init__(  # noqa: PLR0913  (all but the first three are options)
        self,
        trainer: ChildTrainer,
        ledger: AttemptLedger,
        policy: FailurePolicy,
        *,
        batch_size: int,
        preempted: Callable[[], bool] | None = None,
        on_settled: Callable[[int], None] = lambda _: None,
        capture: OutputCapture = no_capture,
        at_once: bool = False,
        seeds: SeedsTrainer | None = None,
        fuse_seeds: int = 1,
    ) -> None:
        self._at_once, self._seeds, self._fuse_seeds = at_once, seeds, fuse_seeds
        self._refusals: set[str] = set()  # why seeds are trained alone, as far as it was reported
        self._interrupt: KeyboardInterrupt | None = None
        self._capture = capture
        self._trainer, self._ledger, self._policy = trainer, ledger, policy
        self._batch_size, self._preempted, self._on_settled = batch_size, preempted, on_settled
        self._waiting: deque[Assignment] = deque()

    def submit(self, *assignments: Assignment) -> None:
        """Put the children into the queue."""
        self._waiting.extend(assignments)

    def completed(self) -> list[tuple[int, Outcome]]:
        """Make one attempt at the queue's first child, and return its outcome; an empty list if it is retried.

        Raises:
            LostWeights: the child cannot begin; it stays in the ledger as one that has not ended.
        """
        self.raise_interrupt()
        ended: list[tuple[int, Outcome]] = []
        for _ in range(len(self._waiting) if self._at_once else 1):
            try:
                ended += self._next()
            except KeyboardInterrupt as interrupt:
                if not ended:
                    raise
                self._interrupt = interrupt  # raised once the children that have ended are recorded
                break
        return ended

    def raise_interrupt(self) -> None:
        """Raise the `KeyboardInterrupt`, if any, that was deferred until the ended children were recorded."""
        if self._interrupt:
            raise self._interrupt

    def _next(self) -> list[tuple[int, Outcome]]:
        if not self._waiting:
            return []
        if self._seeds and self._fuse_seeds > 1 and len(together := self._joined(self._seeds)) > 1:
            return self._train_together(self._seeds, together)
        assignment = self._waiting.popleft()
        outcome = self._outcome(assignment)
        if outcome is None:
            self._waiting.appendleft(assignment)
            return []
        self._on_settled(assignment.child_id)
        return [(assignment.child_id, outcome)]

    def _joined(self, seeds: SeedsTrainer) -> list[Assignment]:
        """Return the waiting children that are trained as one with the first; only the first if it is trained alone."""
        first = self._waiting[0]
        if not self._may_join(first):
            return [first]
        groups = seed_groups((one for one in self._waiting if self._may_join(one)), self._fuse_seeds)
        group = next(group for group in groups if first in group)
        if len(group) > 1 and (reason := seeds.why_alone(first)):
            if reason not in self._refusals:
                _LOG.warning("`--fuse-seeds` trains no seeds of a network as one: %s", reason)
            self._refusals.add(reason)
            return [first]
        return group

    def _may_join(self, assignment: Assignment) -> bool:
        history = attempt_history(self._ledger.attempts(assignment.child_id))
        step = next_attempt(self._policy, history, batch_size=self._batch_size, seed=assignment.seed)
        return may_be_fused(step, history)

    def _train_together(self, seeds: SeedsTrainer, assignments: Sequence[Assignment]) -> list[tuple[int, Outcome]]:
        """Make one attempt at several children as one, and return the outcomes of those that have one.

        The ends of all are recorded together: after a kill between them, the others would be trained in another group.
        """
        histories = [attempt_history(self._ledger.attempts(one.child_id)) for one in assignments]
        first = assignments[0].child_id
        key = usual_key(first, len(self._ledger.attempts(first)) + 1)
        keys = [fused_key(key, place) for place in range(len(assignments))]
        with self._ledger.together():
            for one, its_key in zip(assignments, keys, strict=True):
                self._ledger.start(one.child_id, LOCAL_WORKER, its_key)
        interrupt, stops = None, False
        try:
            with self._capture(first, keys[0]):
                outcomes = seeds.train_together(assignments, preempted=self._preempted)
            stops = self._preempted is not None and self._preempted()
        except KeyboardInterrupt as error:
            interrupt, stops = error, True
            outcomes = [Outcome.failed(Cause.PREEMPTED, "interrupted", seed=one.seed) for one in assignments]
        ended: list[tuple[int, Outcome]] = []
        with self._ledger.together():
            for one, its_key, history, outcome in zip(assignments, keys, histories, outcomes, strict=True):
                record = partial(self._ledger.end_attempt, its_key)
                step = self._end(record, history, outcome, preempt_requested=stops)
                if isinstance(step, Settled):
                    ended.append((one.child_id, step.outcome))
            self._ledger.share_time(keys)
        if interrupt is not None:
            raise interrupt
        settled = {child_id for child_id, _ in ended}
        self._waiting = deque(one for one in self._waiting if one.child_id not in settled)
        for child_id in settled:
            self._on_settled(child_id)
        return ended

    def _outcome(self, assignment: Assignment) -> Outcome | None:
        """Return the child's outcome, after an attempt where it has none yet; `None` if it gets another attempt."""
        attempts = self._ledger.attempts(assignment.child_id)
        history = attempt_history(attempts)
        step = next_attempt(self._policy, history, batch_size=self._batch_size, seed=assignment.seed)
        if isinstance(step, Settled):
            return step.outcome
        number = len(attempts) + 1
        record = self._begin(assignment.child_id, number, step.batch_size)
        # The attempt ends within the capture, which keeps what was printed for an attempt that the ledger has: one that
        # takes no time is there only when it has ended.
        with self._capture(assignment.child_id, usual_key(assignment.child_id, number)):
            try:
                outcome = self._trainer.train(assignment, batch_size=step.batch_size, preempted=self._preempted)
            except KeyboardInterrupt:  # recorded, because otherwise the attempt would count as lost
                interrupted = Outcome.failed(Cause.PREEMPTED, "interrupted", seed=assignment.seed)
                self._end(record, history, interrupted, preempt_requested=True)
                raise
            except LostWeights:  # not the child's fault, who has not begun
                record(None, Verdict.NOT_STARTED)
                raise
            stops = self._preempted is not None and self._preempted()
            step = self._end(record, history, outcome, preempt_requested=stops)
        return step.outcome if isinstance(step, Settled) else None

    def _begin(self, child_id: int, number: int, batch_size: int | None) -> RecordEnd:
        """Begin an attempt, and return what records its end."""
        if self._at_once:
            begun = child_id, number, LOCAL_WORKER, batch_size, self._ledger.now()
            return lambda outcome, verdict: self._ledger.record_attempt(EndedAttempt(*begun, outcome, verdict))
        key = usual_key(child_id, number)
        self._ledger.start(child_id, LOCAL_WORKER, key, batch_size=batch_size)
        return partial(self._ledger.end_attempt, key)

    def _end(
        self, record: RecordEnd, history: AttemptHistory, outcome: Outcome, *, preempt_requested: bool
    ) -> Train | Settled:
        """Record the attempt's outcome, and return the next step."""
        step = next_attempt(
            self._policy,
            history,
            outcome,
            preempt_requested=preempt_requested,
            batch_size=self._batch_size,
            seed=outcome.seed,
        )
        record(outcome, step.verdict)
        return step
