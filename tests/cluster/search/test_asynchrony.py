"""The pieces of `benchmarks.asynchrony`: what it searches, and what it makes of that."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.asynchrony import ARMS, Arm, Trace, configuration, report, table, traced
from child_trainer.tasks.lookup_table import Table
from cluster.compare.one_search import make_trainer, search
from cluster.compare.plan import Limit
from cluster.compare.standings import Best
from cluster.runners.trainer import Trainer
from tests.real_data import real

FOUND = Trace(
    ended_at=(900.0, 1800.0, 1800.0, 3600.0),
    metrics=(0.5, 0.8, 0.7, 0.8),
    tests=(0.6, 0.7, 0.9, 0.95),
    architectures=("a", "b", "a", "c"),
    staleness=(0, 2, 4),
    weights=(1.0, 0.5),
)


@pytest.fixture(scope="module")
def data() -> Path:
    return real("nasbench201")


@functools.lru_cache(maxsize=1)
def trainer(data: Path) -> Trainer:
    return make_trainer(configuration(ARMS[0], 1, data))


def run(arm: Arm, data: Path, children: int) -> Trace:
    task = trainer(data).task
    assert isinstance(task, Table)
    return traced(configuration(arm, 1, data, children), trainer(data), task)


def test_best_so_far_is_chosen_by_validation_and_ignores_later_children() -> None:
    assert FOUND.at([1, 2, 3, 4, 5], hours=False) == [(0.5, 0.6), (0.8, 0.7), (0.8, 0.7), (0.8, 0.7), None]
    assert FOUND.at([0.1, 0.25, 0.5, 1.0, 1.1], hours=True) == [None, (0.5, 0.6), (0.8, 0.7), (0.8, 0.7), None]


def test_one_replica_finds_what_a_search_of_a_comparison_finds(data: Path) -> None:
    """With barriers and one replica the order of ends within a batch is all that the clock decides."""
    arm = ARMS[0]
    found = run(arm, data, 24)
    compared = search(configuration(arm, 1, data, 24), Limit(children=24), lambda: False)
    assert compared is not None
    for start in range(0, 24, 4):
        batch = slice(start, start + 4)
        assert sorted(found.metrics[batch]) == sorted(m for m in compared.metrics[batch] if m is not None)
        assert sorted(found.architectures[batch]) == sorted(compared.architectures[batch])
    # The slowest of each batch is waited for.
    slowest = [max(compared.seconds[start : start + 4]) for start in range(0, 24, 4)]
    assert found.ended_at[-1] == pytest.approx(sum(slowest))
    assert found.staleness == [0] * 6


def test_replicas_that_search_at_once_are_stale_and_soon_done(data: Path) -> None:
    barrier, stream, weighed = (run(replace(arm, replicas=5), data, 60) for arm in ARMS[:3])
    assert [len(found.metrics) for found in (barrier, stream, weighed)] == [60, 60, 60]
    assert max(barrier.staleness) >= 4
    assert max(stream.staleness) >= 4
    assert stream.ended_at[-1] < barrier.ended_at[-1] < run(ARMS[0], data, 60).ended_at[-1] / 3
    assert (barrier.weights, stream.weights) == ([], [])
    assert len(weighed.weights) == len(weighed.staleness)
    assert any(weight != 1.0 for weight in weighed.weights)


def test_with_barriers_the_weights_are_one(data: Path) -> None:
    found = run(Arm(replicas=3, batching="barrier", clip=2.0), data, 36)
    assert max(found.staleness) >= 2
    assert found.weights == pytest.approx([1.0] * 9, abs=1e-5)


def test_random_search_pushes_nothing(data: Path) -> None:
    found = run(replace(ARMS[-1], replicas=2), data, 16)
    assert (found.staleness, found.weights, len(found.metrics)) == ([], [], 16)


def test_the_tables_have_a_row_for_each_arm_and_leave_out_what_a_seed_lacks() -> None:
    assert (
        table(["", "a", "b"], [("one", [[1.0, None], [3.0, 4.0]])]).splitlines()[2]
        == "| one | 2.00 ± 1.41 [1.00, 3.00] |  |"
    )
    better = replace(FOUND, metrics=(0.6, 0.9, 0.7, 0.8))
    text = report([(ARMS[0], [FOUND, FOUND]), (ARMS[1], [better, better])], Best(metric=1.0, test=1.0), [1, 2], [0.5])
    assert "| K=1, barrier | 50.00 ± 0.00 [50.00, 50.00] | 80.00 ± 0.00 [80.00, 80.00] |" in text
    assert "| K=1, stream | 10.00 ± 0.00 [10.00, 10.00] | 10.00 ± 0.00 [10.00, 10.00] |" in text
