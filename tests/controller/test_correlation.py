import random

import pytest
from scipy.stats import spearmanr

from controller.statistics import spearman


def test_it_is_scipys() -> None:
    rng = random.Random(0)
    for _ in range(20):
        pairs = [(rng.random(), float(rng.randrange(5))) for _ in range(rng.randint(5, 30))]
        assert spearman(pairs) == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)


def test_values_that_do_not_differ_have_none() -> None:
    assert spearman([]) is spearman([(1, 2)]) is spearman([(1, 2), (1, 3)]) is spearman([(1, 2), (2, 2)]) is None
    assert spearman([(1, 2), (2, 3)]) == pytest.approx(1)
