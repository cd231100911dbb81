"""The interface of a stopper, and what it knows of children. Standard library only.

A stopper is a pure function: it decides on one child from that child's curve and those of others. What it decides is
in the child's outcome (`child_trainer.outcome.Stopped`). Once that is recorded, no later start of the run decides it
again; until then a child that is trained anew is judged anew.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from child_trainer.outcome import LAST_EPOCHS, Stopped, TrainingSoFar
from controller.searcher import ChildRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCurve:
    """What a stopper knows of a child. Its values are such that a higher one is better, see `goodness`.

    Attributes:
        child_id: the child's.
        values: one for each epoch so far.
        ended: whether it is trained no more.
        stopped: whether it was stopped early.
        parameters, flops: of its network; `None` if unknown.
        decisions: the number of decisions behind its architecture.
        decided_until: of a child in training the last epoch at which it was decided on; `None`: the one before this.
    """

    child_id: int
    values: tuple[float, ...]
    ended: bool = True
    stopped: bool = False
    parameters: int | None = None
    flops: int | None = None
    decisions: int = 0
    decided_until: int | None = None

    @property
    def complete(self) -> bool:
        """Whether it was trained to its last epoch."""
        return self.ended and not self.stopped

    def best_at(self, epoch: int) -> float:
        """Return the child's metric if it ended at this epoch: the best of the last five until then."""
        return max(self.values[max(0, epoch - LAST_EPOCHS) : epoch])

    @property
    def best(self) -> float:
        """The child's metric so far."""
        return self.best_at(len(self.values))


class Stopper(Protocol):
    """Decides which children are stopped early.

    Rules, held by `tests/contracts/stopper.py`:
    1. It is a pure function: two instances that were made alike decide alike, whatever they decided before.
    2. It stops no child that is the best so far.
    """

    def judge(self, child: KnownCurve, others: Sequence[KnownCurve]) -> Stopped | None:
        """Return why a child is stopped at the epoch that it has reached, or `None` if it goes on.

        Args:
            child: in training, with at least one epoch.
            others: all others that are known: those that have ended in completion order, then those in training.
        """
        ...


def goodness(metric: float, *, lower_is_better: bool) -> float:
    """Return a number that is higher the better a metric is: the metric, or minus the logarithm of a perplexity."""
    if not lower_is_better:
        return metric
    # A perplexity that is too large for a number must leave the values finite.
    return -math.log(min(max(metric, sys.float_info.min), sys.float_info.max))


def metric_of(value: float, *, lower_is_better: bool) -> float:
    """Return the metric of which this is the `goodness`."""
    return math.exp(-value) if lower_is_better else value


def ended_curves(children: Sequence[ChildRecord]) -> Iterator[KnownCurve]:
    """Yield what is known of ended children; those that failed, or took the outcome of others, tell nothing."""
    for child in children:
        outcome = child.outcome
        if outcome is None or outcome.failure or not outcome.curve or child.same_as is not None:
            continue
        yield KnownCurve(
            child_id=child.id,
            values=tuple(goodness(value, lower_is_better=outcome.measure.lower_is_better) for value in outcome.curve),
            stopped=outcome.stopped is not None,
            parameters=outcome.parameters,
            flops=outcome.flops,
            decisions=len(child.tokens),
        )


def curve_in_training(
    child_id: int, decisions: int, so_far: TrainingSoFar, *, lower_is_better: bool, decided_until: int | None = None
) -> KnownCurve:
    """Return what is known of a child in training, behind whose architecture are so many decisions."""
    return KnownCurve(
        child_id=child_id,
        values=tuple(goodness(value, lower_is_better=lower_is_better) for value in so_far.curve),
        ended=False,
        parameters=so_far.parameters,
        flops=so_far.flops,
        decisions=decisions,
        decided_until=decided_until,
    )


def best_of(others: Iterable[KnownCurve]) -> float:
    """Return the best metric that these have reached, as `goodness`; minus infinity without any."""
    return max((other.best for other in others), default=-math.inf)
