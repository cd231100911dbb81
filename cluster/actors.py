"""The Ray actors: thin shells that put the run's parts into processes. Each may be killed and started again.

The parts themselves are imported where they are needed, so that a process without training (the ledger's, the
pool's) does without torch.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError

from child_trainer.outcome import Cause, Failure, Outcome
from cluster.config import RunConfig
from cluster.evaluator import Assignment
from cluster.ledger import Ledger
from cluster.run_folder import writing

if TYPE_CHECKING:
    from ps.store import Layout, ParameterStore

Handle = Any
"""An actor's handle: Ray's own type knows nothing of the actor's methods."""

SURVIVES: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
"""Options of an actor whose methods may be repeated: Ray starts it again and delivers the calls again."""


@ray.remote(**SURVIVES)
class LedgerHost(Ledger):
    """The run's one writer of the ledger."""

    def __init__(self, path: Path, seed: int, max_children: int) -> None:
        self._writing = writing(path.parent)
        super().__init__(path, seed, max_children)


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What a replica is connected to.

    Attributes:
        layout: of the shards, or `None` where the searcher keeps nothing on them.
        addresses: of the shards, host:port each.
        token: of the shards.
        ledger, pool: the actors.
    """

    layout: Layout | None
    addresses: Sequence[str]
    token: str
    ledger: Handle
    pool: Handle


class RemoteLedger:
    """The ledger as its actor's callers see it: the same methods, each a call that waits."""

    def __init__(self, host: Handle) -> None:
        self._host = host

    def __getattr__(self, method: str) -> Any:
        remote = getattr(self._host, method).remote
        return lambda *args, **kwargs: ray.get(remote(*args, **kwargs))


@ray.remote(max_restarts=-1)
class Worker:
    """Trains children, one at a time, on its GPU or its share of the cores."""

    def __init__(self, config: RunConfig, index: int) -> None:
        from cluster.training import Trainer

        self._trainer = Trainer(config, gpu=bool(ray.get_gpu_ids()))
        self._index = index

    @ray.method(max_task_retries=-1)
    def describe(self) -> str:
        """Where this worker is, for the record of attempts."""
        return f"worker-{self._index}@{ray.util.get_node_ip_address()}:{os.getpid()}"

    def train(self, assignment: Assignment) -> Outcome:
        """Train one child."""
        return self._trainer.train(assignment)


MAX_ATTEMPTS = 2
"""A child whose worker dies is trained once more elsewhere: the death may not have been its fault."""


KEPT_OUTCOMES = 4_000
"""Outcomes that the pool keeps after it gave them out; more than are ever out at once (the paper: 800)."""


class NoWorkers(RuntimeError):
    """No worker is left to train anything."""


