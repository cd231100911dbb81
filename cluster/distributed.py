"""A run on Ray: the topology on one page. One machine or many, started here or joined."""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.actors import Connections, Handle, LedgerHost, Pool, ReplicaHost, ShardHost, Worker
from cluster.config import RunConfig, Topology
from cluster.parts import initial_values, make_layout, make_parameters, make_searcher
from cluster.placement import can_grow, gpus_per_child, num_hosts, num_workers, spread
from cluster.run_folder import RunFolder
from ps.client import GrpcStore
from ps.store import Layout

CONNECT_S = 10.0
"""Seconds in which a cluster that was named must answer."""

Watch = Callable[[Callable[[], object]], AbstractContextManager[object]]


class ClusterError(ValueError):
    """There is no cluster where one was named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What the run has to live on.

    Attributes:
        cores, gpus: of all nodes together.
        workers: how many workers to start.
        gpus_each: GPUs of each worker.
        num_nodes: machines.
    """

    cores: float
    gpus: float
    workers: int
    gpus_each: float
    num_nodes: int


@contextmanager
def cluster(topology: Topology, say: Callable[[str], object]) -> Iterator[Cluster]:
    """Join the cluster that `RAY_ADDRESS` names or that runs on this machine, or else start one on this machine.

    Raises:
        ClusterError: if `RAY_ADDRESS` names a cluster that does not answer.
        PlacementError: if the workers cannot fit; on a machine of our own before Ray is started.
    """
    if _join(say):
        resources = ray.cluster_resources()
        cores, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        gpus_each = gpus_per_child(
            topology,
            gpus,
            can_grow=can_grow(_internal_kv_get(b"__autoscaling_status"), _internal_kv_get(b"__autoscaler_v2_enabled")),
        )
    else:
        cores, gpus = float(os.cpu_count() or 1), float(torch.cuda.device_count())
        gpus_each = gpus_per_child(topology, gpus, can_grow=False)
        say("Starting Ray on this machine ...")
        _start(max(int(cores), topology.workers or 0))
    try:
        nodes = sum(node["Alive"] for node in ray.nodes())
        workers = num_workers(topology, cores, gpus, gpus_each)
        yield Cluster(cores=cores, gpus=gpus, workers=workers, gpus_each=gpus_each, num_nodes=nodes)
    finally:
        ray.shutdown()


def run_distributed(config: RunConfig, folder: RunFolder, cluster: Cluster, watch: Watch) -> None:
    """Run the search to its end.

    Args:
        config: what to run.
        folder: where everything is kept; it must be on this node's disk.
        cluster: what there is to run on.
        watch: shows the run while it runs, and calls what it is given to say that the run is alive.
    """
    # The folder is on this node, and so is everything that writes into it.
    here: dict[str, Any] = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    }
    ledger = LedgerHost.options(**here).remote(folder.ledger, config.seed, config.max_children)
    ray.get(ledger.begin.remote(workers=cluster.workers))
    with watch(ledger.beat.remote):
        pool: Handle = Pool.options(**here).remote(ledger)
        workers: list[Handle] = [
            Worker.options(num_cpus=1, num_gpus=cluster.gpus_each).remote(config, index)
            for index in range(cluster.workers)
        ]
        enlisted = [pool.enlist.remote(worker) for worker in workers]

        token = secrets.token_urlsafe(32)
        layout, shard_hosts, addresses = _serve_shards(config, folder, cluster, token, here)

        shares = spread(config.topology.replicas, num_hosts(config.topology.replicas, cluster.cores))
        replica_hosts: list[Handle] = [ReplicaHost.remote() for _ in shares]
        connections = Connections(layout=layout, addresses=addresses, token=token, ledger=ledger, pool=pool)
        ended = [h.run.remote(config, list(share), connections) for h, share in zip(replica_hosts, shares, strict=True)]
        _wait(ended, enlisted)
        del workers, shard_hosts  # Ray ends an actor that nobody holds: they had to be held until here


def _wait(ended: list[ray.ObjectRef], enlisted: list[ray.ObjectRef]) -> None:
    """Wait for all replicas, and raise what ended one of them or kept a worker from starting."""
    watched = ended + enlisted
    while set(watched) & set(ended):
        done, watched = ray.wait(watched, num_returns=1, timeout=1.0)
        ray.get(done)


def _serve_shards(
    config: RunConfig, folder: RunFolder, cluster: Cluster, token: str, here: dict[str, Any]
) -> tuple[Layout | None, list[Handle], list[str]]:
    """Start the shards and give them their first values; the layout is `None` when nothing is to be kept on them."""
    groups = make_parameters(config, make_searcher(config))
    if not groups:
        return None, [], []
    layout = make_layout(config, folder.name, groups)
    interface = "127.0.0.1" if cluster.num_nodes == 1 else ray.util.get_node_ip_address()
    shards = spread(layout.shards, num_hosts(layout.shards, cluster.cores))
    hosts: list[Handle] = [
        ShardHost.options(**here).remote(layout, list(indices), folder.shards, interface, token) for indices in shards
    ]
    served = ray.get([host.address.remote() for host in hosts])
    addresses = [address for address, indices in zip(served, shards, strict=True) for _ in indices]
    store = GrpcStore(layout, addresses, token=token)
    store.initialize(initial_values(groups))
    store.close()
    return layout, hosts, addresses


def _join(say: Callable[[str], object]) -> bool:
    """Connect to a cluster that is there, and say whether there was one."""
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return False
    if named and named != "auto":
        _check_reachable(named)
        say(f"Joining the Ray cluster at {named} ...")
    try:
        ray.init(address=named or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        if named:
            reason = str(error).strip().partition("\n")[0]
            raise ClusterError(f"RAY_ADDRESS is {named!r}, but that cluster cannot be joined: {reason}") from None
        return False
    return True


def _check_reachable(address: str) -> None:
    """Raise `ClusterError` if nobody listens at host:port, which Ray itself would take minutes to find out."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"RAY_ADDRESS must be host:port, auto or local, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterError(f"RAY_ADDRESS is {address!r}, but no Ray cluster answers there ({reason})") from None


def _start(cores: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
