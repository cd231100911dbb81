"""T17.6: the article's formula, what follows from it, and the two rules that take its place."""

import math

import pytest

from child_trainer.seed_agem.modes import (
    Mode,
    choose_mode,
    literal_mode,
    mode_by_formula,
    mode_by_prose,
    selection_probability,
    terms,
)
from child_trainer.seed_agem.options import SubnetworkOptions

EVEN = (1.0, 1.0, 1.0)
ERRORS = [n / 10_000 for n in range(10_001)]
THRESHOLD = (math.sqrt(1 + 4 * 1.52 * 0.8) - 1) / (2 * 1.52)
"""The positive root of 1.52 L² + L - 0.8, the sum of the three terms."""
GAMMAS = [EVEN, (0.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (-3.0, 0.5, -2.0), (1.0, -4.0, 0.1), (-5.0, -5.0, -5.0)]


def test_the_terms_are_what_the_articles_cosines_come_to() -> None:
    for error in ERRORS[::100]:
        angle = -math.acos(error)
        c1, c2, c3 = terms(error)
        assert c1 == pytest.approx(math.cos(angle), abs=1e-12)
        assert c2 == pytest.approx(0.4 * math.cos(2 * angle), abs=1e-12)
        assert c2 == pytest.approx(0.4 * (2 * error**2 - 1), abs=1e-12)
        assert c3 == pytest.approx(0.4 * (1.8 * error**2 - 1), abs=1e-12)


def test_to_the_letter_a_large_error_is_what_selects_the_individual_mode() -> None:
    assert pytest.approx(0.4676, abs=1e-4) == THRESHOLD
    for error in ERRORS:
        assert (selection_probability(error, EVEN) > 0.5) == (error > THRESHOLD)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_to_the_letter_joint_is_out_of_reach_whatever_the_weights(gamma: tuple[float, float, float]) -> None:
    assert all(terms(error)[1] > 0 for error in ERRORS if terms(error)[2] > 0)
    assert Mode.JOINT not in {literal_mode(error, gamma) for error in ERRORS}


def test_to_the_letter_even_weights_never_select_iterative_and_nothing_below_the_threshold() -> None:
    chosen = {error: literal_mode(error, EVEN) for error in ERRORS}
    assert Mode.ITERATIVE not in chosen.values()
    assert {error for error, mode in chosen.items() if mode is None} == {e for e in ERRORS if e < THRESHOLD}


def test_by_the_formula_a_high_accuracy_is_individual_and_every_mode_can_be_reached() -> None:
    assert mode_by_formula(0.9, EVEN) is Mode.INDIVIDUAL
    assert mode_by_formula(0.2, EVEN) is Mode.ITERATIVE
    assert {mode_by_formula(accuracy, (-3.0, 0.0, 0.0)) for accuracy in ERRORS} == {Mode.ITERATIVE, Mode.JOINT}
    assert {mode_by_formula(error, EVEN) for error in ERRORS} == {Mode.INDIVIDUAL, Mode.ITERATIVE}


@pytest.mark.parametrize(
    ("accuracy", "similarity", "mode"),
    [
        (0.5, 0.5, Mode.INDIVIDUAL),
        (1.0, 1.0, Mode.INDIVIDUAL),
        (0.49, 0.5, Mode.ITERATIVE),
        (0.0, 1.0, Mode.ITERATIVE),
        (0.49, 0.49, Mode.JOINT),
        (0.5, 0.49, Mode.JOINT),
    ],
)
def test_the_prose_is_a_whole_table(accuracy: float, similarity: float, mode: Mode) -> None:
    assert mode_by_prose(accuracy, similarity, SubnetworkOptions()) is mode
    assert choose_mode(accuracy, similarity, SubnetworkOptions()) is mode


def test_the_thresholds_and_the_rule_are_options() -> None:
    strict = SubnetworkOptions(accuracy_threshold=0.9, agreement_threshold=0.95)
    assert choose_mode(0.8, 0.96, strict) is Mode.ITERATIVE
    assert choose_mode(0.95, 0.94, strict) is Mode.JOINT
    by_formula = SubnetworkOptions(mode_rule="formula", mode_weights=(-3.0, 0.0, 0.0))
    assert choose_mode(0.8, 0.0, by_formula) is Mode.JOINT
    assert choose_mode(0.7, 1.0, by_formula) is Mode.ITERATIVE


def test_the_probability_does_not_overflow() -> None:
    assert selection_probability(1.0, (1e6, 0, 0)) == 1.0
    assert selection_probability(1.0, (-1e6, 0, 0)) == 0.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"true_label_weight": -0.1}, "`true_label_weight` must be 0 or more, got -0.1"),
        ({"true_label_weight": 0.0, "teacher_weight": 0.0}, "must not both be 0"),
        ({"teacher_decay": 1.0}, "`teacher_decay` must be at least 0 and below 1, got 1.0"),
        ({"share_epochs": 0}, "`share_epochs` must be at least 1, got 0; `--no-share` shares nothing"),
        ({"accuracy_threshold": 1.5}, "`accuracy_threshold` must be from 0 to 1, got 1.5"),
        ({"mode_weights": (1.0, math.inf, 0.0)}, "`mode_weights` must be finite numbers"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubnetworkOptions(**wrong)  # pyright: ignore[reportArgumentType]
