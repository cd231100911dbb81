"""Counts of observations by size, as Prometheus wants them. Standard library only."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class Histogram:
    """How many observations were at most so large.

    Attributes:
        bounds: upper bounds of the buckets, included, ascending; what is larger than the last has a bucket of its own.
        counts: observations of each bucket alone, one more than there are bounds.
        sum: of all observations.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one. A negative one, of a clock that was set back, counts as 0: a sum must never go down."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Self:
        """One that later observations do not change."""
        return type(self)(self.bounds, list(self.counts), self.sum)

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, observations up to it), the last bound `+Inf`."""
        total, buckets = 0, []
        for bound, count in zip((*map(float, self.bounds), float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        return buckets
