"""Simulates one search: real replicas, pool, ledger and store on a virtual clock, and simulated machines."""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Steps
from child_trainer.threads import computing_with
from cluster.config.run_config import RunConfig
from cluster.pool.pool import Pool
from cluster.pool.supervision import PoolOptions
from cluster.runners.build import local_store, make_parameters, make_replica
from cluster.search.evaluator import Assignment, ChildTrainer, Evaluator
from cluster.search.records import Attempt, AttemptEnd, end_calls, made_together, start_calls
from cluster.search.replica import Replica
from cluster.search.seeding import derive
from cluster.simulation.clock import VirtualLoop
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.fake_searcher import FakeSearcher, FakeSharingSearcher, fake_outcome, steps_outcome
from cluster.simulation.replicas import ReplicaLife, ReplicaLog, ReplicaParts, ShardSteps
from cluster.simulation.shards import ShardLog, SimulatedShards
from cluster.simulation.step_clock import StepClock, StepLog
from cluster.simulation.worker_log import WorkerLog
from cluster.simulation.workers import SimulatedWorkers, TimedTraining
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.schema import IN_MEMORY
from controller.searcher import is_exclusive, passes_of, shared_weights_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationResult:
    """The result of a simulated search.

    Attributes:
        ended_at: seconds until the last replica ended.
        children: number of ended children.
        failed: number of failed children among them.
        attempts: number of attempts at them.
        worker_log: record of the workers.
        replicas: record of the replicas.
        shards: record of the shards.
        steps: record of the steps on shared weights; `None` if the search has none.
    """

    ended_at: float
    children: int
    failed: int
    attempts: int
    worker_log: WorkerLog
    replicas: ReplicaLog
    shards: ShardLog
    steps: StepLog | None = None


