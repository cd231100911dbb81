"""The rules as their papers say them: each question goes through all children that are known."""

import statistics
from collections.abc import Callable, Sequence

from child_trainer.outcome import Stopped
from controller.stopping.curve import CurvePrediction
from controller.stopping.halving import Halving
from controller.stopping.median import MedianRule
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper

Judge = Callable[[KnownCurve, Sequence[KnownCurve]], Stopped | None]


def plainly(stopper: Stopper) -> Judge:
    """Return the function that decides as the stopper does, from a plain list of the other children."""
    match stopper:
        case MedianRule():
            return lambda child, others: median(stopper, child, others)
        case Halving():
            return lambda child, others: halving(stopper, child, others)
        case CurvePrediction():
            return lambda child, others: curve(stopper, child, others)
    raise AssertionError(stopper)


def best_of(others: Sequence[KnownCurve]) -> float:
    return max((other.best for other in others), default=float("-inf"))


def median(rule: MedianRule, child: KnownCurve, others: Sequence[KnownCurve]) -> Stopped | None:
    epoch = len(child.values)
    averages = [
        statistics.fmean(other.values[:epoch]) for other in others if other.ended and len(other.values) >= epoch
    ]
    if epoch < rule.min_epochs or not averages or len(averages) < rule.min_children:
        return None
    middle, best = statistics.median(averages), max(child.values)
    if best >= middle or child.best >= best_of(others):
        return None
    return Stopped(
        epoch=epoch,
        reason=f"its best metric, {best:.4g}, is worse than {middle:.4g}, the median of the averages of"
        f" {len(averages)} others until this epoch",
    )


def halving(rule: Halving, child: KnownCurve, others: Sequence[KnownCurve]) -> Stopped | None:
    epoch, bracket = len(child.values), rule.bracket(child.child_id)
    decided = epoch - 1 if child.decided_until is None else child.decided_until
    rung = max((rung for rung in rule.rungs(bracket) if decided < rung <= epoch), default=None)
    if rung is None or sum(other.ended for other in others) < rule.options.min_children:
        return None
    values = [
        other.best_at(rung) for other in others if len(other.values) >= rung and rule.bracket(other.child_id) == bracket
    ]
    own = child.best_at(rung)
    reached, better = len(values) + 1, sum(value > own for value in values)
    going_on = reached // rule.options.halving_factor
    if not going_on or better < going_on or child.best >= best_of(others):
        return None
    which = f" of bracket {bracket}" if rule.options.halving_brackets > 1 else ""
    return Stopped(
        epoch=epoch,
        reason=f"its metric, {own:.4g}, is number {better + 1} of {reached} at this rung{which}, of which"
        f" {'1 goes' if going_on == 1 else f'{going_on} go'} on",
    )


def curve(rule: CurvePrediction, child: KnownCurve, others: Sequence[KnownCurve]) -> Stopped | None:
    """The prediction itself is the rule's: only which children it has is asked of all, each time."""
    ended = [other for other in others if other.ended]
    if len(child.values) < rule.min_epochs or child.best >= best_of(ended):
        return None
    return rule.judge(child, KnownCurves(ended))
