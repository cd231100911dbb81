"""The Ray actors: thin shells that put the run's parts into processes. Each may be killed and restarted.

The parts themselves are imported where they are needed, so that a process without training (the ledger's, the
pool's) does not import torch.
"""

from __future__ import annotations

import functools
import os
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from child_trainer import own_files
from child_trainer.outcome import Cause, Outcome, Stopped, TrainingSoFar
from child_trainer.training import gpu_memory
from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.pool.checkpoints import CheckpointFolder, ChildSlot
from cluster.pool.child_weights import WeightsFolder
from cluster.pool.output_buffer import OutputBuffer
from cluster.pool.output_capture import BufferedCapture, by_descriptor, by_thread, split_by_thread
from cluster.pool.output_files import OUTPUTS, OutputFolder, keep_output
from cluster.pool.pool import Pool
from cluster.pool.protocol import Collected, NotStarted, Report, TrainingOrder, WorkerCensus
from cluster.pool.supervision import Gpu, PoolOptions
from cluster.pool.worker_process import HEARTBEAT_INTERVAL_S, CrashFile, WorkerProcess, preempt_on_sigterm
from cluster.runners.early_stopping import EarlyStopping
from cluster.runners.on_ray.credentials import RunToken, shards_tls
from cluster.runners.on_ray.handles import (
    CHECKPOINTS,
    CHILD_WEIGHTS,
    LEDGER,
    POOL,
    RETRY_TIMEOUT_S,
    Connections,
    PoolEvaluator,
    RemoteCheckpoints,
    RemoteWeights,
    StoreShards,
    WeightsAccess,
    actor,
    open_store,
    places_here,
)
from cluster.runners.on_ray.judging import PoolJudge, RemoteJudging
from cluster.runners.on_ray.pool_adapters import RayWorkers
from cluster.runners.on_ray.private_api import node_logs_folder
from cluster.runners.on_ray.shared_messages import AwaitedLedger, RemoteLedger
from cluster.search.evaluator import Assignment
from cluster.search.history import History
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.locks import sole_writer, writing
from ps.rpc.shared_calls import SharedCalls

if TYPE_CHECKING:
    from ps.store import ParameterStore

SURVIVES: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
"""Options of an actor whose methods may be repeated: Ray restarts it and repeats the calls."""

SERVES: dict[str, Any] = SURVIVES | {"max_concurrency": 2}
"""Options of an actor one of whose calls never returns, so that it must take another one beside it."""

CALL_TIMEOUT_S = 10.0
"""Timeout for the pool's answer to a worker's heartbeat or epoch, and for the ledger to keep a worker's output."""

SHARED_HEARTBEAT_INTERVAL_S = 10.0
"""Seconds between two heartbeats of a worker that shares its process with hundreds."""

FIRST_GPU = "cuda:0"
"""The GPU of a worker's process: Ray hides the others from it."""

AHEAD_POLL_INTERVAL_S = 0.5
"""Seconds between two checks whether a replica that is ahead of the others may continue."""


Beats = SharedCalls[tuple[int, str, str | None], bool]
"""The heartbeats of a process's workers: of each its slot, its place and the key of its attempt."""


@ray.remote(**SURVIVES)
class LedgerHost(Ledger):
    """The run's one writer of the ledger.

    Args:
        path, seed, max_children: see `Ledger`.
        files: the texts of the user's own files, whose operations architectures may name.
    """

    def __init__(self, path: Path, seed: int, max_children: int, files: Mapping[str, str] | None = None) -> None:
        own_files.load_all(files or {})
        self._writing = writing(path.parent)
        self._outputs = OutputFolder(path.parent / OUTPUTS)
        super().__init__(path, seed, max_children)

    def keep_output(self, child_id: int, key: str, text: str) -> None:
        """Keep what the attempt with this key printed; see `cluster.pool.output_files`."""
        keep_output(self, self._outputs, child_id, key, text)


