"""Early stopping on real Ray: the pool decides, a child ends within the epoch, also while the pool is killed."""

import json
import os
import signal

import pytest

from child_trainer.outcome import Outcome
from cluster.runners.on_ray.handles import POOL
from tests.chaos.script import FACTOR
from tests.cluster.searches import actor_process, finish, nascluster, select, wait_for

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

EPOCHS = 4
FLAGS = (
    *("--searcher", "random", "--epochs", str(EPOCHS), "--train-fraction", "0.2", "--workers", "2"),
    *("--replicas", "1", "--children", "4", "--initial-depth", "2", "--max-depth", "2"),
    *("--early-stop", "halving", "--halving-factor", "2"),
)


def assert_stopped_within_the_epoch(name: str, children: int) -> None:
    """A stopped child has a value for each epoch up to that at which it was stopped, one of a rung, and no more."""
    found = [
        Outcome.from_json(json.loads(text))
        for (text,) in select(name, "SELECT outcome FROM children WHERE state = 'finished'")
    ]
    assert len(found) == children
    stopped = [outcome for outcome in found if outcome.stopped]
    assert 0 < len(stopped) < children
    assert all(outcome.stopped and outcome.stopped.epoch == len(outcome.curve) in (1, 2) for outcome in stopped)
    assert all(len(outcome.curve) == EPOCHS for outcome in found if not outcome.stopped)


def test_children_on_two_workers_end_at_the_epoch_at_which_they_are_stopped(cluster: str) -> None:
    name, children = "early", 12
    finish(nascluster("launch", "digits", "--name", name, "--max-children", str(children), *FLAGS, address=cluster))
    assert_stopped_within_the_epoch(name, children)
    assert select(name, "SELECT count(*) FROM attempts WHERE verdict <> 'outcome'") == [(0,)]


@pytest.mark.skipif(FACTOR == 1, reason="takes a minute: `make chaos`")
def test_the_pool_is_killed_and_its_successor_decides_on(cluster: str) -> None:
    name, children = "early-killed", 60
    search = nascluster("launch", "digits", "--name", name, "--max-children", str(children), *FLAGS, address=cluster)
    for finished in (10, 30):
        wait_for(name, finished)
        os.kill(actor_process(name, POOL), signal.SIGKILL)
    finish(search)
    assert_stopped_within_the_epoch(name, children)
    late = "SELECT count(*) FROM children WHERE id > 40 AND json_extract(outcome, '$.stopped.epoch') IS NOT NULL"
    assert select(name, late)[0][0] > 0
