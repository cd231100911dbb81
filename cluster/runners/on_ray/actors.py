"""The Ray actors but those of workers: thin shells that put the run's parts into processes.

Each may be killed and restarted. The parts themselves are imported where they are needed, so that a process
without training (the ledger's, the pool's) does not import torch.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from child_trainer import own_files
from child_trainer.outcome import Stopped, TrainingSoFar
from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.pool.checkpoints import CheckpointFolder
from cluster.pool.child_weights import WeightsFolder
from cluster.pool.output_files import OUTPUTS, OutputFolder, keep_output
from cluster.pool.pool import Pool
from cluster.pool.protocol import Collected, WorkerCensus
from cluster.pool.supervision import PoolOptions
from cluster.runners.early_stopping import EarlyStopping
from cluster.runners.on_ray.credentials import RunToken, shards_tls
from cluster.runners.on_ray.handles import (
    CHILD_WEIGHTS,
    LEDGER,
    RETRY_TIMEOUT_S,
    Connections,
    PoolEvaluator,
    RemoteWeights,
    StoreShards,
    actor,
    open_store,
)
from cluster.runners.on_ray.judging import RemoteJudging
from cluster.runners.on_ray.pool_adapters import RayWorkers
from cluster.runners.on_ray.replica_store import ReplicaStore
from cluster.runners.on_ray.shared_messages import AwaitedLedger, RemoteLedger
from cluster.search.evaluator import Assignment
from cluster.search.history import History
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.locks import sole_writer, writing

if TYPE_CHECKING:
    from ps.rpc.client import GrpcStore

SURVIVES: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
"""Options of an actor whose methods may be repeated: Ray restarts it and repeats the calls."""

SERVES: dict[str, Any] = SURVIVES | {"max_concurrency": 2}
"""Options of an actor one of whose calls never returns, so that it must take another one beside it."""

AHEAD_POLL_INTERVAL_S = 0.5
"""Seconds between two checks whether a replica that is ahead of the others may continue."""


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

    stores: tuple[GrpcStore | None, GrpcStore | None]
    connections: Connections
    ledger: Any
    history: History
    computing: threading.Lock = field(default_factory=threading.Lock)
    predict: Callable[[Assignment], int | None] | None = None


def _run_replica(config: RunConfig, index: int, shared: _Shared) -> None:
    from cluster.runners.build import make_replica
    from cluster.runners.causal import in_order, telling_the_weights
    from cluster.search.replica_loop import replica_loop
    from controller.searcher import keeps_weights

    store, weights = shared.stores
    evaluator = in_order(config, PoolEvaluator(shared.connections.pool, shared.predict))
    replica = make_replica(config, index, store and ReplicaStore(store), evaluator, shared.ledger, shared.history)
    replica = telling_the_weights(config, replace(replica, computing=shared.computing), weights)
    if keeps_weights(replica.searcher):
        replica = replace(replica, forget_weights=RemoteWeights(actor(CHILD_WEIGHTS)).forget)
    for _ in replica_loop(replace(replica, pause=lambda: time.sleep(AHEAD_POLL_INTERVAL_S))):
        pass
