"""The Gaussian process and the expected improvement against their formulas (spec §19)."""

import math
import random
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor

from controller.searchers.bayesian.surrogate import (
    JITTER,
    LENGTHS,
    MIN_VARIANCE,
    NOISES,
    Settings,
    choose_settings,
    expected_improvement,
    kernel,
    log_regrets,
    matrix,
    normal_scores,
    posterior,
    standardised,
    token_features,
)

POINTS = ((0, 1, 2, 3, 4, 0), (0, 1, 2, 3, 0, 0), (4, 4, 4, 3, 1, 2))
OTHERS = ((0, 1, 2, 3, 4, 1), (2, 2, 2, 2, 2, 2))
TARGETS = np.array([0.3, -1.2, 0.9])


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def encoded(rows: tuple[tuple[int, ...], ...]) -> np.ndarray:
    return matrix(map(token_features, rows))


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0, 16.0])
def test_the_kernel_is_exp_of_the_hamming_distance(length: float) -> None:
    rng = random.Random(0)
    rows = tuple(tuple(rng.randrange(5) for _ in range(12)) for _ in range(40))
    wanted = np.array([[math.exp(-distance(a, b) / length) for b in rows] for a in rows])
    assert np.abs(np.asarray(kernel(length)(encoded(rows))) - wanted).max() < 1e-12


def test_the_posterior_of_three_points_is_the_closed_form() -> None:
    settings = Settings(length=2.0, noise=0.1, variance=0.9)
    rows = encoded(POINTS + OTHERS)
    means, deviations = posterior(rows[:3], TARGETS, rows[3:], settings)

    def covariance(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return 0.9 * math.exp(-distance(a, b) / 2.0)

    prior = np.array([[covariance(a, b) for b in POINTS] for a in POINTS]) + (0.09 + JITTER) * np.eye(3)
    inverse = np.linalg.inv(prior)
    for other, mean, deviation in zip(OTHERS, means, deviations, strict=True):
        k = np.array([covariance(other, point) for point in POINTS])
        assert mean == pytest.approx(k @ inverse @ TARGETS, abs=1e-10)
        assert deviation**2 == pytest.approx(0.9 - k @ inverse @ k, abs=1e-10)


def test_without_noise_the_posterior_goes_through_the_points() -> None:
    rows = encoded(POINTS)
    means, deviations = posterior(rows, TARGETS, rows, Settings(length=2.0, noise=0.0))
    assert means == pytest.approx(TARGETS, abs=1e-6)
    assert deviations == pytest.approx(np.zeros(3), abs=1e-3)


def test_expected_improvement_is_never_negative_and_zero_without_hope() -> None:
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=1_000), rng.exponential(size=1_000)
    assert (expected_improvement(means, deviations, 3.0, 0.01) >= 0).all()
    certain = expected_improvement(np.array([0.5, 1.0, 2.0]), np.zeros(3), 1.0, 0.01)
    assert certain == pytest.approx([0.0, 0.0, 0.99])


def test_expected_improvement_is_the_expectation() -> None:
    """Against the integral of max(0, f - best - xi) under the normal density."""
    grid = np.linspace(-10, 10, 200_001)
    for mean, deviation, best in ((0.2, 0.5, 0.4), (-1.0, 2.0, 0.0), (1.0, 0.1, 0.5)):
        gains = np.maximum(0, mean + deviation * grid - best - 0.01) * norm.pdf(grid)
        value = expected_improvement(np.array([mean]), np.array([deviation]), best, 0.01)[0]
        assert value == pytest.approx(np.trapezoid(gains, grid), abs=1e-6)


def test_the_settings_have_the_largest_likelihood() -> None:
    """Against scikit-learn's likelihood at every place of the grid, with variances around the chosen one."""
    rng = random.Random(1)
    rows = encoded(tuple(tuple(rng.randrange(3) for _ in range(8)) for _ in range(30)))
    targets = standardised([rng.gauss(row[0] + row[5], 0.3) for row in rows])
    chosen = choose_settings(rows, targets)

    def likelihood(settings: Settings) -> float:
        signal, none = kernel(settings.length, settings.variance), cast(Any, None)
        noise = settings.variance * settings.noise + JITTER
        process = GaussianProcessRegressor(signal, alpha=noise, optimizer=none).fit(rows, targets)
        return float(cast(Any, process.log_marginal_likelihood_value_))

    others = [
        Settings(length, noise, chosen.variance * factor)
        for length, noise, factor in product(LENGTHS[:6], NOISES, (0.5, 0.98, 1.02, 2.0))
    ]
    assert likelihood(chosen) > max(map(likelihood, others))


def test_a_smooth_function_has_little_noise_and_a_random_one_a_short_scale() -> None:
    rng = random.Random(1)
    rows = encoded(tuple(tuple(rng.randrange(3) for _ in range(8)) for _ in range(60)))
    smooth = choose_settings(rows, standardised((rows[:, 0] + 2 * rows[:, 4]).tolist()))
    assert smooth.length >= 5
    assert smooth.noise == 0.001
    assert choose_settings(rows, standardised([rng.gauss(0, 1) for _ in rows])).length == 1.0
    assert choose_settings(rows, np.zeros(60)).variance == MIN_VARIANCE


def test_normal_scores_keep_the_order_and_nothing_else() -> None:
    scores = normal_scores([0.1, 0.9, 0.85, 0.9])
    assert scores == pytest.approx(norm.ppf([0.125, 0.75, 0.375, 0.75]))
    assert normal_scores([10.0, 90.0, 85.0, 90.0]).tolist() == scores.tolist()


def test_log_regrets_tell_the_good_ones_apart() -> None:
    rewards = [0.1, 0.9, 0.94, 0.942, 0.84]
    distances = [0.842, 0.042, 0.002, 0.0, 0.102]
    assert log_regrets(rewards) == pytest.approx(standardised([-math.log(d + 0.0042) for d in distances]))
    targets = log_regrets(rewards)
    assert targets[3] - targets[1] > targets[4] - targets[0]  # 0.042 apart, and 0.74
    assert log_regrets([0.5, 0.5]).tolist() == [0.0, 0.0]
    assert np.isfinite(log_regrets([0.5, 0.5, 0.5, 0.1])).all()


def test_standardised_targets_have_mean_0_and_deviation_1() -> None:
    assert standardised([1.0, 3.0]).tolist() == [-1.0, 1.0]
    assert standardised([2.0, 2.0]).tolist() == [0.0, 0.0]


def test_names_are_columns_and_an_absent_one_is_zero() -> None:
    assert matrix([{"a": 1.0}, {"b": 2.0, "a": 3.0}, {}]).tolist() == [[1.0, 0.0], [3.0, 2.0], [0.0, 0.0]]
