import pytest

from controller.comparison import course, top_means


def test_top_means_by_hand() -> None:
    found = [(str(number), float(number)) for number in range(1, 21)]
    assert top_means(found) == (20.0, 18.0, 13.0)  # 20; 16 to 20; 6 to 20
    assert top_means(reversed(found)) == (20.0, 18.0, 13.0)


def test_an_architecture_counts_once_by_its_best_reward() -> None:
    assert top_means([("a", 3.0), ("a", 5.0), ("a", 4.0), ("b", 1.0)], tops=(1, 2)) == (5.0, 3.0)


def test_of_fewer_all_are_averaged_and_rewards_may_be_negative() -> None:
    assert top_means([("a", -3.0), ("b", -1.0)]) == (-1.0, -2.0, -2.0)


def test_of_none_nothing_can_be_told() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        top_means([])


def test_each_point_is_of_all_children_so_far_and_a_shorter_rest_has_none() -> None:
    found = [("a", 0.1), ("b", 0.9), ("c", 0.2), ("b", 0.8), ("d", 0.5), ("e", 1.0), ("f", 9.0)]
    assert course(found, every=2, tops=(1, 2)) == [
        (0.9, pytest.approx(0.5)),
        (0.9, pytest.approx(0.55)),
        (1.0, pytest.approx(0.95)),
    ]
    assert course(found[:1], every=2) == []
