"""Replicas on the virtual clock, and their evaluator on top of the pool."""

import asyncio
import itertools
import math
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from child_trainer.outcome import Outcome
from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.pool.pool import Pool
from cluster.pool.supervision import PoolOptions, Rules
from cluster.runners.build import make_replica
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Assignment, Evaluator
from cluster.simulation.clock import VirtualLoop
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.fake_searcher import PROPOSAL, fake_outcome
from cluster.simulation.replicas import PooledEvaluator, ReplicaLife, ReplicaLog, ReplicaParts, ShardSteps
from cluster.simulation.shards import SimulatedShards
from cluster.simulation.simulator import DelayedLedger
from cluster.simulation.worker_log import WorkerLog
from cluster.simulation.workers import SimulatedWorkers, TimedTraining
from cluster.storage.ledger.ledger import Ledger
from tests.cluster.searches import TINY
from tests.contracts.evaluator import EvaluatorContract, architecture, assignment

AT_ONCE = ClusterModel(child_seconds=None, push_s=0.0)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with closing(VirtualLoop()) as loop, loop.entered():
        yield loop


@pytest.fixture
def ledger(loop: VirtualLoop) -> Iterator[Ledger]:
    """A ledger with six children."""
    with closing(Ledger(Path(":memory:"), 0, 6, clock=loop.time)) as ledger:
        ledger.begin(workers=2)
        ledger.admit(0, 1, [PROPOSAL] * 6, ())
        yield ledger


def two_workers(ledger: Ledger, trains: TimedTraining) -> tuple[Pool, WorkerLog]:
    """Return a pool with two workers, and their log."""
    rules = Rules(heartbeat_timeout_s=math.inf)
    group = SimulatedWorkers(2, trains, AT_ONCE, rules, epochs=1, seed=1)
    keys = map(str, itertools.count())
    options = PoolOptions(rules=rules, policy=FailureOptions().policy, batch_size=TINY.budget.batch_size)
    clock = asyncio.get_running_loop().time
    delayed = DelayedLedger(ledger, 0.0)
    return Pool(
        2, group, delayed, options, clock=clock, new_key=lambda: next(keys), next_poll=group.look
    ), group.worker_log


def seen_from_a_replica(pool: Pool) -> PooledEvaluator:
    return PooledEvaluator(pool.evaluate, lambda: 0.0, 0.0)


class ByHand:
    """Advances the time until an outcome is available."""

    def __init__(self, loop: VirtualLoop, inner: PooledEvaluator) -> None:
        self._loop, self._inner = loop, inner

    def submit(self, *assignments: Assignment) -> None:
        self._inner.submit(*assignments)

    def completed(self) -> list[tuple[int, Outcome]]:
        while not (found := self._inner.completed()):
            self._loop.advance_until(self._loop.create_task(self._inner.news()))
        return found


class TestPooledEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, loop: VirtualLoop, ledger: Ledger) -> Evaluator:
        trainer = Trainer(TINY)
        pool, _ = two_workers(ledger, lambda child: (trainer.train(child), 10.0 - child.child_id))
        return ByHand(loop, seen_from_a_replica(pool))


def test_children_of_all_replicas_are_trained_first_come_first_served(loop: VirtualLoop, ledger: Ledger) -> None:
    seconds = {1: 4.0, 2: 1.0, 3: 1.0, 4: 5.0, 5: 1.0}
    pool, worker_log = two_workers(ledger, lambda child: (fake_outcome(child.seed, 0.0), seconds[child.child_id]))
    one, two = seen_from_a_replica(pool), seen_from_a_replica(pool)
    for child_id, evaluator in ((1, one), (2, one), (3, two), (4, one), (5, two)):
        evaluator.submit(assignment(child_id, architecture()))
    assert one.completed() == []
    loop.advance_until(loop.create_task(asyncio.sleep(100.0)))
    assert [(s.child_id, s.started_at, s.ended_at, s.useful_s) for s in worker_log.intervals] == [
        (2, 0, 1, 1),
        (3, 1, 2, 1),
        (1, 0, 4, 4),
        (5, 4, 5, 1),
        (4, 2, 7, 5),
    ]
    assert [child_id for child_id, _ in one.completed()] == [2, 1, 4]
    assert [child_id for child_id, _ in two.completed()] == [3, 5]
    assert (worker_log.busy_s(7.0), worker_log.busy_s(3.0)) == (12, 6)
    assert worker_log.last_child_started_at == 4.0


def test_a_child_without_an_outcome_is_an_error_not_a_hang(loop: VirtualLoop) -> None:
    config = RunConfig(searcher="random", reward="accuracy", task=TaskOptions(task="synthetic"), topology=Topology())
    submitted = list[int]()

    async def never(assignment: Assignment) -> Outcome:
        submitted.append(assignment.child_id)
        await asyncio.Event().wait()
        raise AssertionError

    with closing(Ledger(Path(":memory:"), 0, 8, clock=loop.time)) as ledger:
        parts = ReplicaParts(
            make=lambda index, evaluator, ledger: make_replica(config, index, None, evaluator, ledger),
            evaluate=never,
            ledger=ledger,
            shards=SimulatedShards(1, AT_ONCE, seed=1),
            steps=ShardSteps(),
            delay_s=0.0,
            mtbf_s=None,
            recovery_s=0.0,
        )
        life = ReplicaLife(0, parts, ReplicaLog(), random.Random(1))
        with pytest.raises(RuntimeError, match="waits for an event that cannot occur"):
            loop.advance_until(loop.create_task(life.run()))
    assert submitted == list(range(1, 9))
