"""Curves of how good a search's children are as it progresses, and their confidence over seeds. Standard library only.

The statistic of the paper's figure 6 is Zoph & Le 2017 (arXiv 1611.01578), section 4.2, control 2; spec section 2.4
(b). Intervals are Efron's percentile bootstrap (Efron & Tibshirani 1993, section 13.3).
"""

import math
import random
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

TOPS = (1, 5, 15)
"""How many of the best architectures are averaged: the figure's three curves."""

CURVE_STEP = 400
"""Children between two points of the figure's curves."""

RESAMPLES = 1000
"""Bootstrap draws from which an interval is computed."""

LEVEL = 0.95
"""Share of the draws' means that lie in the interval."""

T = TypeVar("T")

NamedReward = tuple[str, float]
"""An architecture's name, equal for equal architectures, and the reward of a child of it."""


def top_means(rewards: Iterable[NamedReward], tops: Sequence[int] = TOPS) -> tuple[float, ...]:
    """Return the mean reward of the best 1, 5 and 15 different architectures.

    Where there are fewer, the mean is of all.
    An architecture that was tried several times counts once, by its best reward: a policy that samples one architecture
    over and over has found one.

    Raises:
        ValueError: `rewards` is empty.
    """
    best: dict[str, float] = {}
    for name, reward in rewards:
        best[name] = max(reward, best.get(name, reward))
    if not best:
        raise ValueError("`rewards` must have at least one child, got none")
    ranked = sorted(best.values(), reverse=True)
    return tuple(statistics.fmean(ranked[:top]) for top in tops)


def top_mean_curve(
    rewards: Sequence[NamedReward], step: int = CURVE_STEP, tops: Sequence[int] = TOPS
) -> list[tuple[float, ...]]:
    """Return the `top_means` of the first 400 children, of the first 800 and so on.

    The children after the last multiple of the step have no point of their own.

    Args:
        rewards: in the order in which the children ended.
        step: children between two points.
        tops: how many of the best architectures are averaged.
    """
    return [top_means(rewards[:end], tops) for end in range(step, len(rewards) + 1, step)]


def num_within(costs: Sequence[float], limit: float) -> int:
    """Return how many children, from the first on, cost no more than the limit in all."""
    return bisect_right(list(accumulate(costs)), limit)


def incumbents(metrics: Sequence[float | None], *, lower_is_better: bool = False) -> list[int | None]:
    """Return, for each child, the index of the best child so far.

    Of equal ones the earlier is the best. The index is `None` until a child has a metric.

    Args:
        metrics: in the order in which the children ended; `None` for those that failed.
        lower_is_better: whether the best has the lowest metric.
    """
    sign = -1 if lower_is_better else 1
    best: int | None = None
    indices: list[int | None] = []
    for index, metric in enumerate(metrics):
        best_metric = None if best is None else metrics[best]
        if metric is not None and (best_metric is None or sign * metric > sign * best_metric):
            best = index
        indices.append(best)
    return indices


def step_function(starts: Sequence[float], values: Sequence[T], grid: Sequence[float]) -> list[T | None]:
    """Return the values at the grid's places of a function that keeps each value until the next one starts.

    The value is `None` before the first start.

    Args:
        starts: where each value starts, ascending; of several that start at one place the last counts.
        values: one for each start.
        grid: the places, in any order.
    """
    indices = [bisect_right(starts, place) - 1 for place in grid]
    return [values[index] if index >= 0 else None for index in indices]


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean over seeds, and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_draws(count: int, seed: int, times: int = RESAMPLES) -> list[list[int]]:
    """Return `times` draws, with replacement, of `count` of the numbers 0 to `count` - 1.

    Raises:
        ValueError: `count` is below 2, so that all draws would be equal.
    """
    if count < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {count}")
    rng = random.Random(seed)
    return [rng.choices(range(count), k=count) for _ in range(times)]


def bootstrap_interval(values: Sequence[float], draws: Sequence[Sequence[int]], level: float = LEVEL) -> Interval:
    """Return the mean of the values, with the percentile interval of the draws' means.

    Args:
        values: one for each seed.
        draws: from `bootstrap_draws`; the same ones for all values that are compared or that lie on one curve.
        level: share of the draws' means within the interval.
    """
    means = sorted([statistics.fmean([values[index] for index in draw]) for draw in draws])
    outside = round((1 - level) / 2 * len(means))
    return Interval(statistics.fmean(values), means[outside], means[-1 - outside])


def bootstrap_band(curves: Sequence[Sequence[float | None]], draws: Sequence[Sequence[int]]) -> list[Interval | None]:
    """Return the interval at each place of a grid; `None` where some seed has no value.

    Args:
        curves: for each seed the values on the same grid.
        draws: from `bootstrap_draws`.
    """
    band: list[Interval | None] = []
    for column in zip(*curves, strict=True):
        values = [value for value in column if value is not None]
        band.append(bootstrap_interval(values, draws) if len(values) == len(curves) else None)
    return band


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return the rank correlation of the pairs' first and second values, in [-1, 1].

    Equal values have the mean of their ranks. It is `None` unless there are two different values on each side.
    """
    first, second = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return statistics.correlation(first, second)


def kendall(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Kendall's rank correlation tau-b of the pairs' first and second values, in [-1, 1].

    Of any two pairs, it counts those that have one order on both sides, less those that have opposite orders, as a
    share of the geometric mean of those that differ on each side (Kendall 1945, Biometrika 33). It is `None` unless
    there are two different values on each side.
    """
    ordered = sorted(pairs)
    both = _num_equal(ordered)
    first, second = (_num_equal([pair[side] for pair in pairs]) for side in (0, 1))
    total = len(pairs) * (len(pairs) - 1) // 2
    if total in (first, second):
        return None
    # Of pairs that are equal on the first side the second values ascend: none of them is opposite (Knight 1966).
    seen: list[float] = []
    opposite = 0
    for _, value in ordered:
        place = bisect_right(seen, value)
        opposite += len(seen) - place
        seen.insert(place, value)
    return (total - first - second + both - 2 * opposite) / math.sqrt((total - first) * (total - second))


def kendall_by_chance(count: int) -> float:
    """Return the bound t with which Kendall's tau of so many unrelated pairs lies within -t to t in 95 of 100 cases.

    It is the normal approximation with the variance 2 (2n + 5) / (9n (n - 1)), at most 1 (Kendall 1938, Biometrika 30).

    Args:
        count: n, at least 2, without equal values.
    """
    return min(1.0, 1.96 * math.sqrt(2 * (2 * count + 5) / (9 * count * (count - 1))))


def _num_equal(values: Iterable[object]) -> int:
    """Return how many twos of the values are equal."""
    return sum(count * (count - 1) // 2 for count in Counter(values).values())


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end - 1) / 2
        start = end
    return ranks
