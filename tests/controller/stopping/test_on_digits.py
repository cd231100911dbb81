"""The curves of a random search on digits, judged by each rule as in a search."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from controller.stopping import curve_model
from controller.stopping.options import StoppingOptions
from controller.stopping.rules import make_stopper
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper
from tests.controller.stopping.curves import on_digits, so_far, stopped


def judged(curves: Sequence[KnownCurve], stopper: Stopper) -> list[KnownCurve]:
    """Return what a search that trains one child after another knows at its end."""
    known = KnownCurves()
    for curve in curves:
        end = len(curve.values)
        epoch = next((n for n in range(1, end) if stopper.judge(so_far(curve, n), known)), end)
        known.add(curve if epoch == end else stopped(curve, epoch))
    return known.ended


def make(options: StoppingOptions, epochs: int) -> Stopper:
    stopper = make_stopper(options, epochs, 0, lower_is_better=False)
    assert stopper is not None
    return stopper


def in_order(seed: int) -> list[KnownCurve]:
    """Return the curves in another order; with 0 in their own."""
    curves = on_digits()
    order = random.Random(seed).sample(curves, len(curves)) if seed else curves
    return [replace(curve, child_id=number) for number, curve in enumerate(order, 1)]


def share_trained(known: Sequence[KnownCurve], curves: Sequence[KnownCurve]) -> float:
    return sum(len(child.values) for child in known) / sum(len(curve.values) for curve in curves)


@pytest.mark.parametrize("order", range(3))
def test_of_200_recorded_children_none_is_stopped_that_would_have_been_the_best(
    order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 100 are trained to their end, and 200 others are judged with the usual delta, 0.05."""
    monkeypatch.setattr(curve_model, "DRAWS", 100)  # of 1,000, which take a second and a half for each epoch
    curves = in_order(order)
    assert len(curves) == 300
    known = judged(curves, make(StoppingOptions(early_stop="curve", stop_min_epochs=1), len(curves[0].values)))
    assert not any(child.stopped for child in known[:100])
    best = 0.0
    for curve, child in zip(curves, known, strict=True):
        assert not (child.stopped and curve.best > best), f"child {curve.child_id} would have been the best"
        best = max(best, child.best)
    assert best == max(curve.best for curve in curves)
    assert share_trained(known[100:], curves[100:]) < 0.5


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (StoppingOptions(early_stop="median"), 0.8),
        (StoppingOptions(early_stop="halving", halving_factor=2), 0.6),
    ],
    ids=["median", "halving"],
)
def test_as_they_usually_decide_the_other_rules_find_the_best_child_too(options: StoppingOptions, most: float) -> None:
    for order in range(3):
        curves = in_order(order)
        known = judged(curves, make(options, len(curves[0].values)))
        assert max(child.best for child in known) == max(curve.best for curve in curves)
        assert share_trained(known, curves) < most
