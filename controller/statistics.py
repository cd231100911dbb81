"""How good what a search finds is as it goes on, and how sure of that many seeds make one. Standard library only.

The statistic of the paper's figure 6 is Zoph & Le 2017 (arXiv 1611.01578), section 4.2, control 2; spec section 2.4
(b). Intervals are Efron's percentile bootstrap (Efron & Tibshirani 1993, section 13.3).
"""

import random
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

TOPS = (1, 5, 15)
"""How many of the best are averaged: the figure's three curves."""

EVERY = 400
"""Children from one of the figure's points to the next."""

RESAMPLES = 1000
"""Draws of as many seeds as there are, with replacement, from which an interval is told."""

LEVEL = 0.95
"""Share of them whose means lie in the interval."""

T = TypeVar("T")

Found = tuple[str, float]
"""What names an architecture, equal for equal ones, and the reward of a child of it."""


def top_means(found: Iterable[Found], tops: Sequence[int] = TOPS) -> tuple[float, ...]:
    """The mean reward of the best 1, 5 and 15 architectures that differ, or of all where there are fewer.

    An architecture that was tried again counts once, by its best reward: a policy that samples one architecture over
    and over has found one.

    Raises:
        ValueError: there is none.
    """
    best: dict[str, float] = {}
    for name, reward in found:
        best[name] = max(reward, best.get(name, reward))
    if not best:
        raise ValueError("the best of no children cannot be told; give at least one")
    ranked = sorted(best.values(), reverse=True)
    return tuple(statistics.fmean(ranked[:top]) for top in tops)


def course(found: Sequence[Found], every: int = EVERY, tops: Sequence[int] = TOPS) -> list[tuple[float, ...]]:
    """`top_means` of the first 400 children, of the first 800 and so on; a last part of fewer has no point.

    Args:
        found: in the order in which the children ended.
        every: children from one point to the next.
        tops: how many of the best are averaged.
    """
    return [top_means(found[:upto], tops) for upto in range(every, len(found) + 1, every)]


def within(costs: Sequence[float], limit: float) -> int:
    """How many children, from the first on, cost no more than the limit all together."""
    return bisect_right(list(accumulate(costs)), limit)


def leaders(metrics: Sequence[float | None], *, lower_is_better: bool = False) -> list[int | None]:
    """After each child the place of the best one until then: the earlier of equal ones, `None` before any has a metric.

    Args:
        metrics: in the order in which the children ended; `None` of those that failed.
        lower_is_better: whether the best has the lowest.
    """
    sign = -1 if lower_is_better else 1
    best: int | None = None
    found: list[int | None] = []
    for place, metric in enumerate(metrics):
        known = None if best is None else metrics[best]
        if metric is not None and (known is None or sign * metric > sign * known):
            best = place
        found.append(best)
    return found


def held(at: Sequence[float], values: Sequence[T], grid: Sequence[float]) -> list[T | None]:
    """What a value that holds until the next one is at each place of the grid; `None` before the first.

    Args:
        at: where each value begins, ascending; of several at one place the last counts.
        values: as many.
        grid: the places, in any order.
    """
    known = [bisect_right(at, place) - 1 for place in grid]
    return [values[place] if place >= 0 else None for place in known]


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean over seeds, and between what bounds it is to be expected with other seeds."""

    mean: float
    low: float
    high: float


def resamples(count: int, seed: int, times: int = RESAMPLES) -> list[list[int]]:
    """So many draws, with replacement, of as many of the numbers from 0 as there are.

    Raises:
        ValueError: of fewer than 2 nothing can be drawn that differs.
    """
    if count < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {count}")
    rng = random.Random(seed)
    return [rng.choices(range(count), k=count) for _ in range(times)]


def interval(values: Sequence[float], draws: Sequence[Sequence[int]], level: float = LEVEL) -> Interval:
    """The mean of a value for each seed, with the percentile interval of the means of the draws.

    Args:
        values: one for each seed.
        draws: from `resamples`; the same ones for all that is to be compared or to lie on one curve.
        level: share of the draws' means within.
    """
    means = sorted([statistics.fmean([values[place] for place in draw]) for draw in draws])
    outside = round((1 - level) / 2 * len(means))
    return Interval(statistics.fmean(values), means[outside], means[-1 - outside])


def band(curves: Sequence[Sequence[float | None]], draws: Sequence[Sequence[int]]) -> list[Interval | None]:
    """The interval at each place of a grid; `None` where not every seed has a value.

    Args:
        curves: for each seed the values on the same grid.
        draws: from `resamples`.
    """
    found: list[Interval | None] = []
    for column in zip(*curves, strict=True):
        values = [value for value in column if value is not None]
        found.append(interval(values, draws) if len(values) == len(curves) else None)
    return found
