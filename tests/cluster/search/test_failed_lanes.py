"""A child that fails holds up no lane that waits for its own."""

import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from child_trainer.outcome import Cause, Measure, Outcome
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.build import make_replica
from cluster.runners.causal import telling_the_weights
from cluster.runners.shared_weights import local_weights
from cluster.search.evaluator import Assignment
from cluster.search.replica_loop import replica_loop
from cluster.search.steps import Stores, lane_client, leave_lane, make_steps
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Lane
from ps.consistency import Consistency
from ps.errors import NonFinite
from ps.local import LocalStore
from ps.store import Group, Layout
from tests.cluster.search.test_steps import COUNT, SHAPES, Sums

FIRST, SECOND = Lane(0, 0, 0), Lane(0, 1, 0)


class Failing(Sums):
    """Its second step is no number."""

    def gradients(self, step: int, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if step == 1:
            raise NonFinite("a gradient is NaN")
        return super().gradients(step, weights)


def store_of_two_lanes(mode: Literal["ssp", "sync"]) -> LocalStore:
    group = Group(name="weights", shapes=SHAPES, optimizer="sgd", options={"lr": 1.0})
    members = tuple(lane_client(0, lane.number) for lane in (FIRST, SECOND))
    store = LocalStore(Layout(run="r", groups=(group,), shards=3, consistency=Consistency(mode=mode, members=members)))
    store.initialize({name: torch.zeros(shape) for name, shape in SHAPES.items()})
    return store


def pause() -> None:
    time.sleep(0.001)


@pytest.mark.parametrize("mode", ["ssp", "sync"])
@pytest.mark.timeout(60)
def test_the_other_lane_goes_on_once_the_failed_childs_has_left(mode: Literal["ssp", "sync"]) -> None:
    store, whole = store_of_two_lanes(mode), Sums()

    def fail() -> None:
        with pytest.raises(NonFinite):
            make_steps(Stores(store), SECOND, COUNT, Failing(), pause=pause)
        leave_lane(store, 0, SECOND)

    with ThreadPoolExecutor(2) as threads:
        others = threads.submit(make_steps, Stores(store), FIRST, COUNT, whole, pause=pause)
        threads.submit(fail).result(timeout=30)
        others.result(timeout=30)
    assert whole.made == list(range(COUNT))


@pytest.mark.timeout(60)
def test_a_lane_that_waits_may_be_ended() -> None:
    calls: list[int] = []

    def before(step: int) -> None:
        calls.append(step)
        if len(calls) > 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        make_steps(Stores(store_of_two_lanes("sync")), FIRST, COUNT, Sums(), before=before, pause=pause)
    assert calls == [0, 1, 1, 1]


SPACE = "--space nasbench201 --cells-per-stage 1 --stem-channels 4 --reward accuracy --searcher one-shot"
SIZES = "--supernet-steps 8 --steps-per-child 2 --max-children 6 --replicas 1 --children 2"


def config(*flags: str) -> RunConfig:
    return parse_run(RECIPES["digits"](), [*f"{SPACE} {SIZES}".split(), *flags], "digits")


class OneFails:
    """Lets the second child fail, and all others end well."""

    def __init__(self) -> None:
        self._waiting: list[Assignment] = []

    def submit(self, *assignments: Assignment) -> None:
        """Take the children."""
        self._waiting += assignments

    def completed(self) -> list[tuple[int, Outcome]]:
        """Return the outcome of one child."""
        if not self._waiting:
            return []
        one = self._waiting.pop()
        if one.child_id == 2:
            return [(2, Outcome.failed(Cause.DIVERGED, "NaN", seed=one.seed))]
        done = Outcome(curve=(0.5,), seconds=1.0, parameters=9, flops=9, seed=one.seed, measure=Measure.ACCURACY)
        return [(one.child_id, done)]


def test_a_replica_takes_a_failed_childs_lane_out_before_it_records_the_failure(tmp_path: Path) -> None:
    run = config("--weights-consistency", "sync")
    file = tmp_path / "ledger.sqlite"
    ledger = Ledger(file, run.seed, run.max_children)
    ledger.begin(workers=2)
    weights = local_weights(config(), "run", tmp_path / "weights")
    replica = telling_the_weights(run, make_replica(run, 0, None, OneFails(), ledger), weights)
    left: list[tuple[int, int]] = []

    def leave(lane: Lane) -> None:
        with closing(sqlite3.connect(file)) as db:
            query = "SELECT count(*) FROM children WHERE id = 2 AND completion IS NOT NULL"
            left.append((lane.number, db.execute(query).fetchone()[0]))

    assert replica.leave_lane is not None
    for _ in replica_loop(replace(replica, leave_lane=leave)):
        pass
    ledger.close()
    assert left == [(1, 0)]


def test_where_no_lane_waits_nothing_is_left(tmp_path: Path) -> None:
    weights = local_weights(config(), "run", tmp_path)
    ledger = Ledger(tmp_path / "ledger.sqlite", 0, 6)
    replica = make_replica(config(), 0, None, OneFails(), ledger)
    assert telling_the_weights(config(), replica, weights).leave_lane is None
    assert telling_the_weights(config("--weights-consistency", "sync"), replica, None).leave_lane is None
    ledger.close()
