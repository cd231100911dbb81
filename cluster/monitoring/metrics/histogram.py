"""Histograms of observations with Prometheus's cumulative buckets. Standard library only."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Self

VERSIONS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Bounds for a push's staleness, in versions."""


@dataclass(slots=True)
class Histogram:
    """The number of observations in each bucket, and their sum.

    Attributes:
        bounds: inclusive upper bounds of the buckets, ascending; values above the last have a bucket of their own.
        counts: observations in each bucket alone; one entry more than `bounds`.
        sum: of all observations.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value. A negative one (the clock was set back) counts as 0, because a sum must never decrease."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Self:
        """Return a copy that later observations do not change."""
        return type(self)(self.bounds, list(self.counts), self.sum)

    def cumulative(self) -> list[tuple[str, int]]:
        """Return pairs of an upper bound and the number of observations up to it; the last bound is `+Inf`."""
        total, buckets = 0, []
        for bound, count in zip((*map(float, self.bounds), float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        return buckets
