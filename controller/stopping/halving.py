"""Asynchronous successive halving, ASHA (Li et al. 2020, arXiv 1810.05934). Standard library only.

In the paper a worker that is free promotes a child of a rung, and a child that is not promoted waits there, perhaps
for ever. Here children do not wait: each is decided on when it reaches a rung, as in the variants of ASHA that stop.
"""

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from functools import partial

from child_trainer.outcome import Stopped
from controller.stopping.options import StoppingOptions
from controller.stopping.stopper import KnownCurve, KnownCurves, metric_of


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Lets the best fraction of those that have reached a rung go on.

    A rung is a number of epochs, in bracket s the r * eta^(s + k) for k = 0, 1, ... While fewer than eta children have
    reached a rung, all go on: none of them can be among the best one in eta. A child that was not decided on at a rung,
    as nobody could be asked, is decided on by its values until there at its next epoch.

    Attributes:
        options: eta is `halving_factor`, r is `stop_min_epochs`.
        epochs: of a whole training.
        lower_is_better: whether the metric is better the lower it is.
    """

    options: StoppingOptions
    epochs: int
    lower_is_better: bool

    def judge(self, child: KnownCurve, known: KnownCurves) -> Stopped | None:
        """See `Stopper.judge`."""
        epoch, bracket = len(child.values), self.bracket(child.child_id)
        decided = epoch - 1 if child.decided_until is None else child.decided_until
        rung = max((rung for rung in self.rungs(bracket) if decided < rung <= epoch), default=None)
        if rung is None or len(known.ended) < self.options.min_children:
            return None
        at_rung, own = partial(self._at_rung, rung=rung, bracket=bracket), child.best_at(rung)
        ended = known.ascending((self, rung, bracket), at_rung)
        training = [value for value in map(at_rung, known.training_besides(child.child_id)) if value is not None]
        reached = len(ended) + len(training) + 1
        better = len(ended) - bisect_right(ended, own) + sum(value > own for value in training)
        going_on = reached // self.options.halving_factor
        if not going_on or better < going_on or child.best >= known.best_besides(child.child_id):
            return None
        metric = metric_of(own, lower_is_better=self.lower_is_better)
        which = f" of bracket {bracket}" if self.options.halving_brackets > 1 else ""
        return Stopped(
            epoch=epoch,
            reason=f"its metric, {metric:.4g}, is number {better + 1} of {reached} at this rung{which}, of which"
            f" {'1 goes' if going_on == 1 else f'{going_on} go'} on",
        )

    def _at_rung(self, curve: KnownCurve, rung: int, bracket: int) -> float | None:
        """Return a child's metric at a rung of a bracket, if it is of the bracket and has reached the rung."""
        if len(curve.values) < rung or self.bracket(curve.child_id) != bracket:
            return None
        return curve.best_at(rung)

    def rungs(self, bracket: int) -> tuple[int, ...]:
        """Return the epochs at which children of a bracket are decided on."""
        rungs = map(self.options.rung, itertools.count(bracket))
        return tuple(itertools.takewhile(lambda rung: rung < self.epochs, rungs))

    def bracket(self, child_id: int) -> int:
        """Return a child's bracket: the brackets take turns, each with as many children as Hyperband gives it.

        That is (S + 1) / (S - s + 1) * eta^(S - s) of bracket s, where S is the last one (Li et al. 2018, algorithm 1).
        """
        last, eta = self.options.halving_brackets - 1, self.options.halving_factor
        if not last:
            return 0  # without the sizes, as this is asked of each child that is known
        sizes = [-(-(last + 1) * eta ** (last - s) // (last - s + 1)) for s in range(last + 1)]
        place = (child_id - 1) % sum(sizes)
        return next(s for s, end in enumerate(itertools.accumulate(sizes)) if place < end)
