"""What follows for a child after its attempts so far: another attempt, or its outcome. Standard library only.

`next_attempt` decides it for every run, whether Ray's workers train the children or the driver's own process does.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from child_trainer.outcome import Cause, Outcome
from cluster.pool.lack_of_memory import memory_lacked, memory_lacked_in
from cluster.search.records import LOCAL_WORKER, Attempt, Verdict

MAX_PREEMPTIONS = 100
"""Preemptions do not count as failures, but a child that was preempted so often fails permanently, as `preempted`."""

MAX_LOST_ALONE = 3
"""A child fails permanently, as `crashed`, after so many attempts in a row that were made alone and lost.

An attempt is lost if the whole run died around it. Where other children were in training too, that does not say which
of them was at fault. It does if the attempt was made alone: in the driver's own process, which trains one child at a
time, or after `ISOLATE_AFTER_LOST` lost attempts. An attempt whose end is known resets the count.
"""

ISOLATE_AFTER_LOST = 7
"""A child with so many lost attempts in a row is trained while no other such child is.

Of children that are always in training together, one that ends the run is then lost alone, and the others can end.
The number is generous: a driver's machine may fail often, and children that are isolated wait for each other.
"""

ACTIONS = "retry, smaller-batch, reward:NUMBER and drop"


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureAction:
    """What follows a failure of one cause.

    Attributes:
        retry: train the child again, on another worker where there is one, while attempts are left.
        smaller_batch: the new attempt has half the batch size.
        reward: what the searcher learns once no attempt is left; `None` keeps the child from the searcher.
    """

    retry: bool = False
    smaller_batch: bool = False
    reward: float | None = 0.0


DEFAULTS: Mapping[Cause, FailureAction] = {
    cause: FailureAction(retry=cause in (Cause.CRASHED, Cause.PREEMPTED)) for cause in Cause
}
"""A crash may be the worker's fault, a preemption always is; the other failures would happen again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptHistory:
    """The attempts at a child, as far as they count.

    Attributes:
        outcome: the child's outcome, if one of them gave it.
        retried: the causes of the failures that were followed by another attempt, oldest first.
        lost: how many attempts were lost since the last one whose end is known.
        lost_alone: how many of those were made alone, see `MAX_LOST_ALONE`.
        out_of_memory_at: the largest part of a GPU in which an attempt ran out of memory and was followed by one in a
            larger part; 0 if none did. Such attempts are not among `retried`.
        too_large_as_one: an attempt as one network with other seeds ran out of memory, and was followed by one alone.
            Such an attempt is not among `retried`.
    """

    outcome: Outcome | None = None
    retried: tuple[Cause, ...] = ()
    lost: int = 0
    lost_alone: int = 0
    out_of_memory_at: float = 0.0
    too_large_as_one: bool = False

    @property
    def preemptions(self) -> int:
        """How many attempts were preempted."""
        return self.retried.count(Cause.PREEMPTED)

    @property
    def failures(self) -> int:
        """How many attempts failed; preemptions do not count."""
        return len(self.retried) - self.preemptions

    @property
    def isolated(self) -> bool:
        """Whether the child may be what ends the run, and must be trained alone."""
        return self.lost >= ISOLATE_AFTER_LOST

    @property
    def alone(self) -> bool:
        """Whether the child must not be trained as one network with other seeds.

        One that has failed may be what is wrong with all of them. Children that were lost together get a last attempt
        alone, which says whose fault it is.
        """
        failed = bool(self.failures) or self.too_large_as_one or self.out_of_memory_at > 0
        return failed or self.isolated or self.lost_alone >= MAX_LOST_ALONE - 1

    def after_failure(self, failed: Outcome, share: float | None = None) -> "AttemptHistory":
        """Return the history with one more attempt, which failed and is followed by another.

        Args:
            failed: what it gave.
            share: the part of a GPU that it had, where the pool decides that.
        """
        assert failed.failure is not None
        known = replace(self, lost=0, lost_alone=0)
        match memory_lacked(failed.failure.cause, share, fused=failed.fused):
            case "as one":
                return replace(known, too_large_as_one=True)
            case "in a part":
                return replace(known, out_of_memory_at=max(self.out_of_memory_at, share or 0.0))
            case None:
                return replace(known, retried=(*self.retried, failed.failure.cause))


