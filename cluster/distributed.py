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
from cluster.placement import Resources, can_grow, gpus_per_child, num_hosts, num_workers, spread
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
        nodes: what each machine has.
        workers: how many workers to start.
        gpus_each: GPUs of each worker.
        interface: where this node's shards are to be served; the loopback where all of the run is on this machine.
    """

    nodes: tuple[Resources, ...]
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
    joined = _join(say)
    try:
        if joined:
            status, second = _internal_kv_get(b"__autoscaling_status"), _internal_kv_get(b"__autoscaler_v2_enabled")
            grows = can_grow(status, second)
            nodes = tuple(_resources(node) for node in ray.nodes() if node["Alive"])
        else:
            grows = False
            nodes = (Resources(float(os.cpu_count() or 1), float(torch.cuda.device_count())),)
        gpus_each = gpus_per_child(topology, sum(node.gpus for node in nodes), can_grow=grows)
        workers = num_workers(topology, nodes, gpus_each, can_grow=grows)
        if not joined:
            say("Starting Ray on this machine ...")
            _start(max(int(nodes[0].cores), workers))
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
    ledger: Handle = LedgerHost.options(**here).remote(folder.ledger, config.seed, config.max_children)
    ray.get(ledger.begin.remote(workers=cluster.workers))
    with watch(ledger.beat.remote):
        pool = _start_workers(config, cluster, ledger, here)
        token = secrets.token_urlsafe(32)
        layout, shard_hosts, addresses = _serve_shards(config, folder, cluster, token, here)

        replicas = config.topology.replicas
        shares = spread(replicas, num_hosts(replicas, sum(node.cores for node in cluster.nodes)))
        hosts: list[Handle] = [ReplicaHost.remote() for _ in shares]
        connections = Connections(layout=layout, addresses=addresses, token=token, ledger=ledger, pool=pool)
        ended = [host.run.remote(config, list(share), connections) for host, share in zip(hosts, shares, strict=True)]
        _wait(ended, pool, say)
        del shard_hosts  # Ray ends an actor that nobody holds: they had to be held until here


def _start_workers(config: RunConfig, cluster: Cluster, ledger: Handle, here: dict[str, Any]) -> Handle:
    """The pool, which uses each worker from the moment that it is up."""
    # A worker on a GPU takes no core: some machines have more GPUs to share out than cores.
    needs = {"num_gpus": cluster.gpus_each, "num_cpus": 0 if cluster.gpus_each else 1}
    workers: list[Handle] = [Worker.options(**needs).remote(config, index) for index in range(cluster.workers)]
    most_calls = config.topology.replicas * config.topology.children + 100  # all children, and a few words beside them
    pool: Handle = Pool.options(**here, max_concurrency=most_calls).remote(ledger, renew_crashed=cluster.gpus_each > 0)
    ray.get(pool.open.remote(workers))
    return pool


def _wait(ended: list[ray.ObjectRef], pool: Handle, say: Callable[[str], object]) -> None:
    """Wait for all replicas; raise what ended one of them, or that no worker is left."""
    loss = pool.next_loss.remote()
    while ended:
        (done,), _ = ray.wait([*ended, loss], num_returns=1)
        if done == loss:
            say(f"A worker is lost: {ray.get(done)}")
            loss = pool.next_loss.remote()
        else:
            ray.get(done)
            ended.remove(done)


def _serve_shards(
    config: RunConfig, folder: RunFolder, cluster: Cluster, token: str, here: dict[str, Any]
) -> tuple[Layout | None, list[Handle], list[str]]:
    """Start the shards and give them their first values; the layout is `None` when nothing is to be kept on them."""
    groups = make_parameters(config, make_searcher(config))
    if not groups:
        return None, [], []
    layout = make_layout(config, folder.name, groups)
    shares = spread(layout.shards, num_hosts(layout.shards, os.cpu_count() or 1))
    served = [f"{cluster.interface}:{port}" for port in _free_ports(cluster.interface, len(shares))]
    hosts: list[Handle] = [
        ShardHost.options(**here).remote(layout, list(share), folder.shards, address, token)
        for share, address in zip(shares, served, strict=True)
    ]
    ray.get([host.ready.remote() for host in hosts])
    addresses = [address for address, share in zip(served, shares, strict=True) for _ in share]
    store = GrpcStore(layout, addresses, token=token)
    store.initialize(initial_values(groups))
    store.close()
    return layout, hosts, addresses


def _free_ports(interface: str, count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server((interface, 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _resources(node: dict[str, Any]) -> Resources:
    return Resources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))


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
    except (ConnectionError, RuntimeError) as error:
        if named:
            reason = str(error).strip().partition("\n")[0]
            raise ClusterError(f"RAY_ADDRESS is {named!r}, but that cluster cannot be joined: {reason}") from None
        return False
    return True


def _check_reachable(address: str) -> None:
    """Raise `ClusterError` if nobody listens at host:port, which Ray itself would take minutes to find out."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in host:
        raise ClusterError(
            f"RAY_ADDRESS must be host:port, auto or local (Ray Client's ray:// is not), got {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterError(f"RAY_ADDRESS is {address!r}, but no Ray cluster answers there ({reason})") from None


def _start(cores: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
