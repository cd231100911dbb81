"""Pareto fronts, ranks, crowding and hypervolume (Deb et al. 2002, NSGA-II, sections III-A and III-B).

Standard library only. A point has one value for each objective, and of each the lower one is better. One point
dominates another if it is worse in no objective and better in one.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

Point = Sequence[float]


def dominates(first: Point, second: Point) -> bool:
    """Return whether the first point is worse than the second in no objective, and better in one."""
    return first != second and all(ours <= theirs for ours, theirs in zip(first, second, strict=True))


def front(points: Sequence[Point]) -> list[int]:
    """Return the places of the points that no other dominates, by their first values; of equal points the first."""
    # A point can only be dominated by one that is before it in this order, and then by one of the front so far. Of two
    # objectives it is by the last one of these, if by any, as their second values fall.
    values = [tuple(point) for point in points]
    order = sorted(range(len(values)), key=values.__getitem__)
    if values and len(values[0]) == 2:
        return _front_of_pairs(values, order)
    kept: list[int] = []
    for place in order:
        if not any(all(a <= b for a, b in zip(points[k], points[place], strict=True)) for k in kept):
            kept.append(place)
    return kept


def _front_of_pairs(points: Sequence[tuple[float, ...]], order: Sequence[int]) -> list[int]:
    """Return the front of points of two objectives, given their order."""
    kept: list[int] = []
    last = (math.inf, math.inf)
    for place in order:
        point = points[place]
        if not (kept and last[0] <= point[0] and last[1] <= point[1]):
            kept.append(place)
            last = point
    return kept


def ranks(points: Sequence[Point]) -> list[int]:
    """Return the rank of each point: 0 where no other dominates it, 1 where only those of rank 0 do, and so on.

    It takes O(n log n) comparisons of n points of two objectives, and O(n^2) of more.
    """
    # Whatever dominates a point is before it in this order, and has its rank already.
    distinct = sorted({tuple(point) for point in points})
    of_distinct = _ranks_of_pairs(distinct) if distinct and len(distinct[0]) == 2 else _ranks_of_any(distinct)
    rank_of = dict(zip(distinct, of_distinct, strict=True))
    return [rank_of[tuple(point)] for point in points]


def _ranks_of_pairs(distinct: Sequence[Point]) -> list[int]:
    """Return the ranks of different points of two objectives in rising order."""
    # Of each rank the lowest second value so far. They rise with the rank, as a point of each rank has one of the rank
    # before it that is no worse; and the ranks with a point that dominates this one are those up to its second value.
    lowest: list[float] = []
    found: list[int] = []
    for _, second in distinct:
        rank = bisect_right(lowest, second)
        lowest[rank : rank + 1] = [second]
        found.append(rank)
    return found


def _ranks_of_any(distinct: Sequence[Point]) -> list[int]:
    """Return the ranks of different points in rising order."""
    found: list[int] = []
    for point in distinct:
        above = [rank for rank, other in zip(found, distinct, strict=False) if dominates(other, point)]
        found.append(max(above, default=-1) + 1)
    return found


def crowding(points: Sequence[Point]) -> list[float]:
    """Return the crowding distance of each of some points of one rank: the larger, the fewer are near it.

    It is the sum over the objectives of the distance between the two neighbours, as a share of the points' range; the
    first and the last of an objective have an infinite one.
    """
    distances = [0.0] * len(points)
    for values in zip(*points, strict=True):
        order = sorted(range(len(points)), key=values.__getitem__)
        spread = values[order[-1]] - values[order[0]]
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            distances[place] += (values[after] - values[before]) / spread if spread else 0.0
    return distances


def preference(points: Sequence[Point | None]) -> list[tuple[int, float]]:
    """Return a key for each point, the higher the better: by rank, and within a rank by crowding.

    Without a point (`None`) it is the lowest key of all.
    """
    known = {place: point for place, point in enumerate(points) if point is not None}
    of_rank: defaultdict[int, list[int]] = defaultdict(list)
    for place, rank in zip(known, ranks(list(known.values())), strict=True):
        of_rank[rank].append(place)
    keys = [(-len(points), 0.0)] * len(points)
    for rank, members in of_rank.items():
        for place, distance in zip(members, crowding([known[place] for place in members]), strict=True):
            keys[place] = (-rank, distance)
    return keys


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the volume of what the points dominate, up to the reference point (Zitzler & Thiele 1999).

    Points that are not better than the reference in every objective add nothing.
    """
    inside = [tuple(point) for point in points if all(p < r for p, r in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(inside)[0]
    if len(reference) == 2:
        # Each point of the front, from left to right, adds a rectangle: from it to the reference along the first
        # objective, and up to the point before it along the second.
        volume, top = 0.0, reference[1]
        for first, second in (inside[place] for place in front(inside)):
            volume += (reference[0] - first) * (top - second)
            top = second
        return volume
    # Slices along the last objective: each is as deep as the way to the next point, and as wide as those before it.
    slices = sorted((inside[place] for place in front(inside)), key=lambda point: point[-1])
    ends = [*(point[-1] for point in slices[1:]), reference[-1]]
    return sum(
        (end - point[-1]) * hypervolume([before[:-1] for before in slices[: place + 1]], reference[:-1])
        for place, (point, end) in enumerate(zip(slices, ends, strict=True))
        if end > point[-1]
    )