@ray.remote(max_restarts=-1)
class Worker:
    """One worker, or several that share this process: each trains children, one at a time; see `WorkerProcess`."""

    def __init__(
        self, config: RunConfig, slots: Sequence[int], weights: WeightsAccess | None = None, inherits: bool = False
    ) -> None:
        from cluster.runners.trainer import trainer_on

        context = ray.get_runtime_context()
        # Two Rays on one machine number their jobs alike, but each has a folder of its own.
        own = f"{node_logs_folder()}/nascluster-{context.get_job_id()}"
        alone = len(slots) == 1
        if not alone:
            self._split = ExitStack()
            self._split.enter_context(split_by_thread())
        checkpoints = _checkpoint_slot if config.failures.checkpoint_children else None
        address = ray.util.get_node_ip_address()
        store = weights and open_store(weights.layout, actor(LEDGER), weights.token, store="weights")
        policy = weights and weights.policy and open_store(weights.policy, actor(LEDGER), weights.token)
        gpu = bool(ray.get_gpu_ids())
        trainer = trainer_on(
            address,
            config,
            gpu=gpu,
            slots=checkpoints,
            weights=store,
            policy=policy,
            child_weights=RemoteWeights(actor(CHILD_WEIGHTS)) if inherits else None,
            judge=PoolJudge() if config.stopping.early_stop else None,
        )
        part = _gpu_here(context.get_node_id()) if config.topology.gpus_per_child == AUTO else None
        places = places_here(slots)
        crash_file = CrashFile(Path(f"{own}-{slots[0]}.died"), list(places.values()))
        beats: Beats = SharedCalls()
        self._workers = {
            slot: WorkerProcess(
                trainer,
                place=place,
                node=context.get_node_id(),
                beat=functools.partial(_beat, beats, slot),
                beat_s=HEARTBEAT_INTERVAL_S if alone else SHARED_HEARTBEAT_INTERVAL_S,
                crash_file=crash_file,
                gpu=part,
                limit_gpu=_limit_gpu,
                capture=BufferedCapture(
                    OutputBuffer(Path(f"{own}-{slot}.output")), by_descriptor if alone else by_thread, _keep_output
                ),
            )
            for slot, place in places.items()
        }
        preempt_on_sigterm(self._workers.values())
        # A request for the report of a worker that trains waits until the training has ended.
        self._turns = {slot: threading.Lock() for slot in slots}

    @ray.method(max_task_retries=-1)
    def report(self, slot: int) -> Report:
        """Return where this worker is, and the outcome of its last attempt."""
        with self._turns[slot]:
            return self._workers[slot].report()

    def train(self, slot: int, order: TrainingOrder) -> Outcome:
        """Train one child."""
        with self._turns[slot]:
            return self._workers[slot].train(order)

    def train_all(self, orders: Sequence[tuple[int, TrainingOrder]]) -> list[Outcome | None]:
        """Train children that take no time, one after another; `None` for an order to the process before this one."""
        return [self._outcome(slot, order) for slot, order in orders]

    def _outcome(self, slot: int, order: TrainingOrder) -> Outcome | None:
        try:
            return self.train(slot, order)
        except NotStarted:
            return None
        except Exception:  # one that is not the child's; the others of the message are trained nevertheless
            return Outcome.failed(Cause.CRASHED, traceback.format_exc(), seed=order.assignment.seed)


def _gpu_here(node: str) -> Gpu:
    """Return the GPU that Ray has given this process a part of."""
    return Gpu(name=f"{node}/{ray.get_gpu_ids()[0]}", size_bytes=gpu_memory.total_memory(FIRST_GPU))


def _limit_gpu(limit_bytes: int) -> None:
    gpu_memory.limit_memory(FIRST_GPU, limit_bytes)


def _beat(beats: Beats, slot: int, place: str, key: str | None) -> bool:
    """Send a heartbeat, in a message with those of other workers of this process that are due as well."""
    return beats.call("beat", (slot, place, key), _beat_all)


def _beat_all(beats: Sequence[tuple[int, str, str | None]]) -> Sequence[bool]:
    pool = actor(POOL)
    return ray.get(pool.beat_all.options(max_task_retries=0).remote(list(beats)), timeout=CALL_TIMEOUT_S)


def _keep_output(child_id: int, key: str, text: str) -> None:
    """Send the output to the ledger before the attempt's end is reported, and do not wait longer than the timeout."""
    with suppress(RayError, ValueError):  # the ledger is unavailable: it gets the call when it is back, or has ended
        ray.get(actor(LEDGER).keep_output.remote(child_id, key, text), timeout=CALL_TIMEOUT_S)


def _checkpoint_slot(child_id: int) -> ChildSlot:
    return ChildSlot(RemoteCheckpoints(actor(CHECKPOINTS)), child_id)


@ray.remote(**SURVIVES)
class CheckpointHost(CheckpointFolder):
    """The children's checkpoints, in the run's folder."""

    def __init__(self, path: Path) -> None:
        self._writing = writing(path.parent)
        super().__init__(path)


@ray.remote(**SURVIVES)
class WeightsHost(WeightsFolder):
    """The weights of children from which others begin, in the run's folder."""

    def __init__(self, path: Path) -> None:
        self._writing = writing(path.parent)
        super().__init__(path)


@ray.remote(**SURVIVES)
class PoolHost:
    """The pool, see `cluster.pool.pool.Pool`, as an actor that finds its run's other actors by name.

    Args:
        slots, options: see `Pool`.
        per_process: workers that share a process.
        judging: decides which children are stopped early; `None`: none are.
        instant: see `RayWorkers`.
    """

    def __init__(
        self,
        slots: int,
        options: PoolOptions,
        per_process: int = 1,
        judging: EarlyStopping | None = None,
        *,
        instant: bool = False,
    ) -> None:
        self._judging = judging and RemoteJudging(judging)
        self._workers = RayWorkers(options.rules.checkpoints, per_process, instant=instant)
        self._pool = Pool(
            slots,
            self._workers,
            AwaitedLedger(),
            options,
            clock=time.time,
            new_key=lambda: secrets.token_hex(8),
        )

    async def collect(self, assignments: Sequence[Assignment], known: Collection[int] = ()) -> Collected:
        """See `Pool.collect`."""
        return await self._pool.collect(assignments, known)

    async def beat_all(self, beats: Sequence[tuple[int, str, str | None]]) -> list[bool]:
        """Do `Pool.beat` for each worker."""
        for slot, _, key in beats:
            if key is None:
                self._workers.is_idle(slot)
        return [await self._pool.beat(*beat) for beat in beats]

    async def judge(self, child_id: int, decisions: int, so_far: TrainingSoFar, decided_until: int) -> Stopped | None:
        """See `RemoteJudging.judge`."""
        return await self._judging.judge(child_id, decisions, so_far, decided_until) if self._judging else None

    async def grow(self, slots: int, again: Collection[int]) -> WorkerCensus:
        """See `Pool.grow`."""
        return await self._pool.grow(slots, again)

    async def stop(self, *, give_back: bool = True) -> None:
        """See `Pool.stop`."""
        await self._pool.stop(give_back=give_back)

    @ray.method(max_task_retries=0)
    async def next_news(self) -> str:
        """See `Pool.next_news`. Ray does not retry it, as it would log an error when the run ends."""
        return await self._pool.next_news()


