"""Learning-curve prediction (Baker et al. 2018)."""

import math
from dataclasses import replace

import numpy as np
import pytest

from controller.statistics import spearman
from controller.stopping import curve_model
from controller.stopping.curve import CurvePrediction
from controller.stopping.curve_model import CurveModel, features
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper, goodness, metric_of
from tests.contracts.stopper import StopperContract
from tests.controller.stopping.curves import CURVES, so_far, stopped, synthetic

FEW = 60
"""Draws of a model's settings in place of 1,000, which take a second for each epoch."""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_model, "DRAWS", FEW)


def prediction(min_children: int = 20, delta: float = 0.05, *, lower_is_better: bool = False) -> CurvePrediction:
    return CurvePrediction(
        min_epochs=1, min_children=min_children, delta=delta, seed=3, lower_is_better=lower_is_better
    )


class TestCurvePrediction(StopperContract):
    def make(self) -> Stopper:
        return prediction()


def test_from_the_first_third_of_a_curve_its_end_is_predicted() -> None:
    """Synthetic curves: 100 to learn from, and the rank correlation over 100 others."""
    curves = synthetic(200, epochs=30, seed=1, noise=0.002)
    model = CurveModel.fitted(curves[:100], epoch=10, seed=0)
    pairs = [(model.predict(so_far(curve, 10))[0], curve.best) for curve in curves[100:]]
    correlation = spearman(pairs)
    assert correlation is not None
    assert correlation > 0.95
    errors = [abs(predicted - final) for predicted, final in pairs]
    deviation = model.predict(curves[100])[1]
    assert sum(error < 2 * deviation for error in errors) > 80  # a normal distribution has 95 of 100 there


def test_a_later_epoch_is_predicted_better() -> None:
    curves = synthetic(100, epochs=30, seed=2)
    early, late = (CurveModel.fitted(curves, epoch, seed=0).deviation for epoch in (1, 10))
    assert late < early / 2


def test_features_are_the_curve_its_differences_their_moments_and_sizes() -> None:
    curve = KnownCurve(child_id=1, values=(0.1, 0.3, 0.6, 0.9), parameters=9, flops=99, decisions=7)
    series = [[0.1, 0.3, 0.6], [0.2, 0.3], [0.1]]
    moments = [moment for each in series for moment in (np.mean(each), np.std(each))]
    expected = [*(value for each in series for value in each), *moments, math.log(10), math.log(100), 7]
    assert features(curve, 3) == pytest.approx(expected)
    assert len(features(curve, 1)) == 1 + 2 + 3


def test_curves_that_are_all_alike_are_predicted_as_they_are() -> None:
    curves = [replace(CURVES[0], child_id=number) for number in range(1, 21)]
    predicted, deviation = CurveModel.fitted(curves, 4, seed=0).predict(curves[0])
    assert predicted == pytest.approx(curves[0].best)
    assert deviation == curve_model.MIN_DEVIATION


def test_nothing_is_predicted_before_enough_curves_are_complete() -> None:
    child = so_far(replace(CURVES[0], child_id=99, values=(0.0,) * 6), 6)
    some = [stopped(curve, 6) if curve.child_id <= 5 else curve for curve in CURVES[:24]]
    assert prediction().judge(child, KnownCurves(some)) is None
    answer = prediction().judge(child, KnownCurves(CURVES[:24]))
    assert answer is not None
    assert answer.predicted is not None
    assert answer.predicted < max(curve.best for curve in CURVES[:24])
    assert "to exceed the best child" in answer.reason


def test_a_model_stays_until_there_are_twice_as_many_curves() -> None:
    stopper, child = prediction(), so_far(CURVES[59], 2)
    for count in (20, 30, 39, 40, 59):
        stopper.judge(child, KnownCurves(CURVES[:count]))
    assert {(epoch, len(children)) for epoch, children in stopper._models} == {(2, 20), (2, 40)}


def test_a_model_is_that_of_the_children_that_it_was_fitted_to() -> None:
    stopper, child = prediction(), so_far(CURVES[59], 2)
    stopper.judge(child, KnownCurves(CURVES[1:21]))
    first = KnownCurves(CURVES[:20])
    assert stopper.judge(child, first) == prediction().judge(child, first)
    assert len(stopper._models) == 2


def test_of_perplexities_the_lower_is_the_better() -> None:
    """The mirror image of accuracies: the same children are stopped, with the metric in its own unit."""
    child = so_far(replace(CURVES[0], child_id=99, values=(0.0,) * 6), 6)
    known = KnownCurves(CURVES)
    straight, mirrored = prediction().judge(child, known), prediction(lower_is_better=True).judge(child, known)
    assert straight is not None
    assert straight.predicted is not None
    assert mirrored is not None
    assert mirrored.predicted == pytest.approx(math.exp(-straight.predicted))
    for metric in (1.5, 80.0):
        assert metric_of(goodness(metric, lower_is_better=True), lower_is_better=True) == pytest.approx(metric)
    assert goodness(2.0, lower_is_better=True) > goodness(3.0, lower_is_better=True)
    assert math.isfinite(goodness(math.inf, lower_is_better=True))
