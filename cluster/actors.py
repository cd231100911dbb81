"""The Ray actors: thin shells that put the run's parts into processes. Each may be killed and started again.

The parts themselves are imported where they are needed, so that a process without training (the ledger's, the
pool's) does without torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray._private import worker as ray_worker
from ray._private.state import state as ray_state
from ray.exceptions import RayActorError, RayError

from child_trainer.outcome import Cause, Failure, Outcome
from cluster.config import RunConfig
from cluster.evaluator import Assignment
from cluster.ledger import Ledger
from cluster.pool.checkpoints import CheckpointFolder, ChildSlot
from cluster.pool.crew import BrokenOff, Gone, Order, Report
from cluster.pool.pool import Pool, Terms
from cluster.pool.supervision import Nodes
from cluster.pool.worker import LastWords, WorkerProcess
from cluster.records import Attempt, Verdict
from cluster.run_folder import writing

if TYPE_CHECKING:
    from ps.client import GrpcStore
    from ps.store import Layout, ParameterStore

Handle = Any
"""An actor's handle: Ray's own type knows nothing of the actor's methods."""

SURVIVES: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
"""Options of an actor whose methods may be repeated: Ray starts it again and delivers the calls again."""


LEDGER, POOL, CHECKPOINTS = "ledger", "pool", "checkpoints"
"""Names by which the actors of one run find each other. Runs side by side have namespaces of their own."""

CALL_S = 10.0
"""Seconds that a worker waits for an answer to its sign of life."""

PATIENCE_S = 600.0
"""Seconds in which a shard that died must be back before the run ends, to be resumed later."""

PAUSE_S = 0.5
"""Seconds after which a replica that is ahead of the others asks again whether it may go on."""


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
        token: of the shards; where they are the ledger knows.
        ledger, pool: the actors.
    """

    layout: Layout | None
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


@functools.cache
def _actor(name: str) -> Handle:
    """A handle stays good when its actor is started anew. Raises `ValueError` if there is none of this name."""
    return ray.get_actor(name)


def worker_name(slot: int) -> str:
    """The name under which a worker is found by the actors of its run, be they started anew."""
    return f"worker-{slot}"


@ray.remote(max_restarts=-1)
class Worker:
    """Trains children, one at a time, on its GPU or its share of the cores; see `WorkerProcess`."""

    def __init__(self, config: RunConfig, slot: int) -> None:
        from cluster.training import Trainer

        context = ray.get_runtime_context()
        # Two Rays on one machine count their jobs alike, but each has a folder of its own.
        node: Any = ray_worker._global_node
        last_words = LastWords(Path(node.get_logs_dir_path()) / f"nascluster-{context.get_job_id()}-{slot}.died")
        before = last_words.take()
        last_words.record()
        slots = _checkpoint_slot if config.failures.checkpoint_children else None
        self._process = WorkerProcess(
            Trainer(config, gpu=bool(ray.get_gpu_ids()), slots=slots),
            place=f"worker-{slot}@{ray.util.get_node_ip_address()}:{os.getpid()}",
            node=context.get_node_id(),
            beat=lambda place, key: _beat(slot, place, key),
            last_words=before,
        )
        self._process.leave_on_sigterm()

    @ray.method(max_task_retries=-1)
    def report(self) -> Report:
        """Where this worker is, and what its last attempt gave."""
        return self._process.report()

    def train(self, order: Order) -> Outcome:
        """Train one child."""
        return self._process.train(order)


def _beat(slot: int, place: str, key: str | None) -> bool:
    pool = _actor(POOL)
    return ray.get(pool.beat.options(max_task_retries=0).remote(slot, place, key), timeout=CALL_S)


def _checkpoint_slot(child_id: int) -> ChildSlot:
    return ChildSlot(_RemoteCheckpoints(_actor(CHECKPOINTS)), child_id)


@ray.remote(**SURVIVES)
class CheckpointHost(CheckpointFolder):
    """The children's checkpoints, in the run's folder."""


class _RemoteCheckpoints:
    """The folder as a worker sees it. What goes wrong with it is an `OSError`, wherever the folder is."""

    def __init__(self, host: Handle) -> None:
        self._host = host

    def load(self, child_id: int) -> bytes | None:
        return self._call(self._host.load.remote(child_id))

    def save(self, child_id: int, data: bytes) -> None:
        self._call(self._host.save.remote(child_id, data))

    def _call(self, call: ray.ObjectRef) -> Any:
        try:
            return ray.get(call)
        except RayError as error:
            raise OSError(f"the checkpoint host: {_last_line(error)}") from error


class RayCrew:
    """The workers as Ray's actors; see `cluster.pool.crew.Crew`."""

    def __init__(self, checkpoints: bool) -> None:
        self._checkpoints = checkpoints

    async def report(self, slot: int) -> Report:
        """See `Crew.report`."""
        try:
            worker = _actor(worker_name(slot))
            return await worker.report.remote()
        except (RayError, ValueError) as error:  # its constructor failed, or Ray has forgotten it since
            raise Gone(_last_line(error)) from error

    async def train(self, slot: int, order: Order) -> Outcome:
        """See `Crew.train`."""
        try:
            worker = _actor(worker_name(slot))
            return await worker.train.remote(order)
        except (RayActorError, ValueError) as error:
            raise BrokenOff(_last_line(error)) from error
        except RayError as error:
            failure = Failure(cause=Cause.CRASHED, message=str(error))
            seed = order.assignment.seed
            return Outcome(curve=(), seconds=0.0, parameters=None, flops=None, seed=seed, failure=failure)

    def restart(self, slot: int) -> None:
        """See `Crew.restart`."""
        with contextlib.suppress(ValueError):
            ray.kill(_actor(worker_name(slot)), no_restart=False)

    async def nodes(self) -> Nodes:
        """See `Crew.nodes`."""
        return await asyncio.get_running_loop().run_in_executor(None, _nodes)

    def forget(self, child_id: int) -> None:
        """See `Crew.forget`."""
        if self._checkpoints:
            _actor(CHECKPOINTS).forget.remote(child_id)


