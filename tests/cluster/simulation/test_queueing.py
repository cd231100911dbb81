"""Mean value analysis, by hand and at its limits."""

import pytest

from cluster.simulation.queueing import cycle_seconds


def test_one_client_waits_for_nobody() -> None:
    assert cycle_seconds(3.0, (1.0, 0.5), 1) == (4.5,)


def test_two_clients_of_one_server_by_hand() -> None:
    """Q(1) = 1/2, so that R(2) = 1 (1 + 1/2)."""
    assert cycle_seconds(1.0, (1.0,), 2) == (2.0, pytest.approx(2.5))


def test_without_a_time_alone_clients_take_turns() -> None:
    assert cycle_seconds(0.0, (2.0,), 5) == pytest.approx((2.0, 4.0, 6.0, 8.0, 10.0))


def test_many_clients_are_served_at_the_pace_of_the_busiest_server() -> None:
    cycle = cycle_seconds(1.0, (0.01, 0.02), 1000)[-1]
    assert 1000 / cycle == pytest.approx(1 / 0.02, rel=1e-6)


def test_a_server_without_work_changes_nothing() -> None:
    assert cycle_seconds(1.0, (0.5, 0.0), 20) == cycle_seconds(1.0, (0.5,), 20)
