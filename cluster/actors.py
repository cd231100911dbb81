"""The Ray actors: thin shells that put the run's parts into processes. Each may be killed and started again.

The parts themselves are imported where they are needed, so that a process without training (the ledger's, the
pool's) does without torch.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from child_trainer.outcome import Cause, Failure, Outcome
from cluster.config import RunConfig
from cluster.evaluator import Assignment
from cluster.ledger import Ledger

if TYPE_CHECKING:
    from ps.store import Layout, ParameterStore

Handle = Any
"""An actor's handle: Ray's own type knows nothing of the actor's methods."""

SURVIVES: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
"""Options of an actor whose methods may be repeated: Ray starts it again and delivers the calls again."""

LedgerHost: Any = ray.remote(**SURVIVES)(Ledger)
"""The run's one writer of the ledger."""


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

        self._trainer = Trainer(config)
        self._index = index

    @ray.method(max_task_retries=-1)
    def describe(self) -> str:
        """Where this worker is, for the record of attempts."""
        return f"worker-{self._index}@{ray.util.get_node_ip_address()}:{os.getpid()}"

    def train(self, assignment: Assignment) -> Outcome:
        """Train one child."""
        return self._trainer.train(assignment)


@ray.remote(num_cpus=0)
class Pool:
    """Hands children to workers in the order in which they come."""

    def __init__(self, ledger: Handle) -> None:
        self._ledger = ledger
        self._idle: asyncio.Queue[tuple[Handle, str]] = asyncio.Queue()
        self._returning: set[asyncio.Task[None]] = set()

    async def enlist(self, worker: Handle) -> None:
        """Use a worker from the moment that it answers, be it now or when its node has come up."""
        self._idle.put_nowait((worker, await worker.describe.remote()))

    async def evaluate(self, assignment: Assignment) -> Outcome:
        """Train a child on the next idle worker; a worker that dies gives a `crashed` child and is started again."""
        worker, place = await self._idle.get()
        try:
            await self._ledger.start.remote(assignment.child_id, place)
            outcome = await worker.train.remote(assignment)
        except RayError as error:
            failure = Failure(cause=Cause.CRASHED, message=f"{place}: {error}")
            outcome = Outcome(curve=(), seconds=0.0, parameters=None, flops=None, seed=assignment.seed, failure=failure)
            returning = asyncio.create_task(self.enlist(worker))
            self._returning.add(returning)  # a task that nobody holds may be collected before it is done
            returning.add_done_callback(self._returning.discard)
        else:
            self._idle.put_nowait((worker, place))
        return outcome


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

    def __init__(self, layout: Layout, indices: Sequence[int], directory: Path, host: str, token: str) -> None:
        from ps.server import ShardServer

        self._server = ShardServer(layout, indices, directory, host=host, token=token)

    def address(self) -> str:
        """Where the shards are served, host:port."""
        return self._server.address


@ray.remote(**SURVIVES)
class ReplicaHost:
    """Runs one or more controller replicas, each in a thread of its own."""

    def run(self, config: RunConfig, indices: Sequence[int], connections: Connections) -> None:
        """Run these replicas to the end of the search; raises what the first of them raised."""
        import torch

        from ps.client import GrpcStore

        torch.set_num_threads(1)  # a policy of this size only loses by more
        layout, errors = connections.layout, []
        store = layout and GrpcStore(layout, connections.addresses, token=connections.token)

        def run_one(index: int) -> None:
            try:
                _run_replica(config, index, store, connections)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run_one, args=(index,), daemon=True) for index in indices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if store:
            store.close()
        if errors:
            raise errors[0]


def _run_replica(config: RunConfig, index: int, store: ParameterStore | None, connections: Connections) -> None:
    from cluster.parts import make_replica
    from cluster.replica import replica_loop

    ledger: Any = RemoteLedger(connections.ledger)
    for _ in replica_loop(make_replica(config, index, store, PoolEvaluator(connections.pool), ledger)):
        pass
