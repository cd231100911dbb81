"""Early stopping on real Ray: the pool decides, a child ends within the epoch, also while the pool is killed."""

import os
import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from child_trainer.outcome import Outcome
from cluster.runners.on_ray.handles import POOL, PoolEvaluator
from cluster.storage.ledger.compact import OUTCOME_COLUMNS, whole_outcome
from controller.stopping.options import StoppingOptions
from tests.cluster.searches import TINY, Rig, actor_process, end, finish, nascluster, select, wait_for
from tests.contracts.evaluator import assignment, gather
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

EPOCHS = 4
FLAGS = (
    *("--searcher", "random", "--epochs", str(EPOCHS), "--train-fraction", "0.2", "--workers", "2"),
    *("--replicas", "1", "--children", "4", "--initial-depth", "2", "--max-depth", "2"),
    *("--early-stop", "halving", "--stop-min-epochs", "1", "--halving-factor", "2"),
)


@pytest.fixture
def rig(cluster: str, tmp_path: Path) -> Iterator[Rig]:
    stopping = StoppingOptions(early_stop="halving", stop_min_epochs=1, halving_factor=2)
    rig = Rig(tmp_path, replace(TINY, budget=replace(TINY.budget, epochs=EPOCHS), stopping=stopping))
    yield rig
    end(rig.actors)


def test_the_pool_stops_a_child_at_the_epoch_that_it_has_reached(rig: Rig) -> None:
    evaluator, found = PoolEvaluator(rig.pool), list[Outcome]()
    for child in range(1, 6):
        evaluator.submit(assignment(child))
        ((_, outcome),) = gather(evaluator, 1)
        ray.get(rig.ledger.finish.remote(child, outcome, outcome.metric))
        found.append(outcome)
    assert found[0].stopped is None
    assert_stopped_within_the_epoch(found)


def assert_stopped_within_the_epoch(found: Sequence[Outcome], epochs: Collection[int] = (1, 2)) -> None:
    """A stopped child has a value for each epoch up to that at which it was stopped, one of a rung, and no more."""
    stopped = [outcome for outcome in found if outcome.stopped]
    assert 0 < len(stopped) < len(found)
    assert all(outcome.stopped and outcome.stopped.epoch == len(outcome.curve) in epochs for outcome in stopped)
    assert all(len(outcome.curve) == EPOCHS for outcome in found if not outcome.stopped)


@LONG
def test_the_pool_is_killed_and_its_successor_decides_on(cluster: str) -> None:
    name, children = "early", 60
    search = nascluster("launch", "digits", "--name", name, "--max-children", str(children), *FLAGS, address=cluster)
    for finished in (10, 30):
        wait_for(name, finished)
        os.kill(actor_process(name, POOL), signal.SIGKILL)
    finish(search)
    texts = select(name, f"SELECT {OUTCOME_COLUMNS} FROM children WHERE state = 'finished'")
    assert len(texts) == children
    # A rung at which the pool was away is decided at the next epoch.
    assert_stopped_within_the_epoch([Outcome.from_json(whole_outcome(*row)) for row in texts], range(1, EPOCHS))
    late = "SELECT count(*) FROM children WHERE id > 40 AND json_extract(outcome, '$.stopped.epoch') IS NOT NULL"
    assert select(name, late)[0][0] > 0