@ray.remote(num_cpus=0)
class Pool:
    """Hands children to workers, first come, first served. A child that is asked for twice is trained once.

    Args:
        ledger: told of every attempt.
        renew_crashed: start a worker afresh after a crashed child, as a GPU may be unusable for its process then.
    """

    def __init__(self, ledger: Handle, *, renew_crashed: bool = False) -> None:
        self._ledger = ledger
        self._renew_crashed = renew_crashed
        self._living = 0
        self._idle: asyncio.Queue[tuple[Handle, str]] = asyncio.Queue()
        self._losses: asyncio.Queue[str] = asyncio.Queue()
        self._children: dict[Assignment, asyncio.Task[Outcome]] = {}
        self._ended: deque[Assignment] = deque()
        self._enlisting: set[asyncio.Task[None]] = set()

    async def open(self, workers: Sequence[Handle]) -> None:
        """Use each worker from the moment that it answers, be it now or when its node has come up; returns at once."""
        self._living += len(workers)
        for worker in workers:
            self._enlist(worker)

    async def next_loss(self) -> str:
        """Waits for a worker that cannot be started, now or again, and gives the reason.

        Raises:
            NoWorkers: with the reason, if it was the last.
        """
        reason = await self._losses.get()
        if not self._living:
            raise NoWorkers(f"no worker is left; the last one said: {reason}")
        return reason

    async def evaluate(self, assignment: Assignment) -> Outcome:
        """Train a child on the next idle worker, or wait for its training if it is under way."""
        task = self._children.get(assignment)
        if task is None:
            task = asyncio.create_task(self._train(assignment))
            self._children[assignment] = task
            task.add_done_callback(lambda _: self._forget_oldest(assignment))
        # A caller that dies must not take the training with it: its successor asks for the same child.
        return await asyncio.shield(task)

    def _forget_oldest(self, ended: Assignment) -> None:
        """An outcome is kept for a while: the caller may have died with it, and its successor asks again."""
        self._ended.append(ended)
        if len(self._ended) > KEPT_OUTCOMES:
            del self._children[self._ended.popleft()]

    async def _train(self, assignment: Assignment) -> Outcome:
        outcome = None
        for attempt in range(1, MAX_ATTEMPTS + 1):
            worker, place = await self._idle.get()
            try:
                await self._ledger.start.remote(assignment.child_id, place, secrets.token_hex(8))
                outcome = await worker.train.remote(assignment)
            except RayActorError as error:
                self._enlist(worker)
                outcome = _crashed(assignment, f"{place}, attempt {attempt}: {error}")
            except RayError as error:
                self._idle.put_nowait((worker, place))
                return _crashed(assignment, f"{place}: {error}")
            else:
                self._give_back(worker, place, outcome)
                return outcome
        assert outcome is not None
        return outcome

    def _give_back(self, worker: Handle, place: str, outcome: Outcome) -> None:
        if self._renew_crashed and outcome.failure and outcome.failure.cause == Cause.CRASHED:
            ray.kill(worker, no_restart=False)
            self._enlist(worker)
        else:
            self._idle.put_nowait((worker, place))

    def _enlist(self, worker: Handle) -> None:
        async def wait_for_it() -> None:
            try:
                self._idle.put_nowait((worker, await worker.describe.remote()))
            except RayError as error:
                self._living -= 1
                self._losses.put_nowait(str(error).strip().rpartition("\n")[2])

        task = asyncio.create_task(wait_for_it())
        self._enlisting.add(task)  # a task that nobody holds may be collected before it is done
        task.add_done_callback(self._enlisting.discard)


def _crashed(assignment: Assignment, message: str) -> Outcome:
    failure = Failure(cause=Cause.CRASHED, message=message)
    return Outcome(curve=(), seconds=0.0, parameters=None, flops=None, seed=assignment.seed, failure=failure)


class PoolEvaluator:
    """A replica's view of the pool."""

    def __init__(self, pool: Handle) -> None:
        self._pool = pool
        self._waiting: dict[ray.ObjectRef, int] = {}

    def submit(self, assignment: Assignment) -> None:
        """Hand the child to the pool."""
        self._waiting[self._pool.evaluate.remote(assignment)] = assignment.child_id

    def completed(self) -> list[tuple[int, Outcome]]:
        """The children that have ended, waiting up to a second for the first."""
        ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=1.0)
        return [(self._waiting.pop(ref), ray.get(ref)) for ref in ready]


@ray.remote(**SURVIVES)
class ShardHost:
    """Serves one or more shards over gRPC."""

    def __init__(self, layout: Layout, indices: Sequence[int], directory: Path, address: str, token: str) -> None:
        from ps.server import ShardServer

        self._writing = writing(directory.parent)
        # The port is fixed from outside, so that the clients find a host that was started again.
        host, _, port = address.rpartition(":")
        self._server = ShardServer(layout, indices, directory, host=host, port=int(port), token=token)

    def ready(self) -> None:
        """Returns once the shards are served."""


@ray.remote(**SURVIVES)
class ReplicaHost:
    """Runs one or more controller replicas, each in a thread of its own."""

    def run(self, config: RunConfig, indices: Sequence[int], connections: Connections) -> None:
        """Run these replicas to the end of the search; raises what the first of them raised."""
        import torch

        from ps.client import GrpcStore

        torch.set_num_threads(1)  # a policy of this size only loses by more
        layout = connections.layout
        store = layout and GrpcStore(layout, connections.addresses, token=connections.token)
        threads = ThreadPoolExecutor(len(indices))
        running = [threads.submit(_run_replica, config, index, store, connections) for index in indices]
        # The first error ends the run at once; it must not wait for the other replicas to finish the search.
        for replica in wait(running, return_when=FIRST_EXCEPTION).done:
            replica.result()
        if store:
            store.close()


def _run_replica(config: RunConfig, index: int, store: ParameterStore | None, connections: Connections) -> None:
    from cluster.parts import make_replica
    from cluster.replica import replica_loop

    ledger: Any = RemoteLedger(connections.ledger)
    for _ in replica_loop(make_replica(config, index, store, PoolEvaluator(connections.pool), ledger)):
        pass
