"""Which children of a run are stopped early: its stopper, and the curves by which that decides. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from child_trainer.outcome import Stopped, TrainingSoFar
from cluster.config.run_config import RunConfig
from cluster.search.evaluator import Assignment
from cluster.search.seeding import derive
from controller.searcher import ChildRecord
from controller.stopping.rules import make_stopper
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper, curve_in_training, ended_curves

if TYPE_CHECKING:
    from cluster.runners.trainer import Judge


@dataclass(kw_only=True)
class EarlyStopping:
    """A stopper with the children that it knows; what it decides depends on nothing else.

    Attributes:
        stopper: decides.
        lower_is_better: whether the metric is better the lower it is.
    """

    stopper: Stopper
    lower_is_better: bool
    _known: KnownCurves = field(default_factory=KnownCurves, init=False)
    _ended_ids: set[int] = field(default_factory=set, init=False)

    def read(self, children: Sequence[ChildRecord]) -> None:
        """Add the children that ended since the last call, in completion order."""
        for child in children:
            self._ended_ids.add(child.id)
            self._known.forget(child.id)
        for curve in ended_curves(children):
            self._known.add(curve)

    def judge(self, child: KnownCurve) -> Stopped | None:
        """Return why a child in training is stopped at the epoch that it has reached; `None` if it goes on.

        An attempt that was given up may still report on a child that has ended by another one: nothing is decided for
        it, as the recorded outcome stays.
        """
        return None if child.child_id in self._ended_ids else self.stopper.judge(child, self._known)

    def remember(self, child: KnownCurve) -> None:
        """Remember how far a child in training is, until it has ended: what others are compared with."""
        if child.child_id not in self._ended_ids:
            self._known.add(child)

    def in_training(
        self, child_id: int, decisions: int, so_far: TrainingSoFar, decided_until: int | None = None
    ) -> KnownCurve:
        """Return what is known of a child in training.

        Args:
            child_id: the child's.
            decisions: how many are behind its architecture.
            so_far: its training.
            decided_until: see `KnownCurve`.
        """
        return curve_in_training(
            child_id, decisions, so_far, lower_is_better=self.lower_is_better, decided_until=decided_until
        )


def early_stopping(config: RunConfig) -> EarlyStopping | None:
    """Return what decides which children are stopped early, or `None` if none are."""
    lower_is_better = config.measure.lower_is_better
    seed = derive(config.seed, "early-stop")
    stopper = make_stopper(config.stopping, config.budget.epochs, seed, lower_is_better=lower_is_better)
    return None if stopper is None else EarlyStopping(stopper=stopper, lower_is_better=lower_is_better)


def judge_of(config: RunConfig, history: Callable[[], Sequence[ChildRecord]]) -> Judge | None:
    """Return the judge of a run that trains one child after another, or `None` if none is stopped early.

    Args:
        config: the run's.
        history: returns the ended children in completion order. Nothing else is known, so that a run that was killed
            decides as if it had not been.
    """
    stopping, read = early_stopping(config), 0
    if stopping is None:
        return None

    def judge(assignment: Assignment, so_far: TrainingSoFar) -> Stopped | None:
        nonlocal read
        children = history()
        stopping.read(children[read:])
        read = len(children)
        return stopping.judge(stopping.in_training(assignment.child_id, len(assignment.tokens), so_far))

    return judge