class DelayedLedger:
    """The ledger behind delayed messages; see `cluster.pool.protocol.PoolLedger`.

    Args:
        ledger: the real ledger.
        delay_s: seconds per message.
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

    async def last_child(self) -> int:
        """See `PoolLedger.last_child`."""
        return await self._call(self._ledger.last_child)

    async def start(self, attempts: Sequence[Attempt]) -> None:
        """See `PoolLedger.start`."""
        self.started += len(attempts)
        await self._call(lambda: made_together(self._ledger, start_calls(attempts)))

    async def memory_uses(self) -> Sequence[tuple[int, int]]:
        """See `PoolLedger.memory_uses`."""
        return await self._call(self._ledger.memory_uses)

    async def end(self, ends: Sequence[AttemptEnd], *, can_wait: bool = False) -> Sequence[bool]:
        """See `PoolLedger.end`."""
        return (await self._call(lambda: made_together(self._ledger, end_calls(ends))))[: len(ends)]

    def hasten(self) -> None:
        """See `PoolLedger.hasten`: nothing waits."""

    async def _call(self, call: Callable[[], Any]) -> Any:
        if not self._delay_s:
            return call()
        await asyncio.sleep(self._delay_s)
        answer = call()
        await asyncio.sleep(self._delay_s)
        return answer


def simulate_search(config: RunConfig, model: ClusterModel, trainer: ChildTrainer | None = None) -> SimulationResult:
    """Simulate the whole search that the configuration describes, and discard its ledger.

    Args:
        config: the run; `workers` unset means one for each child that may be in training.
        model: the model of the cluster.
        trainer: gives the outcomes of children, whose architectures the run's searcher then chooses; `None`: only
            their times matter, and a fake searcher is used.

    Raises:
        RuntimeError: the search cannot end.
    """
    with (
        closing(VirtualLoop()) as loop,
        closing(Ledger(IN_MEMORY, config.seed, config.max_children, clock=loop.time)) as ledger,
    ):
        return simulate_search_on(loop, ledger, config, model, trainer)


def simulate_search_on(
    loop: VirtualLoop, ledger: Ledger, config: RunConfig, model: ClusterModel, trainer: ChildTrainer | None = None
) -> SimulationResult:
    """Simulate a whole search with this ledger, which can be read afterwards.

    Args:
        loop: a new loop.
        ledger: a new ledger on that loop's clock.
        config, model, trainer: see `simulate_search`.

    Raises:
        RuntimeError: the search cannot end.
    """
    with computing_with(1), ledger.together():  # it has no other reader, and need not survive an error
        return loop.run_work(_search(config, model, trainer, ledger))


def workers_of(config: RunConfig) -> int:
    """Return the number of workers of the run."""
    topology = config.topology
    return topology.workers or topology.replicas * topology.children


async def _search(
    config: RunConfig, model: ClusterModel, trainer: ChildTrainer | None, ledger: Ledger
) -> SimulationResult:
    loop, workers = asyncio.get_running_loop(), workers_of(config)
    # Simulated workers never fall silent, so that none has to send a heartbeat every two seconds.
    rules = replace(config.failures.rules, heartbeat_timeout_s=math.inf)
    options = PoolOptions(
        rules=rules, policy=config.failures.policy, batch_size=config.budget.batch_size, replaced=True
    )
    seeds = {what: derive(config.seed, "simulation", what) for what in ("workers", "shards", "replicas")}
    steps = model.steps(config)
    clock = StepClock(steps.step_seconds(workers)) if steps else None
    timed, epochs = _timed(model, trainer), config.budget.epochs
    group = SimulatedWorkers(workers, timed, model, rules, epochs, seeds["workers"], clock)
    ledger.begin(workers=workers)
    delayed, keys = DelayedLedger(ledger, model.delay_s), map(str, itertools.count(1))
    pool = Pool(workers, group, delayed, options, clock=loop.time, new_key=lambda: next(keys), next_poll=group.look)
    group.beat = pool.beat
    failed = set[int]()
    shards, log = SimulatedShards(config.topology.shards, model, seeds["shards"]), ReplicaLog()
    parts = ReplicaParts(
        make=_maker(config, trainer),
        evaluate=_recording_failures(failed, pool.evaluate),
        ledger=ledger,
        shards=shards,
        steps=ShardSteps(),
        delay_s=model.delay_s,
        mtbf_s=model.replica_mtbf_s,
        recovery_s=model.replica_recovery_s,
    )
    rng = random.Random(seeds["replicas"])
    lives = [ReplicaLife(index, parts, log, rng) for index in range(config.topology.replicas)]
    await _all_ended([asyncio.create_task(life.run(), name="a replica") for life in lives], pool)
    shards.close(log.ended_at)
    group.worker_log.write_off(failed)
    return SimulationResult(
        ended_at=log.ended_at,
        children=ledger.completed(),
        failed=len(failed),
        attempts=delayed.started,
        worker_log=group.worker_log,
        replicas=log,
        shards=shards.log,
        steps=clock.log if clock else None,
    )


def _recording_failures(
    failed: set[int], evaluate: Callable[[Assignment], Awaitable[Outcome]]
) -> Callable[[Assignment], Awaitable[Outcome]]:
    """Wrap `evaluate` so that it adds the children that fail to `failed`."""

    async def evaluate_and_record(assignment: Assignment) -> Outcome:
        outcome = await evaluate(assignment)
        if outcome.failure:
            failed.add(assignment.child_id)
        return outcome

    return evaluate_and_record


async def _all_ended(lives: Sequence[asyncio.Task[None]], pool: Pool) -> None:
    """Wait until all replicas have ended; raise the error of a replica, or of the pool, that fails."""
    ended, watch = asyncio.gather(*lives), asyncio.create_task(_watch_pool(pool))
    done, _ = await asyncio.wait({ended, watch}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _watch_pool(pool: Pool) -> None:
    while True:
        await pool.next_news()


def _timed(model: ClusterModel, trainer: ChildTrainer | None) -> TimedTraining:
    times = model.child_seconds

    def trains(assignment: Assignment) -> tuple[Outcome, float]:
        if isinstance(assignment.job, Steps):
            return steps_outcome(assignment.seed), 0.0
        outcome = trainer.train(assignment) if trainer else None
        # Seeded by the child: another attempt, and this child in another variant, take as long.
        seconds = times.draw(random.Random(assignment.seed)) if times else outcome.seconds if outcome else 0.0
        return outcome or fake_outcome(assignment.seed, seconds), seconds

    return trains


def fake_searcher(config: RunConfig) -> FakeSearcher:
    """Return the searcher that stands for the run's own where the architectures do not matter."""
    searcher = config.make_searcher()
    learns, passes = bool(make_parameters(config, searcher)), passes_of(searcher)
    if shared_weights_of(searcher) is None:
        return FakeSearcher(learns=learns, passes=passes)
    schedule: Any = config.searcher_options
    return FakeSharingSearcher(learns=learns, passes=passes, schedule=schedule, exclusive=is_exclusive(searcher))


def _maker(config: RunConfig, trainer: ChildTrainer | None) -> Callable[[int, Evaluator, Any], Replica]:
    """Return a function that makes the run's replicas, with the run's store behind them."""
    if trainer is None:
        # The shards step together: where their content does not matter, one stands for all.
        fake = fake_searcher(config)
        config = replace(config.with_searcher("random"), topology=replace(config.topology, shards=1))
    else:
        fake = None
    store = local_store(config, "simulated", searcher=fake)

    def make(index: int, evaluator: Evaluator, ledger: Any) -> Replica:
        replica = replace(make_replica(config, index, store, evaluator, ledger), records_origins=False)
        return replace(replica, searcher=fake) if fake else replica

    return make
