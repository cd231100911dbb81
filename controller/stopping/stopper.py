"""The interface of a stopper, and what it knows of children. Standard library only.

A stopper is a pure function: it decides on one child from that child's curve and those of others. What it decides is
in the child's outcome (`child_trainer.outcome.Stopped`). Once that is recorded, no later start of the run decides it
again; until then a child that is trained anew is judged anew.
"""

import math
import sys
from array import array
from bisect import insort
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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


class KnownCurves:
    """What is known of a run's children: of those that have ended, in completion order, and of those in training.

    What stoppers ask of the ended ones is kept between their questions, and each child is added to it once. So a
    question costs nearly the same however many have ended; of those in training there are few, one for each worker.

    Args:
        curves: what is known to begin with.
    """

    def __init__(self, curves: Iterable[KnownCurve] = ()) -> None:
        self.ended: list[KnownCurve] = []
        self.complete: list[KnownCurve] = []
        self.best_ended = -math.inf
        self._training: dict[int, KnownCurve] = {}
        self._sorted: dict[Hashable, _Sorted] = {}
        for curve in curves:
            self.add(curve)

    def add(self, curve: KnownCurve) -> None:
        """Add a child that has ended, or what is known now of one in training."""
        self.forget(curve.child_id)
        if not curve.ended:
            self._training[curve.child_id] = curve
            return
        self.ended.append(curve)
        self.best_ended = max(self.best_ended, curve.best)
        if curve.complete:
            self.complete.append(curve)

    def forget(self, child_id: int) -> None:
        """Forget a child in training, if it is known."""
        self._training.pop(child_id, None)

    def training_besides(self, child_id: int) -> Iterator[KnownCurve]:
        """Yield the children in training but this one."""
        return (curve for curve in self._training.values() if curve.child_id != child_id)

    def best_besides(self, child_id: int) -> float:
        """Return the best metric that others than this child in training have reached; minus infinity without any."""
        return max([self.best_ended, *(curve.best for curve in self.training_besides(child_id))])

    def ascending(self, name: Hashable, value_of: Callable[[KnownCurve], float | None]) -> Sequence[float]:
        """Return one value of each ended child that has it, in ascending order.

        Args:
            name: of the values; equal names have equal functions.
            value_of: returns the value of a child, or `None` if it has none.
        """
        known = self._sorted.setdefault(name, _Sorted())
        known.update(self.ended, value_of)
        return known.values


FEW = 16
"""Values that are put into their places one by one; more are sorted together with the others."""


@dataclass(slots=True)
class _Sorted:
    """The values of ended children in ascending order.

    Attributes:
        values: the values.
        read: ended children that they are of.
    """

    values: "array[float]" = field(default_factory=lambda: array("d"))
    read: int = 0

    def update(self, ended: Sequence[KnownCurve], value_of: Callable[[KnownCurve], float | None]) -> None:
        """Add those that have ended since the last call."""
        new = (value_of(ended[place]) for place in range(self.read, len(ended)))
        found = [value for value in new if value is not None]
        self.read = len(ended)
        if len(found) > FEW:
            self.values = array("d", sorted([*self.values, *found]))
        else:
            for value in found:
                insort(self.values, value)


class Stopper(Protocol):
    """Decides which children are stopped early.

    Rules, held by `tests/contracts/stopper.py`:
    1. It is a pure function: two instances that were made alike decide alike, whatever they decided before.
    2. It stops no child that is the best so far.
    """

    def judge(self, child: KnownCurve, known: KnownCurves) -> Stopped | None:
        """Return why a child is stopped at the epoch that it has reached, or `None` if it goes on.

        Args:
            child: in training, with at least one epoch.
            known: all others that are known; what it may say of the child itself in training does not count.
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