@ray.remote(**SERVES)
class ShardHost:
    """Serves one or more shards of a store over gRPC, and records their address in the ledger.

    It listens on the given interface, else on the address of its node: Ray may restart it on another node. It serves
    only once its predecessor can no longer write.
    """

    def __init__(self, shards: StoreShards, indices: Sequence[int], interface: str | None, token: RunToken) -> None:
        from ps.rpc.server import ShardServer

        node, directory = ray.util.get_node_ip_address(), shards.directory
        host = interface or node
        secret, tls = token.secret(os.environ, node), shards_tls(os.environ, host)
        self._writing = writing(directory.parent)
        self._sole = [sole_writer(directory / f"shard-{index:03d}", RETRY_TIMEOUT_S) for index in indices]
        self._server = ShardServer(
            shards.layout,
            indices,
            directory,
            host=host,
            token=secret,
            tls=tls,
            snapshot_interval_s=shards.snapshot_interval_s,
        )
        ray.get(actor(LEDGER).serve.remote(list(indices), self._server.address, shards.store))

    def ready(self) -> None:
        """Return once the shards are served."""

    def serve(self) -> None:
        """Block for ever. The call fails with the reason if this host dies and cannot be restarted."""
        threading.Event().wait()

    def stop(self) -> None:
        """Stop serving, and bring the shards' files up to date with what they have committed or acknowledged."""
        self._server.stop(grace_s=0)


@ray.remote(**SURVIVES)
class ReplicaHost:
    """Runs one or more controller replicas, each in a thread of its own."""

    def __init__(self) -> None:
        import torch

        import cluster.runners.build  # noqa: F401 - takes a second or two, and the process starts before `run` is called

        torch.set_num_threads(1)  # a policy of this size only gets slower with more

    def run(self, config: RunConfig, indices: Sequence[int], connections: Connections) -> None:
        """Run these replicas to the end of the search; raise the first error of any of them."""
        layout = connections.layout
        store = layout and open_store(layout, connections.ledger, connections.token)
        weights = connections.weights and open_store(
            connections.weights, connections.ledger, connections.token, store="weights"
        )
        threads = ThreadPoolExecutor(len(indices))
        ledger: Any = RemoteLedger(connections.ledger)
        predict = None
        if config.topology.gpus_per_child == AUTO:
            from cluster.runners.gpu_prediction import memory_predictor

            predict = memory_predictor(config)
        shared = _Shared(
            stores=(store, weights), connections=connections, ledger=ledger, history=History(ledger), predict=predict
        )
        running = [threads.submit(_run_replica, config, index, shared) for index in indices]
        # The first error ends the run at once, without waiting for the other replicas.
        for replica in wait(running, return_when=FIRST_EXCEPTION).done:
            replica.result()
        for one in shared.stores:
            if one:
                one.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What the replicas of one process share.

    Attributes:
        stores: of the searcher's parameters, and of the weights that children share.
        connections: to the other actors.
        ledger, history: see `Replica`.
        computing: see `Replica`.
        predict: see `PoolEvaluator`.
    """

    stores: tuple[ParameterStore | None, ParameterStore | None]
    connections: Connections
    ledger: Any
    history: History
    computing: threading.Lock = field(default_factory=threading.Lock)
    predict: Callable[[Assignment], int | None] | None = None


def _run_replica(config: RunConfig, index: int, shared: _Shared) -> None:
    from cluster.runners.build import make_replica
    from cluster.runners.causal import ending_rounds, in_order
    from cluster.search.replica_loop import replica_loop
    from controller.searcher import keeps_weights

    store, weights = shared.stores
    evaluator = in_order(config, PoolEvaluator(shared.connections.pool, shared.predict))
    replica = make_replica(config, index, store, evaluator, shared.ledger, shared.history)
    replica = ending_rounds(config, replace(replica, computing=shared.computing), weights)
    if keeps_weights(replica.searcher):
        replica = replace(replica, forget_weights=RemoteWeights(actor(CHILD_WEIGHTS)).forget)
    for _ in replica_loop(replace(replica, pause=lambda: time.sleep(AHEAD_POLL_INTERVAL_S))):
        pass
