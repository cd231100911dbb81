"""What a failed attempt means for its child: a policy by cause. Standard library only."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from child_trainer.outcome import Cause
from cluster.search.records import Attempt, Verdict

MOST_PREEMPTIONS = 100
"""Preemptions do not count as failures; a child that had so many is given up all the same, as `preempted`."""

MOST_LOST = 10
"""A child is given up, as `crashed`, when the run has died around so many attempts at it in a row.

It may be what ends the run, with the driver's machine, or only have been in training whenever something else did. So
the limit is generous, an attempt whose end is known begins the count anew, and the last few are made alone: see
`LOST_ALONE`.
"""

LOST_ALONE = 7
"""A child that was lost so many times in a row is trained while no other such child is.

Of those that are always in training together, one that ends the run is then lost alone, and the others get to end.
"""

ACTIONS = "retry, smaller-batch, reward:NUMBER and drop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """What follows a failure of one cause.

    Attributes:
        retry: train the child again, on another worker where there is one, while attempts are left.
        smaller_batch: the new attempt has half the batch size.
        reward: what the searcher is told once no attempt is left; `None` keeps the child from the searcher.
    """

    retry: bool = False
    smaller_batch: bool = False
    reward: float | None = 0.0


DEFAULTS: Mapping[Cause, Reaction] = {
    cause: Reaction(retry=cause in (Cause.CRASHED, Cause.PREEMPTED)) for cause in Cause
}
"""A crash may have been the worker's fault, a preemption always is; the other failures would come again."""


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier attempts at a child came to.

    Attributes:
        causes: why those failed that were followed by another, oldest first.
        lost: around how many of them the run has died since the last one whose end is known.
    """

    causes: tuple[Cause, ...] = ()
    lost: int = 0

    @property
    def preemptions(self) -> int:
        """How many of them were preempted."""
        return self.causes.count(Cause.PREEMPTED)

    @property
    def failures(self) -> int:
        """How many of them failed; preemptions do not count."""
        return len(self.causes) - self.preemptions

    @property
    def suspected(self) -> bool:
        """Whether the child may be what ends the run."""
        return self.lost >= LOST_ALONE


def past_of(attempts: Sequence[Attempt]) -> Past:
    """What earlier attempts came to, oldest first, as far as it counts."""
    causes = tuple(attempt.cause for attempt in attempts if attempt.cause and attempt.verdict != Verdict.OUTCOME)
    ended = [attempt.verdict for attempt in attempts if attempt.verdict not in (None, Verdict.NOT_STARTED)]
    in_a_row = itertools.takewhile(lambda verdict: verdict == Verdict.LOST, reversed(ended))
    return Past(causes, lost=len(list(in_a_row)))


@dataclass(frozen=True, kw_only=True)
class Reactions:
    """The whole policy.

    Attributes:
        max_attempts: failed attempts after which a child is given up.
        by_cause: what follows each cause.
    """

    max_attempts: int
    by_cause: Mapping[Cause, Reaction] = field(default_factory=lambda: DEFAULTS)

    def again(self, cause: Cause, past: Past) -> bool:
        """Whether a child that has just failed so is to be trained again."""
        if not self.by_cause[cause].retry:
            return False
        if cause == Cause.PREEMPTED:
            return past.preemptions < MOST_PREEMPTIONS
        return past.failures + 1 < self.max_attempts

    def hopeless(self, past: Past) -> str | None:
        """Why a child gets no other attempt though none has failed of late, or `None` if it does."""
        if past.lost < MOST_LOST:
            return None
        return f"the run died around {past.lost} attempts at the child in a row"

    def batch_size(self, usual: int, past: Past) -> int:
        """The batch size of the next attempt: halved for each failure that asks for it."""
        halvings = sum(self.by_cause[cause].smaller_batch for cause in past.causes)
        return max(1, usual >> halvings)

    def reward(self, cause: Cause) -> float | None:
        """What a child that was given up earns, or `None` if it is not to be learnt from."""
        return self.by_cause[cause].reward


def parse_reactions(text: str) -> dict[Cause, Reaction]:
    """The policy that `CAUSE=ACTION[+ACTION],...` changes, and what it leaves as it is (`DEFAULTS`).

    `retry` and `smaller-batch` train again; `reward:NUMBER` and `drop` say what follows when no attempt is left
    (unset: `reward:0`). For example `out_of_memory=smaller-batch+drop,crashed=reward:-1`.

    Spaces around the parts are allowed, and a comma at the end; an empty text changes nothing.

    Raises:
        ValueError: an unknown cause or action, or a cause that comes twice.
    """
    found: dict[Cause, Reaction] = {}
    items = [part.strip() for part in text.split(",")]
    for item in items if items[-1] else items[:-1]:
        name, equals, actions = (piece.strip() for piece in item.partition("="))
        if not equals or name not in list(Cause):
            raise ValueError(f"`on_failure` must be CAUSE=ACTION with a cause of {', '.join(Cause)}, got {item!r}")
        if name in found:
            raise ValueError(f"`on_failure` must name each cause once, got {name} twice")
        found[Cause(name)] = _reaction([action.strip() for action in actions.split("+")], item)
    return {**DEFAULTS, **found}


def _reaction(actions: Sequence[str], item: str) -> Reaction:
    again = [action for action in actions if action in ("retry", "smaller-batch")]
    last = [action for action in actions if action not in again]
    if len(again) > 1 or len(last) > 1:
        raise ValueError(f"`on_failure` takes one way to train again and one to give up, got {item!r}")
    reward = _reward(last[0], item) if last else 0.0
    return Reaction(retry=bool(again), smaller_batch="smaller-batch" in again, reward=reward)


def _reward(action: str, item: str) -> float | None:
    if action == "drop":
        return None
    kind, _, number = action.partition(":")
    try:
        reward = float(number) if kind == "reward" else math.nan
    except ValueError:
        reward = math.nan
    if not math.isfinite(reward):
        raise ValueError(f"the actions of `on_failure` are {ACTIONS}, got {item!r}")
    return reward