def attempt_history(attempts: Sequence[Attempt]) -> AttemptHistory:
    """Return what counts of a child's attempts, which are given oldest first."""
    ended = [attempt for attempt in attempts if attempt.verdict not in (None, Verdict.NOT_STARTED)]
    lost = list(itertools.takewhile(lambda attempt: attempt.verdict == Verdict.LOST, reversed(ended)))[::-1]
    alone = [a.worker == LOCAL_WORKER or number >= ISOLATE_AFTER_LOST for number, a in enumerate(lost)]
    failed = [a for a in attempts if a.cause and a.verdict != Verdict.OUTCOME]
    lacked = [(a, memory_lacked_in(a)) for a in failed]
    return AttemptHistory(
        outcome=next((a.outcome for a in attempts if a.verdict == Verdict.OUTCOME), None),
        retried=tuple(a.cause for a, what in lacked if a.cause and what is None),
        lost=len(lost),
        lost_alone=sum(alone),
        out_of_memory_at=max((a.gpu.share for a, what in lacked if a.gpu and what == "in a part"), default=0.0),
        too_large_as_one=any(what == "as one" for _, what in lacked),
    )


@dataclass(frozen=True, kw_only=True)
class FailurePolicy:
    """What follows the failures of a run's children.

    Attributes:
        max_attempts: failed attempts after which a child fails permanently.
        by_cause: what follows each cause.
    """

    max_attempts: int
    by_cause: Mapping[Cause, FailureAction] = field(default_factory=lambda: DEFAULTS)

    def retries(self, cause: Cause, history: AttemptHistory) -> bool:
        """Return whether a child with this history is trained again after one more failure, for `cause`."""
        if not self.by_cause[cause].retry:
            return False
        if cause == Cause.PREEMPTED:
            return history.preemptions < MAX_PREEMPTIONS
        return history.failures + 1 < self.max_attempts

    def batch_size(self, budget: int, history: AttemptHistory) -> int:
        """Return the next attempt's batch size: the budget's, halved for each failure that asks for it."""
        halvings = sum(self.by_cause[cause].smaller_batch for cause in history.retried)
        return max(1, budget >> halvings)

    def reward(self, cause: Cause) -> float | None:
        """Return what a child that failed permanently earns, or `None` if the searcher must not learn from it."""
        return self.by_cause[cause].reward


@dataclass(frozen=True, slots=True)
class Train:
    """The child gets another attempt.

    Attributes:
        verdict: of the failed attempt before it.
        batch_size: the attempt's, or `None` for the budget's.
    """

    verdict: ClassVar = Verdict.RETRY
    batch_size: int | None


@dataclass(frozen=True, slots=True)
class Settled:
    """The child has its outcome.

    Attributes:
        verdict: of the attempt that gave it.
        outcome: the child's.
    """

    verdict: ClassVar = Verdict.OUTCOME
    outcome: Outcome


