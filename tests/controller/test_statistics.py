import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.statistics import (
    Interval,
    bootstrap_band,
    bootstrap_draws,
    bootstrap_interval,
    incumbents,
    num_within,
    step_function,
    top_mean_curve,
    top_means,
)

MAYBE = st.lists(st.one_of(st.none(), st.integers(0, 5).map(float)), max_size=12)


def test_top_means_by_hand() -> None:
    found = [(str(number), float(number)) for number in range(1, 21)]
    assert top_means(found) == (20.0, 18.0, 13.0)  # 20; 16 to 20; 6 to 20
    assert top_means(reversed(found)) == (20.0, 18.0, 13.0)


def test_an_architecture_counts_once_by_its_best_reward() -> None:
    assert top_means([("a", 3.0), ("a", 5.0), ("a", 4.0), ("b", 1.0)], tops=(1, 2)) == (5.0, 3.0)


def test_fewer_architectures_are_all_averaged_and_rewards_may_be_negative() -> None:
    assert top_means([("a", -3.0), ("b", -1.0)]) == (-1.0, -2.0, -2.0)


def test_without_children_there_is_no_best() -> None:
    with pytest.raises(ValueError, match="at least one child"):
        top_means([])


def test_each_point_averages_all_children_so_far_and_an_incomplete_step_has_none() -> None:
    found = [("a", 0.1), ("b", 0.9), ("c", 0.2), ("b", 0.8), ("d", 0.5), ("e", 1.0), ("f", 9.0)]
    assert top_mean_curve(found, step=2, tops=(1, 2)) == [
        (0.9, pytest.approx(0.5)),
        (0.9, pytest.approx(0.55)),
        (1.0, pytest.approx(0.95)),
    ]
    assert top_mean_curve(found[:1], step=2) == []


@given(MAYBE, st.booleans())
def test_the_incumbent_is_the_first_best_child_so_far(metrics: list[float | None], lower: bool) -> None:
    for index, incumbent in enumerate(incumbents(metrics, lower_is_better=lower)):
        known = [m for m in metrics[: index + 1] if m is not None]
        assert incumbent == (metrics.index(min(known) if lower else max(known)) if known else None)


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(0, 40))
def test_num_within_is_the_longest_prefix_that_the_limit_pays_for(costs: list[int], limit: int) -> None:
    paid = [n for n in range(len(costs) + 1) if sum(costs[:n]) <= limit]
    assert num_within(costs, limit) == max(paid)


@given(st.lists(st.integers(0, 9), max_size=9).map(sorted), st.lists(st.integers(-1, 10), max_size=6))
def test_a_step_function_keeps_a_value_until_the_next(starts: list[int], grid: list[int]) -> None:
    values = [f"{n}" for n in range(len(starts))]
    naive = [next((v for a, v in reversed(list(zip(starts, values, strict=True))) if a <= g), None) for g in grid]
    assert step_function(starts, values, grid) == naive


def test_an_interval_by_hand() -> None:
    draws = [[0, 0], [0, 1], [1, 1], [1, 0]]  # the means 1, 2, 3 and 2
    assert bootstrap_interval([1.0, 3.0], draws, level=1.0) == Interval(2.0, 1.0, 3.0)
    assert bootstrap_interval([1.0, 3.0], draws, level=0.5) == Interval(2.0, 2.0, 2.0)


def test_draws_depend_on_the_seed_alone() -> None:
    assert bootstrap_draws(9, 1, 5) == bootstrap_draws(9, 1, 5) != bootstrap_draws(9, 2, 5)
    assert all(len(draw) == 9 and set(draw) <= set(range(9)) for draw in bootstrap_draws(9, 1, 50))
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        bootstrap_draws(1, 0)


def test_intervals_contain_the_true_mean_as_often_as_their_level() -> None:
    """400 times 30 normal values: a little less often than 95 %, as known of percentiles of few values."""
    rng = random.Random(5)
    draws = bootstrap_draws(30, 1, 400)
    covered, widths = 0, []
    for _ in range(400):
        found = bootstrap_interval([rng.gauss(7, 2) for _ in range(30)], draws)
        covered += found.low <= 7 <= found.high
        widths.append(found.high - found.low)
    assert 0.90 <= covered / 400 <= 0.98
    assert statistics.fmean(widths) == pytest.approx(2 * 1.96 * 2 / math.sqrt(30), rel=0.06)


def test_a_band_has_an_interval_where_all_seeds_have_a_value() -> None:
    draws = bootstrap_draws(3, 4)
    curves = [[None, 1.0, 2.0], [0.5, 2.0, 2.0], [0.25, 6.0, 2.0]]
    assert bootstrap_band(curves, draws) == [None, bootstrap_interval([1.0, 2.0, 6.0], draws), Interval(2.0, 2.0, 2.0)]
