"""One simulated search: the real replicas, pool, ledger and store, on a virtual clock, among simulated machines."""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from child_trainer.outcome import Outcome
from cluster.config.run_config import RunConfig
from cluster.pool.pool import Pool
from cluster.pool.supervision import PoolOptions
from cluster.runners.build import local_store, make_parameters, make_replica, make_searcher
from cluster.runners.local import one_thread
from cluster.search.evaluator import Assignment, ChildTrainer, Evaluator
from cluster.search.records import Attempt, Verdict
from cluster.search.replica import Replica
from cluster.search.seeding import derive
from cluster.simulation.clock import VirtualLoop
from cluster.simulation.conditions import Conditions
from cluster.simulation.crew import Diary, SimulatedWorkers, TimedTraining
from cluster.simulation.replicas import Log, Parts, ReplicaLife, Steps
from cluster.simulation.shards import ShardLog, SimulatedShards
from cluster.simulation.stand_in import StandIn, trained
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.schema import IN_MEMORY


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What a search came to.

    Attributes:
        ended_at: seconds until the last replica had come to its end.
        children: how many have ended.
        failed: how many of them were given up.
        attempts: how many were made at them.
        diary: of the workers.
        replicas: of the replicas.
        shards: of the shards.
    """

    ended_at: float
    children: int
    failed: int
    attempts: int
    diary: Diary
    replicas: Log
    shards: ShardLog


class NearbyLedger:
    """The ledger as the pool reaches it; see `cluster.pool.protocol.PoolLedger`.

    Args:
        ledger: itself.
        delay_s: seconds of a message.
    """

    def __init__(self, ledger: Ledger, delay_s: float) -> None:
        self._ledger, self._delay_s = ledger, delay_s
        self.started = 0

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """See `PoolLedger.attempts`."""
        return await self._call(lambda: self._ledger.attempts(child_id))

    async def running(self) -> Sequence[Attempt]:
        """See `PoolLedger.running`."""
        return await self._call(self._ledger.running)

    async def start(self, attempt: Attempt) -> None:
        """See `PoolLedger.start`."""
        self.started += 1
        await self._call(
            lambda: self._ledger.start(
                attempt.child_id, attempt.worker, attempt.key, slot=attempt.slot, batch_size=attempt.batch_size
            )
        )

    async def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """See `PoolLedger.end_attempt`."""
        return await self._call(lambda: self._ledger.end_attempt(key, outcome, verdict))

    async def _call(self, call: Callable[[], Any]) -> Any:
        if not self._delay_s:
            return call()
        await asyncio.sleep(self._delay_s)
        answer = call()
        await asyncio.sleep(self._delay_s)
        return answer


def simulated(config: RunConfig, conditions: Conditions, trainer: ChildTrainer | None = None) -> Course:
    """The whole search that the configuration describes, of which nothing else is kept.

    Args:
        config: the run's; `workers` unset: one for each child that may be in training.
        conditions: what the cluster is like.
        trainer: answers for the children, whose architectures the run's searcher then chooses; `None`: only their
            times matter, and a stand-in chooses.

    Raises:
        RuntimeError: the search cannot come to its end.
    """
    with (
        closing(VirtualLoop()) as loop,
        closing(Ledger(IN_MEMORY, config.seed, config.max_children, clock=loop.time)) as ledger,
    ):
        return simulated_on(loop, ledger, config, conditions, trainer)


def simulated_on(
    loop: VirtualLoop, ledger: Ledger, config: RunConfig, conditions: Conditions, trainer: ChildTrainer | None = None
) -> Course:
    """The same for one who wants to know what is in the ledger then.

    Args:
        loop: a new one.
        ledger: a new one, by that loop's clock.
        config, conditions, trainer: see `simulated`.

    Raises:
        RuntimeError: the search cannot come to its end.
    """
    with one_thread(), ledger.together():  # nobody else reads it meanwhile, and it need not outlive an error
        return loop.carry_out(_search(config, conditions, trainer, ledger))


def workers_of(config: RunConfig) -> int:
    """How many workers the run has."""
    topology = config.topology
    return topology.workers or topology.replicas * topology.children


async def _search(config: RunConfig, conditions: Conditions, trainer: ChildTrainer | None, ledger: Ledger) -> Course:
    loop, workers = asyncio.get_running_loop(), workers_of(config)
    # Workers that are there are heard of in time, so that none has to say so every two seconds.
    rules = replace(config.failures.rules, heartbeat_timeout_s=math.inf)
    options = PoolOptions(
        rules=rules, policy=config.failures.policy, batch_size=config.budget.batch_size, replaced=True
    )
    seeds = {what: derive(config.seed, "simulation", what) for what in ("workers", "shards", "replicas")}
    group = SimulatedWorkers(
        workers, _timed(conditions, trainer), conditions, rules, config.budget.epochs, seeds["workers"]
    )
    ledger.begin(workers=workers)
    nearby, keys = NearbyLedger(ledger, conditions.delay_s), map(str, itertools.count(1))
    pool = Pool(workers, group, nearby, options, clock=loop.time, new_key=lambda: next(keys), next_poll=group.look)
    group.beat = pool.beat
    failed = set[int]()
    shards, log = SimulatedShards(config.topology.shards, conditions, seeds["shards"]), Log()
    parts = Parts(
        make=_maker(config, trainer),
        evaluate=_noting(failed, pool.evaluate),
        ledger=ledger,
        shards=shards,
        steps=Steps(),
        delay_s=conditions.delay_s,
        mtbf_s=conditions.replica_mtbf_s,
        recovery_s=conditions.replica_recovery_s,
    )
    rng = random.Random(seeds["replicas"])
    lives = [ReplicaLife(index, parts, log, rng) for index in range(config.topology.replicas)]
    await _all_ended([asyncio.create_task(life.run(), name="a replica") for life in lives], pool)
    shards.close(log.ended_at)
    group.diary.write_off(failed)
    return Course(
        ended_at=log.ended_at,
        children=ledger.completed(),
        failed=len(failed),
        attempts=nearby.started,
        diary=group.diary,
        replicas=log,
        shards=shards.log,
    )


def _noting(
    failed: set[int], evaluate: Callable[[Assignment], Awaitable[Outcome]]
) -> Callable[[Assignment], Awaitable[Outcome]]:
    """The same, which also notes the children that are given up."""

    async def evaluate_and_note(assignment: Assignment) -> Outcome:
        outcome = await evaluate(assignment)
        if outcome.failure:
            failed.add(assignment.child_id)
        return outcome

    return evaluate_and_note


async def _all_ended(lives: Sequence[asyncio.Task[None]], pool: Pool) -> None:
    """Returns when all have come to their end; raises what ends one of them, or the pool's work, too early."""
    ended, news = asyncio.gather(*lives), asyncio.create_task(_heard(pool))
    done, _ = await asyncio.wait({ended, news}, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()


async def _heard(pool: Pool) -> None:
    while True:
        await pool.next_news()


def _timed(conditions: Conditions, trainer: ChildTrainer | None) -> TimedTraining:
    times = conditions.child_seconds

    def trains(assignment: Assignment) -> tuple[Outcome, float]:
        outcome = trainer.train(assignment) if trainer else None
        # By the child's own seed: another attempt takes as long, and so does the child in a search that is compared.
        seconds = times.draw(random.Random(assignment.seed)) if times else outcome.seconds if outcome else 0.0
        return outcome or trained(assignment.seed, seconds), seconds

    return trains


def _maker(config: RunConfig, trainer: ChildTrainer | None) -> Callable[[int, Evaluator, Any], Replica]:
    """What makes each of the run's replicas, with the run's store behind it."""
    if trainer is None:
        # The shards step together, so that one does for all of them where it does not matter what they hold.
        stand_in = StandIn(learns=bool(make_parameters(config, make_searcher(config))))
        config = replace(config.with_searcher("random"), topology=replace(config.topology, shards=1))
    else:
        stand_in = None
    store = local_store(config, "simulated", searcher=stand_in)

    def make(index: int, evaluator: Evaluator, ledger: Any) -> Replica:
        replica = make_replica(config, index, store, evaluator, ledger)
        return replace(replica, searcher=stand_in) if stand_in else replica

    return make