def _nodes() -> Nodes:
    alive = frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
    return Nodes(alive=alive, draining=frozenset(ray_state.get_draining_nodes()))


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]


class AwaitedLedger:
    """The ledger as the pool reaches it; see `cluster.pool.crew.PoolLedger`."""

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """See `PoolLedger.attempts`."""
        return await _ledger().attempts.remote(child_id)

    async def running(self) -> Sequence[Attempt]:
        """See `PoolLedger.running`."""
        return await _ledger().running.remote()

    async def start(self, attempt: Attempt) -> None:
        """See `PoolLedger.start`."""
        await _ledger().start.remote(
            attempt.child_id, attempt.worker, attempt.key, slot=attempt.slot, batch_size=attempt.batch_size
        )

    async def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """See `PoolLedger.end_attempt`."""
        return await _ledger().end_attempt.remote(key, outcome, verdict)


def _ledger() -> Handle:
    return _actor(LEDGER)


@ray.remote(**SURVIVES)
class PoolHost:
    """The pool, see `cluster.pool.pool.Pool`, as an actor that asks its run's other actors by name."""

    def __init__(self, slots: int, terms: Terms) -> None:
        self._pool = Pool(
            slots,
            RayCrew(terms.rules.checkpoints),
            AwaitedLedger(),
            terms,
            clock=time.time,
            new_key=lambda: secrets.token_hex(8),
        )

    async def evaluate(self, assignment: Assignment) -> Outcome:
        """See `Pool.evaluate`."""
        return await self._pool.evaluate(assignment)

    async def beat(self, slot: int, place: str, key: str | None) -> bool:
        """See `Pool.beat`."""
        return await self._pool.beat(slot, place, key)

    async def stop(self) -> None:
        """See `Pool.stop`."""
        await self._pool.stop()

    @ray.method(max_task_retries=0)
    async def next_loss(self) -> str:
        """See `Pool.next_loss`. Not repeated by Ray, which would have a word to say on it when the run ends."""
        return await self._pool.next_loss()


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
    """Serves one or more shards over gRPC, and has the ledger know where."""

    def __init__(self, layout: Layout, indices: Sequence[int], directory: Path, host: str, token: str) -> None:
        from ps.server import ShardServer

        self._writing = writing(directory.parent)
        self._server = ShardServer(layout, indices, directory, host=host, token=token)
        ray.get(_ledger().serve.remote(list(indices), self._server.address))

    def ready(self) -> None:
        """Returns once the shards are served."""


def open_store(layout: Layout, ledger: Handle, token: str) -> GrpcStore:
    """The shards' client, which asks the ledger where they are, and again whenever one cannot be reached."""
    from ps.client import GrpcStore

    return GrpcStore(layout, lambda: ray.get(ledger.addresses.remote()), token=token, patience_s=PATIENCE_S)


@ray.remote(**SURVIVES)
class ReplicaHost:
    """Runs one or more controller replicas, each in a thread of its own."""

    def __init__(self) -> None:
        import torch

        import cluster.parts  # noqa: F401 - takes a second or two, and the process starts before it is told to run

        torch.set_num_threads(1)  # a policy of this size only loses by more

    def run(self, config: RunConfig, indices: Sequence[int], connections: Connections) -> None:
        """Run these replicas to the end of the search; raises what the first of them raised."""
        layout = connections.layout
        store = layout and open_store(layout, connections.ledger, connections.token)
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
    replica = make_replica(config, index, store, PoolEvaluator(connections.pool), ledger)
    for _ in replica_loop(replace(replica, pause=lambda: time.sleep(PAUSE_S))):
        pass
