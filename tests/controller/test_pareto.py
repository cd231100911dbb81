"""Pareto fronts, ranks, crowding and hypervolume, against what the definitions say point by point."""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.pareto import crowding, dominates, front, hypervolume, preference, ranks


def random_points(number: int, seed: int, objectives: int = 2) -> list[tuple[float, ...]]:
    """Return points of whole numbers, so that some are equal, and some equal in one objective."""
    rng = random.Random(seed)
    return [tuple(float(rng.randrange(20)) for _ in range(objectives)) for _ in range(number)]


def undominated(points: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Return the points that no other dominates, by the definition: slow on purpose."""
    return {
        p
        for p in points
        if not any(
            all(a <= b for a, b in zip(q, p, strict=True)) and any(a < b for a, b in zip(q, p, strict=True))
            for q in points
        )
    }


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_front_of_200_points_is_that_of_the_definition(objectives: int) -> None:
    points = random_points(200, seed=objectives, objectives=objectives)
    places = front(points)
    found = [points[place] for place in places]
    assert set(found) == undominated(points)
    assert len(set(found)) == len(found)
    assert found == sorted(found)
    assert all(points.index(points[place]) == place for place in places)


def test_a_point_dominates_only_if_it_is_better_somewhere() -> None:
    assert dominates((1.0, 2.0), (1.0, 3.0))
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert not dominates((1.0, 3.0), (2.0, 2.0))


@pytest.mark.parametrize("objectives", [2, 3])
def test_ranks_are_the_fronts_of_what_is_left(objectives: int) -> None:
    points = random_points(80, seed=7, objectives=objectives)
    left, expected = list(points), {}
    for rank in range(len(points)):
        best = undominated(left)
        expected |= dict.fromkeys(best, rank)
        left = [point for point in left if point not in best]
    assert ranks(points) == [expected[point] for point in points]


def test_crowding_by_hand() -> None:
    # Of (2, 3): (4 - 1) / 9 along the first objective and (9 - 1) / 9 along the second.
    assert crowding([(1.0, 9.0), (2.0, 3.0), (4.0, 1.0), (10.0, 0.0)]) == [
        math.inf,
        pytest.approx(3 / 9 + 8 / 9),
        pytest.approx(8 / 9 + 3 / 9),
        math.inf,
    ]
    assert crowding([(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]) == [math.inf, 0.0, math.inf]


def test_a_better_rank_is_preferred_then_a_lonelier_point_and_none_at_all_last() -> None:
    points = [(1.0, 9.0), (2.0, 3.0), None, (2.1, 2.9), (10.0, 0.0), (10.0, 9.0)]
    keys = preference(points)
    assert sorted(range(len(points)), key=keys.__getitem__) == [2, 5, 1, 3, 0, 4]
    assert preference([None, None]) == [(-2, 0.0)] * 2


def test_the_hypervolume_of_three_points_by_hand() -> None:
    # Three rectangles, from left to right: 1 x 1, 2 x 3 and 1 x 4.
    points = [(1.0, 4.0), (2.0, 2.0), (4.0, 1.0)]
    assert hypervolume(points, (5.0, 5.0)) == 1 * 1 + 2 * 3 + 1 * 4
    assert hypervolume([*points, (3.0, 3.0), (2.0, 2.0), (0.0, 6.0)], (5.0, 5.0)) == 11
    assert hypervolume([], (5.0, 5.0)) == hypervolume([(5.0, 0.0)], (5.0, 5.0)) == 0
    assert hypervolume([(2.0,), (3.0,)], (5.0,)) == 3
    # Two boxes of 2 x 2 x 1 and 1 x 1 x 2, which have one cube of 1 in common.
    assert hypervolume([(0.0, 0.0, 1.0), (1.0, 1.0, 0.0)], (2.0, 2.0, 2.0)) == 4 + 2 - 1


def test_the_hypervolume_is_the_share_of_dominated_cells() -> None:
    points = random_points(30, seed=3, objectives=3)
    dominated = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in ((x, y, z) for x in range(20) for y in range(20) for z in range(20))
    )
    assert hypervolume(points, (20.0, 20.0, 20.0)) == dominated


PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40)
"""Points of two objectives, many of them equal in one or both."""


@given(PAIRS)
@settings(max_examples=200, deadline=None)
def test_of_two_objectives_all_is_as_with_a_third_that_is_equal_everywhere(points: list[tuple[int, int]]) -> None:
    """With three objectives the general algorithms are used, with two those by bisection and by one sum."""
    three = [(*point, 0) for point in points]
    assert ranks(points) == ranks(three)
    assert front(points) == front(three)
    for reference in ((13, 13), (6, 9)):
        assert hypervolume(points, reference) == hypervolume(three, (*reference, 1))


@given(st.lists(st.none() | st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_preference_is_the_rank_and_the_crowding_among_those_of_it(points: list[tuple[int, int] | None]) -> None:
    known = [point for point in points if point is not None]
    rank_of = dict(zip(known, ranks([(*point, 0) for point in known]), strict=True))
    for rank in set(rank_of.values()):
        places = [place for place, point in enumerate(points) if point is not None and rank_of[point] == rank]
        distances = crowding([point for place in places if (point := points[place]) is not None])
        assert [preference(points)[place] for place in places] == [(-rank, distance) for distance in distances]
    unknown = [key for key, point in zip(preference(points), points, strict=True) if point is None]
    assert unknown == [(-len(points), 0.0)] * len(unknown)


class Counted(float):
    """A number that counts how often one is compared."""

    compared: ClassVar[Counter[str]] = Counter()

    def __lt__(self, other: Any) -> bool:
        self.compared["times"] += 1
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        self.compared["times"] += 1
        return float(self) <= float(other)

    def __eq__(self, other: object) -> bool:
        self.compared["times"] += 1
        return isinstance(other, float) and float(self) == float(other)

    __hash__ = float.__hash__


def comparisons(work: Callable[[list[tuple[float, float]]], object], points: list[tuple[float, float]]) -> int:
    """Return how many comparisons of numbers `work` makes with these points."""
    counted: list[tuple[float, float]] = [(Counted(first), Counted(second)) for first, second in points]
    Counted.compared.clear()
    work(counted)
    return Counted.compared["times"]


@pytest.mark.parametrize("work", [ranks, preference, lambda points: hypervolume(points, (2.0, 2.0))])
@pytest.mark.parametrize("shape", ["one front", "one rank each", "mixed"])
def test_work_on_two_objectives_grows_hardly_faster_than_their_number(
    work: Callable[[list[tuple[float, float]]], object], shape: str
) -> None:
    def points(number: int) -> list[tuple[float, float]]:
        rng = random.Random(number)
        firsts = [rng.random() for _ in range(number)]
        return [
            (first, {"one front": 1 - first, "one rank each": first, "mixed": rng.random()}[shape]) for first in firsts
        ]

    few, many = (comparisons(work, points(number)) for number in (250, 2_000))
    assert many < 2_000 * 130
    assert many < 12 * few