def next_attempt(
    policy: FailurePolicy,
    history: AttemptHistory,
    ended: Outcome | None = None,
    *,
    preempt_requested: bool = False,
    gpu_share: float | None = None,
    batch_size: int,
    seed: int,
) -> Train | Settled:
    """Decide whether a child is trained again.

    The rules, in this order:
    1. A child with an outcome keeps it.
    2. An attempt that did not fail gives the outcome.
    3. A preemption that the run itself requested, as it is to stop, is always followed by another attempt.
    4. A lack of memory as one network with other seeds is followed by an attempt alone, and one in a part of a GPU by
       an attempt in a larger part; neither counts as a failure.
    5. Any other failure is followed by another attempt if the policy retries its cause and attempts are left; else it
       is the outcome.
    6. A child that was lost alone `MAX_LOST_ALONE` times in a row fails permanently, as `crashed`.
    7. All others are trained, with the batch size that their failures leave.

    Args:
        policy: the run's.
        history: the child's attempts, without the one that has just ended.
        ended: what that one gave; `None` if none has just ended: the child is new, the run was resumed, or an attempt
            was never started.
        preempt_requested: the run itself asked for the child's preemption.
        gpu_share: the part of a GPU that the ended attempt had, where the pool decides that.
        batch_size: the budget's.
        seed: the child's.
    """
    if history.outcome is not None:
        return Settled(history.outcome)
    if ended is not None:
        if ended.failure is None:
            return Settled(ended)
        cause = ended.failure.cause
        requested = preempt_requested and cause == Cause.PREEMPTED
        lacked = memory_lacked(cause, gpu_share, fused=ended.fused)
        if lacked is None and not requested and not policy.retries(cause, history):
            return Settled(ended)
        history = history.after_failure(ended, gpu_share)
    if history.lost_alone >= MAX_LOST_ALONE:
        message = f"the run died during {history.lost} consecutive attempts at the child"
        return Settled(Outcome.failed(Cause.CRASHED, message, seed=seed))
    size = policy.batch_size(batch_size, history)
    return Train(None if size == batch_size else size)


def may_be_fused(step: Train | Settled, history: AttemptHistory) -> bool:
    """Return whether a child is trained again, and its attempt may be made as one with those at other seeds.

    Args:
        step: what follows for the child.
        history: its attempts so far.
    """
    return isinstance(step, Train) and step.batch_size is None and not history.alone


def parse_failure_policy(text: str) -> dict[Cause, FailureAction]:
    """Return the action of each cause: `DEFAULTS`, changed by `CAUSE=ACTION[+ACTION],...`.

    `retry` and `smaller-batch` train again; `reward:NUMBER` and `drop` say what follows when no attempt is left
    (unset: `reward:0`). For example `out_of_memory=smaller-batch+drop,crashed=reward:-1`.

    Spaces around the parts are allowed, and a comma at the end; an empty text changes nothing.

    Raises:
        ValueError: an unknown cause or action, or a cause that is named twice.
    """
    changes: dict[Cause, FailureAction] = {}
    items = [part.strip() for part in text.split(",")]
    for item in items if items[-1] else items[:-1]:
        name, equals, actions = (piece.strip() for piece in item.partition("="))
        if not equals or name not in list(Cause):
            raise ValueError(f"`on_failure` must be CAUSE=ACTION with a cause of {', '.join(Cause)}, got {item!r}")
        if name in changes:
            raise ValueError(f"`on_failure` must name each cause once, got {name} twice")
        changes[Cause(name)] = _action([action.strip() for action in actions.split("+")], item)
    return {**DEFAULTS, **changes}


def _action(names: Sequence[str], item: str) -> FailureAction:
    retries = [name for name in names if name in ("retry", "smaller-batch")]
    rewards = [name for name in names if name not in retries]
    if len(retries) > 1 or len(rewards) > 1:
        raise ValueError(
            f"`on_failure` takes one of retry and smaller-batch, and one of reward:NUMBER and drop, got {item!r}"
        )
    reward = _reward(rewards[0], item) if rewards else 0.0
    return FailureAction(retry=bool(retries), smaller_batch="smaller-batch" in retries, reward=reward)


MAX_REWARD = 1e6
"""Searchers square rewards and sum them; a greater one would leave what arithmetic can hold."""


def _reward(name: str, item: str) -> float | None:
    if name == "drop":
        return None
    kind, _, number = name.partition(":")
    try:
        reward = float(number) if kind == "reward" else math.nan
    except ValueError:
        reward = math.nan
    if not math.isfinite(reward):
        raise ValueError(f"the actions of `on_failure` are {ACTIONS}, got {item!r}")
    if abs(reward) > MAX_REWARD:
        raise ValueError(
            f"the reward of `on_failure` must be from {-MAX_REWARD:,.0f} to {MAX_REWARD:,.0f}, got {item!r}"
        )
    return reward
