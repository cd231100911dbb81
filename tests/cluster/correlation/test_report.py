"""The table of correlations, from scores and a truth that are made up."""

import math
from dataclasses import replace

import pytest

from child_trainer.architectures.architecture import Architecture
from cluster.correlation.report import Correlation, Judged
from cluster.correlation.shared_scores import Sample, Scored
from controller.spaces.nasbench201 import NasBench201Space

SPACE = NasBench201Space(cells_per_stage=1, stem_channels=2)


def judged(number: int, truth: float) -> Judged:
    """An architecture whose scores with refit are right, whose other one is wrong, and whose size says nothing."""
    tokens = (number // 25, number // 5 % 5, number % 5, 0, 0, 0)
    architecture: Architecture = SPACE.decode(tokens)
    return Judged(Scored(Sample(tokens, architecture), truth / 2, truth**2, -truth, 100, 1000 * (number % 2)), truth)


CORRELATION = Correlation(
    run="demo",
    task="digits",
    steps=1200,
    truth="made up",
    judged=[judged(number, number / 100) for number in range(50)],
    unjudged=1,
)


def test_each_predictor_is_compared_with_the_truth_over_all_and_within_the_best_tenth() -> None:
    found = CORRELATION.correlations
    assert [each.truth for each in CORRELATION.best] == [number / 100 for number in (49, 48, 47, 46, 45)]
    plain, size, flops = (found[key] for key in ("plain", "parameters", "flops"))
    for refit in (found["refit"], found["likelihood"]):
        assert (refit.kendall, refit.best_kendall) == (pytest.approx(1), pytest.approx(1))
    assert (plain.spearman, plain.best_spearman) == (pytest.approx(-1), pytest.approx(-1))
    assert (size.kendall, size.best_kendall) == (None, None)
    # Of two with different FLOPs the better one has more 325 times, and fewer 300 times; of the best five three each.
    assert (flops.kendall, flops.best_kendall) == (pytest.approx(25 / math.sqrt(1225 * 625)), pytest.approx(0))


def test_the_table_has_a_line_for_each_and_a_dash_for_what_is_not_defined() -> None:
    lines = list(CORRELATION.lines())
    assert lines[:3] == [
        "demo: 50 random architectures, scored on digits with the shared weights after 1,200 steps",
        "truth: made up",
        "left out: 1 whose score or training failed",
    ]
    assert lines[4].split() == ["Kendall", "Spearman", "within", "the", "best", "5:", "Kendall", "Spearman"]
    assert lines[5].split() == ["score,", "normalisation", "refit", "1.00", "1.00", "1.00", "1.00"]
    assert lines[8].split() == ["parameters", "-", "-", "-", "-"]
    assert len({len(line) for line in lines[4:10]}) == 1
    assert lines[11] == (
        "Without any relation, Kendall of 50 lies within ±0.19 in 95 of 100 cases, and of 5 within ±0.80."
    )


def test_too_few_within_the_best_tenth_have_no_figures() -> None:
    few = replace(CORRELATION, judged=CORRELATION.judged[:40])
    lines = list(few.lines())
    assert lines[4].split() == ["Kendall", "Spearman"]
    assert lines[5].split() == ["score,", "normalisation", "refit", "1.00", "1.00"]
    assert lines[-1].endswith("Within the best tenth there are too few: 41 architectures have 5 there.")
    assert few.correlations["refit"].best_kendall is None
    assert replace(CORRELATION, judged=CORRELATION.judged[:41]).correlations["refit"].best_kendall is not None


def test_plain_data_has_every_architecture() -> None:
    data = CORRELATION.to_json()
    assert data["predictors"]["refit"]["kendall"] == pytest.approx(1)
    assert data["predictors"]["parameters"]["best_kendall"] is None
    assert data["samples"][1] == {
        "tokens": [0, 0, 1, 0, 0, 0],
        "architecture_id": SPACE.decode((0, 0, 1, 0, 0, 0)).id,
        "truth": 1 / 100,
        "refit": 1 / 200,
        "likelihood": (1 / 100) ** 2,
        "plain": -1 / 100,
        "parameters": 100,
        "flops": 1000,
    }
    assert (data["best"], data["architectures"], data["left_out"]) == (5, 50, 1)
