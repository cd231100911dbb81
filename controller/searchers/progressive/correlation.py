"""Spearman's rank correlation, with which PNAS judges its surrogates. Standard library only."""

import statistics
from collections.abc import Sequence


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return the rank correlation of the pairs' first and second values, in [-1, 1].

    Equal values have the mean of their ranks. It is `None` unless there are two different values on each side.
    """
    first, second = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return statistics.correlation(first, second)


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
