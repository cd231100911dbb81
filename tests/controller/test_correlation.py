import random
from collections.abc import Iterator
from itertools import combinations

import pytest
from scipy.stats import kendalltau, spearmanr

from controller.statistics import kendall, kendall_by_chance, spearman


def some_pairs() -> Iterator[list[tuple[float, float]]]:
    """Pairs with equal values on one side, on both, and in both at once."""
    rng = random.Random(0)
    for _ in range(20):
        count = rng.randint(5, 30)
        yield [(rng.random(), float(rng.randrange(5))) for _ in range(count)]
        yield [(float(rng.randrange(4)), float(rng.randrange(4))) for _ in range(count)]


def test_they_are_scipys() -> None:
    for pairs in some_pairs():
        assert spearman(pairs) == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
        assert kendall(pairs) == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)


def test_kendalls_is_the_share_of_twos_in_one_order() -> None:
    """By its definition, as slow as it is written; there are no equal values."""
    rng = random.Random(1)
    pairs = [(rng.random(), rng.random()) for _ in range(40)]
    orders = [1 if (a < c) == (b < d) else -1 for (a, b), (c, d) in combinations(pairs, 2)]
    assert kendall(pairs) == pytest.approx(sum(orders) / len(orders))
    assert kendall([(1, 1), (2, 3), (3, 2)]) == pytest.approx(1 / 3)


def test_values_that_do_not_differ_have_none() -> None:
    for correlation in (spearman, kendall):
        assert all(correlation(pairs) is None for pairs in ([], [(1, 2)], [(1, 2), (1, 3)], [(1, 2), (2, 2)]))
        assert correlation([(1, 2), (2, 3)]) == pytest.approx(1)


def test_what_chance_gives_is_between_the_outer_fortieths_of_shuffled_orders() -> None:
    rng = random.Random(1)
    for count in (10, 60):
        found: list[float] = []
        for _ in range(2_000):
            order = list(range(count))
            rng.shuffle(order)
            tau = kendall(list(enumerate(map(float, order))))
            assert tau is not None
            found.append(abs(tau))
        assert sorted(found)[1_900] == pytest.approx(kendall_by_chance(count), rel=0.07)
    assert kendall_by_chance(2) == 1
