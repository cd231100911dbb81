"""The median rule (Golovin et al. 2017, Google Vizier, section 3.2.2). Standard library only."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from child_trainer.outcome import Stopped
from controller.stopping.stopper import KnownCurve, best_of, metric_of


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

    def judge(self, child: KnownCurve, others: Sequence[KnownCurve]) -> Stopped | None:
        """See `Stopper.judge`."""
        epoch = len(child.values)
        averages = [
            statistics.fmean(other.values[:epoch]) for other in others if other.ended and len(other.values) >= epoch
        ]
        if epoch < self.min_epochs or not averages or len(averages) < self.min_children:
            return None
        median, best = statistics.median(averages), max(child.values)
        if best >= median or child.best >= best_of(others):
            return None
        shown = [metric_of(value, lower_is_better=self.lower_is_better) for value in (best, median)]
        return Stopped(
            epoch=epoch,
            reason=f"its best metric, {shown[0]:.4g}, is worse than {shown[1]:.4g}, the median of the averages of"
            f" {len(averages)} others until this epoch",
        )
