"""Pareto fronts, ranks, crowding and hypervolume, against what the definitions say point by point."""

import math
import random

import pytest

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
