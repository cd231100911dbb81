"""Replicas on the virtual clock, and the pool as they see it."""

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
from cluster.simulation.conditions import Conditions
from cluster.simulation.crew import Diary, SimulatedWorkers, TimedTraining
from cluster.simulation.replicas import Log, Parts, PooledEvaluator, ReplicaLife, Steps
from cluster.simulation.search import NearbyLedger
from cluster.simulation.shards import SimulatedShards
from cluster.simulation.stand_in import PROPOSAL, trained
from cluster.storage.ledger.ledger import Ledger
from tests.cluster.searches import TINY
from tests.contracts.evaluator import EvaluatorContract, architecture, assignment

AT_ONCE = Conditions(child_seconds=None, push_s=0.0)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with closing(VirtualLoop()) as loop, loop.entered():
        yield loop


@pytest.fixture
def ledger(loop: VirtualLoop) -> Iterator[Ledger]:
    """It knows of six children."""
    with closing(Ledger(Path(":memory:"), 0, 6, clock=loop.time)) as ledger:
        ledger.begin(workers=2)
        ledger.admit(0, 1, [PROPOSAL] * 6, ())
        yield ledger


def two_workers(ledger: Ledger, trains: TimedTraining) -> tuple[Pool, Diary]:
    """A pool that has two, and their diary."""
    rules = Rules(heartbeat_timeout_s=math.inf)
    group = SimulatedWorkers(2, trains, AT_ONCE, rules, epochs=1, seed=1)
    keys = map(str, itertools.count())
    options = PoolOptions(rules=rules, policy=FailureOptions().policy, batch_size=TINY.budget.batch_size)
    clock = asyncio.get_running_loop().time
    nearby = NearbyLedger(ledger, 0.0)
    return Pool(2, group, nearby, options, clock=clock, new_key=lambda: next(keys), next_poll=group.look), group.diary


def seen_from_a_replica(pool: Pool) -> PooledEvaluator:
    return PooledEvaluator(pool.evaluate, lambda: 0.0, 0.0)


class ByHand:
    """Lets time pass by itself when there is nothing to be had."""

    def __init__(self, loop: VirtualLoop, inner: PooledEvaluator) -> None:
        self._loop, self._inner = loop, inner

    def submit(self, assignment: Assignment) -> None:
        self._inner.submit(assignment)

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


def test_children_are_trained_first_come_first_served_whosever_they_are(loop: VirtualLoop, ledger: Ledger) -> None:
    seconds = {1: 4.0, 2: 1.0, 3: 1.0, 4: 5.0, 5: 1.0}
    pool, diary = two_workers(ledger, lambda child: (trained(child.seed, 0.0), seconds[child.child_id]))
    one, two = seen_from_a_replica(pool), seen_from_a_replica(pool)
    for child_id, evaluator in ((1, one), (2, one), (3, two), (4, one), (5, two)):
        evaluator.submit(assignment(child_id, architecture()))
    assert one.completed() == []
    loop.advance_until(loop.create_task(asyncio.sleep(100.0)))
    assert [(s.child_id, s.began_at, s.ended_at, s.useful_s) for s in diary.stints] == [
        (2, 0, 1, 1),
        (3, 1, 2, 1),
        (1, 0, 4, 4),
        (5, 4, 5, 1),
        (4, 2, 7, 5),
    ]
    assert [child_id for child_id, _ in one.completed()] == [2, 1, 4]
    assert [child_id for child_id, _ in two.completed()] == [3, 5]
    assert (diary.busy_s(7.0), diary.busy_s(3.0)) == (12, 6)
    assert diary.first_begun_at == 4.0


def test_a_replica_whose_child_never_comes_back_is_not_waited_for_for_ever(loop: VirtualLoop) -> None:
    config = RunConfig(searcher="random", reward="accuracy", task=TaskOptions(task="synthetic"), topology=Topology())
    submitted = list[int]()

    async def never(assignment: Assignment) -> Outcome:
        submitted.append(assignment.child_id)
        await asyncio.Event().wait()
        raise AssertionError

    with closing(Ledger(Path(":memory:"), 0, 8, clock=loop.time)) as ledger:
        parts = Parts(
            make=lambda index, evaluator, ledger: make_replica(config, index, None, evaluator, ledger),
            evaluate=never,
            ledger=ledger,
            shards=SimulatedShards(1, AT_ONCE, seed=1),
            steps=Steps(),
            delay_s=0.0,
            mtbf_s=None,
            recovery_s=0.0,
        )
        life = ReplicaLife(0, parts, Log(), random.Random(1))
        with pytest.raises(RuntimeError, match="waits for something that can never come"):
            loop.advance_until(loop.create_task(life.run()))
    assert submitted == list(range(1, 9))
