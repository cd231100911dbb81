import pytest

from child_trainer.cost_ratio import MAX_RATIO, cost_ratio


@pytest.mark.parametrize(
    ("cost", "other", "ratio"),
    [
        (3.0, 4.0, 0.75),
        (5.0, 0.0, MAX_RATIO),
        (0.0, 5.0, 1 / MAX_RATIO),
        (1e9, 1.0, MAX_RATIO),
        (1.0, 1e9, 1 / MAX_RATIO),
    ],
)
def test_a_ratio_stays_in_bounds(cost: float, other: float, ratio: float) -> None:
    assert cost_ratio(cost, other) == ratio
