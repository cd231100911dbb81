"""A run on Ray: the topology on one page. One machine or many, started here or joined."""

import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray._private import worker as ray_worker
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.actors import CheckpointHost, LedgerHost, PoolHost, ReplicaHost, ShardHost, Worker
from cluster.config import RunConfig, Topology
from cluster.joining import join
from cluster.links import CHECKPOINTS, LEDGER, POOL, Connections, Handle, open_store, worker_name
from cluster.parts import initial_values, make_layout, make_parameters, make_searcher
from cluster.placement import Node, gpus_per_child, num_hosts, num_workers, spread
from cluster.pool.supervision import Terms
from cluster.run_folder import RunFolder, Stopped
from cluster.survey import has_autoscaler
from cluster.survey import nodes as survey_nodes
from ps.store import Layout

AGAIN_S = 0.2
"""Seconds between two questions to a pool that is being started again."""

LOOK_S = 1.0
"""Seconds between two looks at whether the run is asked to stop."""

Watch = Callable[[Callable[[], object]], AbstractContextManager[object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What the run has to live on.

    Attributes:
        nodes: what each machine has.
        workers: how many workers to start.
        gpus_each: GPUs of each worker.
        interface: where this node's shards are to be served; the loopback where all of the run is on this machine.
    """

    nodes: tuple[Node, ...]
    workers: int
    gpus_each: float
    interface: str

    def __str__(self) -> str:
        cores, gpus = (sum(getattr(node, kind) for node in self.nodes) for kind in ("cores", "gpus"))
        return f"{len(self.nodes)} node(s), {cores:g} cores, {gpus:g} GPUs: {self.workers} workers"


@contextmanager
def cluster(topology: Topology, say: Callable[[str], object]) -> Iterator[Cluster]:
    """Join the cluster that `RAY_ADDRESS` names or that runs on this machine, or else start one on this machine.

    Raises:
        ClusterError: if `RAY_ADDRESS` names a cluster that does not answer.
        PlacementError: if the workers cannot fit; on a machine of our own before Ray is started.
    """
    joined = join(say)
    try:
        if joined:
            grows, nodes = has_autoscaler(), survey_nodes()
        else:
            grows = False
            nodes = (_this_machine(),)
        gpus_each = gpus_per_child(topology, sum(node.gpus for node in nodes), can_grow=grows)
        workers = num_workers(topology, nodes, gpus_each, can_grow=grows)
        if not joined:
            say("Starting Ray on this machine ...")
            _start(max(int(nodes[0].cores), math.ceil(workers / topology.workers_per_process)))
        _hush()
        interface = ray.util.get_node_ip_address() if joined else "127.0.0.1"
        yield Cluster(nodes=nodes, workers=workers, gpus_each=gpus_each, interface=interface)
    finally:
        ray.shutdown()


def run_distributed(
    config: RunConfig, folder: RunFolder, cluster: Cluster, watch: Watch, say: Callable[[str], object]
) -> None:
    """Run the search to its end.

    Args:
        config: what to run.
        folder: where everything is kept; it must be on this node's disk.
        cluster: what there is to run on.
        watch: shows the run while it runs, and calls what it is given to say that the run is alive.
        say: told of a worker that is lost.
    """
    # The folder is on this node, and so is everything that writes into it.
    here: dict[str, Any] = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    }
    ledger: Handle = LedgerHost.options(**here, name=LEDGER).remote(folder.ledger, config.seed, config.max_children)
    ray.get(ledger.begin.remote(workers=cluster.workers))
    with watch(ledger.beat.remote):
        held = [ledger, *_keep_checkpoints(config, folder, ledger, here)]
        pool, workers = _start_workers(config, cluster, here)
        replicas = config.topology.replicas
        shares = spread(replicas, num_hosts(replicas, sum(node.cores for node in cluster.nodes)))
        # Started before there is anything for them to do: their processes take seconds, and so do the shards'.
        hosts: list[Handle] = [ReplicaHost.remote() for _ in shares]
        token = secrets.token_urlsafe(32)
        layout, shard_hosts = _serve_shards(config, folder, cluster, ledger, token, here)
        held += [pool, *workers, *shard_hosts]

        connections = Connections(layout=layout, token=token, ledger=ledger, pool=pool)
        ended = [host.run.remote(config, list(share), connections) for host, share in zip(hosts, shares, strict=True)]
        serving = [host.serve.remote() for host in shard_hosts]
        try:
            _wait(ended, serving, pool, folder, say)
        finally:
            _end([*hosts, *shard_hosts], [*ended, *serving])
        del held  # Ray ends an actor that nobody holds: they had to be held until here


def _end(hosts: list[Handle], ended: list[ray.ObjectRef]) -> None:
    """Ray would repeat what the hosts still do, and have a word to say on it when it is shut down."""
    for host in hosts:
        ray.kill(host)
    if ended:
        ray.wait(ended, num_returns=len(ended), timeout=LOOK_S)


def _keep_checkpoints(config: RunConfig, folder: RunFolder, ledger: Handle, here: dict[str, Any]) -> list[Handle]:
    """Where the children save their state, if they do; what ended children left behind is removed."""
    if not config.failures.checkpoint_children:
        return []
    host: Handle = CheckpointHost.options(**here, name=CHECKPOINTS).remote(folder.checkpoints)
    ray.get(host.keep_only.remote(ray.get(ledger.open_children.remote())))
    return [host]


def _start_workers(config: RunConfig, cluster: Cluster, here: dict[str, Any]) -> tuple[Handle, list[Handle]]:
    """The workers, and the pool, which uses each of them from the moment that it is up."""
    # A worker on a GPU takes no core: some machines have more GPUs to share out than cores.
    needs = {"num_gpus": cluster.gpus_each, "num_cpus": 0 if cluster.gpus_each else 1}
    each = config.topology.workers_per_process
    workers: list[Handle] = [
        Worker.options(**needs, name=worker_name(slots[0], each), max_concurrency=len(slots)).remote(config, slots)
        for slots in (range(first, min(first + each, cluster.workers)) for first in range(0, cluster.workers, each))
    ]
    terms = Terms(
        rules=config.failures.rules,
        reactions=config.failures.reactions,
        batch_size=config.budget.batch_size,
        renew_crashed=cluster.gpus_each > 0,
    )
    # All children at once, the workers' signs of life, and what callers that died still wait for.
    most_calls = 10 * config.topology.replicas * config.topology.children + cluster.workers + 1_000
    pool: Handle = PoolHost.options(**here, name=POOL, max_concurrency=most_calls).remote(cluster.workers, terms, each)
    return pool, workers


def _wait(
    ended: list[ray.ObjectRef],
    serving: list[ray.ObjectRef],
    pool: Handle,
    folder: RunFolder,
    say: Callable[[str], object],
) -> None:
    """Wait for all replicas; raise what ended one of them or a shard host, or that no worker is left.

    Raises:
        Stopped: nothing is in training any more.
    """
    loss, stop = pool.next_loss.remote(), None
    while ended:
        done, _ = ray.wait([*ended, loss, *([stop] if stop else []), *serving], num_returns=1, timeout=LOOK_S)
        if stop and stop in done:
            ray.get(stop)
            raise Stopped
        if loss in done:
            try:
                say(f"A worker is lost: {ray.get(loss)}")
            except RayActorError:  # the pool is being started again
                time.sleep(AGAIN_S)
            loss = pool.next_loss.remote()
        elif done:
            ray.get(done)  # a shard host never ends but with an error
            ended.remove(done[0])
        elif folder.stop_asked() and stop is None:
            say("Stopping: nothing more is begun, and what is in training ends first ...")
            stop = pool.stop.remote()


def _serve_shards(
    config: RunConfig, folder: RunFolder, cluster: Cluster, ledger: Handle, token: str, here: dict[str, Any]
) -> tuple[Layout | None, list[Handle]]:
    """Start the shards and give them their first values; the layout is `None` when nothing is to be kept on them."""
    groups = make_parameters(config, make_searcher(config))
    if not groups:
        return None, []
    layout = make_layout(config, folder.name, groups)
    shares = spread(layout.shards, num_hosts(layout.shards, os.cpu_count() or 1))
    hosts: list[Handle] = [
        ShardHost.options(**here).remote(layout, list(share), folder.shards, cluster.interface, token)
        for share in shares
    ]
    ray.get([host.ready.remote() for host in hosts])
    store = open_store(layout, ledger, token)
    store.initialize(initial_values(groups))
    store.close()
    return layout, hosts


def _hush() -> None:
    """Ray prints the death of every process, with no switch against it; here each is told by its cause."""
    ray_worker._worker_logs_enabled = False


def _this_machine() -> Node:
    cores, gpus = float(os.cpu_count() or 1), float(torch.cuda.device_count())
    return Node(id="", address="127.0.0.1", cores=cores, gpus=gpus, driver=True)


def _start(cores: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
