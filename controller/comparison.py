"""How good what a search finds is as it goes on: the statistic of the paper's figure 6. Standard library only.

Zoph & Le 2017 (arXiv 1611.01578), section 4.2, control 2; spec section 2.4 (b).
"""

import statistics
from collections.abc import Iterable, Sequence

TOPS = (1, 5, 15)
"""How many of the best are averaged: the figure's three curves."""

EVERY = 400
"""Children from one of the figure's points to the next."""

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
