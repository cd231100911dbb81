"""The median rule (Golovin et al. 2017, Google Vizier, section 3.2.2). Standard library only."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from child_trainer.outcome import Stopped
from controller.stopping.stopper import KnownCurve, KnownCurves, metric_of


@dataclass(frozen=True, kw_only=True)
class MedianRule:
    """Stops a child whose best value so far is worse than the median of the others' running averages.

    A running average is the mean of the values up to the child's epoch, of each child that has ended and reached it.

    Attributes:
        min_epochs: epochs that each child is trained.
        min_children: ended children that must have reached the epoch.
        lower_is_better: whether the metric is better the lower it is.
    """

    min_epochs: int
    min_children: int
    lower_is_better: bool

    def judge(self, child: KnownCurve, known: KnownCurves) -> Stopped | None:
        """See `Stopper.judge`."""
        epoch = len(child.values)
        if epoch < self.min_epochs:
            return None
        averages = known.ascending(("average", epoch), partial(_average, epoch=epoch))
        if not averages or len(averages) < self.min_children:
            return None
        median, best = _median(averages), max(child.values)
        if best >= median or child.best >= known.best_besides(child.child_id):
            return None
        shown = [metric_of(value, lower_is_better=self.lower_is_better) for value in (best, median)]
        return Stopped(
            epoch=epoch,
            reason=f"its best metric, {shown[0]:.4g}, is worse than {shown[1]:.4g}, the median of the averages of"
            f" {len(averages)} others until this epoch",
        )


def _average(curve: KnownCurve, epoch: int) -> float | None:
    """Return the mean of a child's values until an epoch, if it has reached it."""
    return statistics.fmean(curve.values[:epoch]) if len(curve.values) >= epoch else None


def _median(ascending: Sequence[float]) -> float:
    """Return the median of values in ascending order; `statistics.median` would sort them at each question."""
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2
