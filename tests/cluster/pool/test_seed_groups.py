"""Which of the waiting children are trained as one network."""

from dataclasses import replace

import pytest

from child_trainer.supernets.jobs import TrainOn
from cluster.pool.seed_groups import seed_groups
from cluster.search.evaluator import Assignment
from tests.contracts.evaluator import architecture, assignment

OTHER = architecture(8)


@pytest.mark.parametrize(
    ("waiting", "most", "groups"),
    [
        ([assignment(1), assignment(2), assignment(3)], 3, [[1, 2, 3]]),
        ([assignment(1), assignment(2), assignment(3)], 2, [[1, 2], [3]]),
        ([assignment(1), assignment(2), assignment(3)], 1, [[1], [2], [3]]),
        ([assignment(1), assignment(2, OTHER), assignment(3), assignment(4, OTHER)], 9, [[1, 3], [2, 4]]),
        # Two children of one seed are equal trainings, of which a group has one.
        ([assignment(1), replace(assignment(2), seed=101), assignment(3), assignment(4)], 3, [[1, 3, 4], [2]]),
        # Whatever came first: children that are given back form the same groups again.
        ([assignment(5), assignment(6), assignment(3), assignment(1), assignment(4)], 3, [[1, 3, 4], [5, 6]]),
        # What is not trained from scratch, or has no network of its own, is trained alone.
        ([replace(assignment(n), job=TrainOn(parent=9, checksum="1", changes=())) for n in (1, 2)], 3, [[1], [2]]),
        ([replace(assignment(n), architecture=None) for n in (1, 2)], 3, [[1], [2]]),
    ],
)
def test_groups(waiting: list[Assignment], most: int, groups: list[list[int]]) -> None:
    assert [[one.child_id for one in group] for group in seed_groups(waiting, most)] == groups
