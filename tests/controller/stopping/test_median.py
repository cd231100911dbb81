"""The median rule (Golovin et al. 2017)."""

import pytest

from controller.stopping.median import MedianRule
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper
from tests.contracts.stopper import StopperContract

RULE = MedianRule(min_epochs=1, min_children=3, lower_is_better=False)


class TestMedianRule(StopperContract):
    def make(self) -> Stopper:
        return MedianRule(min_epochs=1, min_children=20, lower_is_better=False)


def known(child_id: int, *values: float, ended: bool = True, stopped: bool = False) -> KnownCurve:
    return KnownCurve(child_id=child_id, values=values, ended=ended, stopped=stopped)


THREE = [known(1, 0.25, 0.5, 0.875), known(2, 0.5, 0.75, 0.8), known(3, 0.125, 0.125, 0.3)]
"""Their averages until epoch 2 are 0.375, 0.625 and 0.125; until epoch 1 they are 0.25, 0.5 and 0.125."""


@pytest.mark.parametrize(
    ("values", "stops"),
    [((0.24,), True), ((0.25,), False), ((0.25, 0.37), True), ((0.375, 0.1), False), ((0.1, 0.375), False)],
)
def test_a_child_below_the_median_of_the_averages_is_stopped(values: tuple[float, ...], stops: bool) -> None:
    """Its best value counts: a child that was good once goes on."""
    assert (RULE.judge(known(9, *values, ended=False), KnownCurves(THREE)) is not None) is stops


def test_the_reason_has_both_numbers() -> None:
    answer = RULE.judge(known(9, 0.25, 0.37, ended=False), KnownCurves(THREE))
    assert answer is not None
    assert answer.reason == (
        "its best metric, 0.37, is worse than 0.375, the median of the averages of 3 others until this epoch"
    )
    assert answer.predicted is None


def test_only_children_that_have_ended_and_reached_the_epoch_count() -> None:
    child = known(9, 0.0, 0.0, ended=False)
    others = [*THREE[:2], known(3, 0.9, stopped=True), known(4, 0.9, 0.9, ended=False)]
    assert RULE.judge(child, KnownCurves(others)) is None
    assert RULE.judge(child, KnownCurves([*THREE[:2], known(3, 0.9, 0.9, stopped=True)])) is not None


def test_each_child_is_trained_the_least_number_of_epochs() -> None:
    rule = MedianRule(min_epochs=2, min_children=3, lower_is_better=False)
    assert rule.judge(known(9, 0.0, ended=False), KnownCurves(THREE)) is None
    assert rule.judge(known(9, 0.0, 0.0, ended=False), KnownCurves(THREE)) is not None


def test_without_others_nothing_is_stopped() -> None:
    rule = MedianRule(min_epochs=1, min_children=0, lower_is_better=False)
    assert rule.judge(known(1, 0.0, ended=False), KnownCurves()) is None
