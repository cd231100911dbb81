"""`--fuse-seeds` on real Ray: a worker trains several seeds of a network as one, as `--local` does, and may die."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import FUSED, Outcome
from cluster.config.topology import Topology
from cluster.runners.on_ray.handles import PoolEvaluator
from cluster.runners.trainer import Trainer
from cluster.storage.run_folder import RunFolder
from tests.cluster.finish.searches import SEARCH, recorded_tests, rows
from tests.cluster.searches import TINY, Rig, end, nascluster
from tests.contracts.evaluator import assignment, gather
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

CONFIG = replace(TINY, budget=replace(TINY.budget, epochs=60), topology=Topology(fuse_seeds=3))
"""Trainings of a few seconds, so that they can be killed."""


@pytest.fixture
def rig(cluster: str, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, CONFIG)
    yield rig
    end(rig.actors)


def done(*words: object, address: str = "local") -> None:
    process = nascluster(*words, address=address)
    _, error = process.communicate(timeout=150)
    assert process.returncode == 0, error


def without_time(outcome: Outcome) -> Outcome:
    return replace(outcome, seconds=0.0)


def test_a_worker_trains_seeds_as_one_as_the_local_run_does(rig: Rig) -> None:
    """But not those of a network that cannot be trained as one."""
    dropout = (node("a", "conv", "image", height=3, width=3, filters=8), node("b", "dropout", "a", rate=0.5))
    alone = Architecture("feedforward", dropout, ("b",))
    evaluator, trainer = PoolEvaluator(rig.pool), Trainer(CONFIG)
    evaluator.submit(*(assignment(child) for child in (1, 2, 3, 4)), *(assignment(child, alone) for child in (5, 6)))
    found = dict(gather(evaluator, 6))
    expected = [
        *trainer.train_together([assignment(child) for child in (1, 2, 3)]),
        *(trainer.train(one) for one in (assignment(4), assignment(5, alone), assignment(6, alone))),
    ]
    assert [without_time(found[child]) for child in range(1, 7)] == [without_time(each) for each in expected]
    assert [found[child].fused for child in range(1, 7)] == [True] * 3 + [False] * 3
    given = [child for child, _, verdict, _ in rig.ended_attempts() if verdict == "outcome"]
    assert sorted(given) == list(range(1, 7))
    assert sorted((child, verdict) for child, _, verdict, _ in rig.ended_attempts() if verdict != "outcome") == [
        (5, "void"),
        (6, "void"),
    ]
    assert "with the operation dropout cannot be fused" in ray.get(rig.pool.next_news.remote())


def test_a_worker_that_is_killed_with_a_group_loses_no_child_and_none_is_recorded_twice(rig: Rig) -> None:
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(*(assignment(child) for child in (1, 2, 3)))
    process = rig.in_training(1, 1)
    assert [ray.get(rig.ledger.attempts.remote(child))[0].verdict for child in (1, 2, 3)] == [None] * 3
    os.kill(process, signal.SIGKILL)
    found = dict(gather(evaluator, 3))
    assert sorted(rig.ended_attempts()) == [
        attempt for child in (1, 2, 3) for attempt in ((child, 1, "retry", "crashed"), (child, 2, "outcome", None))
    ]
    assert all(found[child].failure is None and not found[child].fused for child in (1, 2, 3))


SAME = (
    *("launch", "digits", "--searcher", "random", "--replicas", "1", "--children", "3", "--max-children", "6"),
    *("--epochs", "1", "--train-fraction", "0.1", "--initial-depth", "2", "--max-depth", "2", "--num-filters", "8"),
    *("--filter-heights", "3", "--filter-widths", "3", "--no-skip-connections", "--fuse-seeds", "3", "--name", "same"),
)
"""A search of a space with one network."""


def test_a_search_gives_the_children_of_the_local_search(cluster: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    done(*SAME, "--local", "--storage-path", here)
    done(*SAME, "--workers", 1, "--storage-path", there, address=cluster)
    query = "SELECT id, seed, state, metric, reward, json_extract(outcome, '$.measurements') FROM children ORDER BY id"
    assert rows(there, "same", query) == rows(here, "same", query)
    assert {json.loads(measurements)[FUSED] for *_, measurements in rows(there, "same", query)} == {3.0}


@LONG
def test_finish_trains_the_seeds_of_each_network_as_one_as_the_local_command_does(cluster: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    done(*SEARCH, "--storage-path", here)
    shutil.copytree(here, there)
    words: tuple[Any, ...] = ("--top", 2, "--seeds", 2, "--epochs", 1, "--batch-size", 64, "--fuse-seeds", 2)
    done("finish", "search", *words, "--storage-path", here)
    done("finish", "search", *words, "--no-local", "--storage-path", there, address=cluster)
    assert not RunFolder(there / "search-final").read_config().local
    assert recorded_tests(there) == recorded_tests(here)
    query = "SELECT id, seed, json_extract(outcome, '$.measurements') FROM children ORDER BY id"
    assert rows(there, "search-final", query) == rows(here, "search-final", query)
