"""Learning rates over a search."""

import pytest

from controller.searchers.weight_sharing.rates import cosine, share_of_cycle


def test_a_rate_falls_along_half_a_cosine() -> None:
    assert [cosine(0.05, 0.001, share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.05, 0.0255, 0.001])
    assert cosine(1.0, 0.0, 1 / 3) == pytest.approx(0.75)


def test_each_cycle_is_longer_than_the_one_before() -> None:
    """ENAS's 310 epochs are cycles of 10, 20, 40, 80 and 160 (spec §6.1)."""
    begins = [epoch for epoch in range(310) if share_of_cycle(epoch, 10, 2) == 0]
    assert begins == [0, 10, 30, 70, 150]
    assert share_of_cycle(309, 10, 2) == 159 / 160
    assert [share_of_cycle(epoch, 3, 1) for epoch in range(4)] == [0, 1 / 3, 2 / 3, 0]
