"""The rules of `controller.stopping.stopper.Stopper`. An implementation subclasses and supplies `make`."""

import random
from collections.abc import Sequence

from child_trainer.outcome import Stopped
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper
from tests.controller.stopping.curves import CURVES, EPOCHS, so_far

Question = tuple[KnownCurve, Sequence[KnownCurve]]


class StopperContract:
    def make(self) -> Stopper:
        """Return a stopper of accuracies over `EPOCHS` epochs that knows enough after 20 children."""
        raise NotImplementedError

    def questions(self) -> list[Question]:
        """Return some of the questions of a search in which nothing is stopped."""
        return [
            (so_far(child, epoch), CURVES[: child.child_id - 1])
            for child in CURVES[10:60:3]
            for epoch in (1, 2, EPOCHS // 2, EPOCHS - 1)
        ]

    def answers(self, questions: Sequence[Question]) -> list[Stopped | None]:
        stopper = self.make()
        return [stopper.judge(child, KnownCurves(others)) for child, others in questions]

    def test_it_stops_some_at_the_epoch_that_they_have_reached_and_says_why(self) -> None:
        questions = self.questions()
        stopped = [
            (child, answer) for (child, _), answer in zip(questions, self.answers(questions), strict=True) if answer
        ]
        assert stopped
        assert all(answer.epoch == len(child.values) and answer.reason for child, answer in stopped)

    def test_what_it_decided_before_changes_nothing(self) -> None:
        questions = self.questions()
        shuffled = random.Random(0).sample(range(len(questions)), len(questions))
        again = self.answers([questions[place] for place in shuffled])
        expected = self.answers(questions)
        assert again == [expected[place] for place in shuffled]

    def test_it_never_stops_the_best_child_so_far(self) -> None:
        others = KnownCurves(CURVES[:40])
        best = max(other.best for other in CURVES[:40])
        for values in ((best,), (0.0, best), (best, 0.0)):
            child = KnownCurve(child_id=41, values=values, ended=False)
            assert self.make().judge(child, others) is None
