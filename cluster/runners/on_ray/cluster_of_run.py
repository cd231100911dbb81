"""The cluster that a run has: one that it joins, or a Ray that it starts on this machine."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray

from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO, Topology
from cluster.formatting import counted
from cluster.placement.capacity import (
    PROCESS_BYTES,
    TRAINING_BYTES,
    FolderVisibility,
    Node,
    WorkerResources,
    worker_resources,
)
from cluster.placement.node_check import check_data, check_without_data
from cluster.placement.plan import Plan, plan
from cluster.runners.ceiling_watch import check_gpus
from cluster.runners.on_ray import cluster_inventory
from cluster.runners.on_ray.credentials import check_credentials, make_token
from cluster.runners.on_ray.join_cluster import join
from cluster.runners.on_ray.private_api import job_config, silence_worker_deaths
from cluster.runners.on_ray.start_local_ray import allow_open_files, check_folder, module_folders, start_ray

LOOPBACK = "127.0.0.1"
"""The address of the shards where all of the run is on one machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The machines that the run has.

    Attributes:
        nodes: the machines, this one first.
        resources: of a process of workers.
        joined: this driver has joined an existing cluster, which others may use; else it is this machine alone.
        can_grow: an autoscaler may add nodes.
    """

    nodes: tuple[Node, ...]
    resources: WorkerResources
    joined: bool
    can_grow: bool

    def plan(self, topology: Topology, visibility: FolderVisibility, weights_shards: int = 0) -> Plan:
        """Plan who runs where, with what is free now; see `cluster.placement.plan`."""
        nodes = cluster_inventory.with_free_resources(self.nodes) if self.joined else self.nodes
        return plan(
            nodes,
            topology,
            self.resources,
            visibility=visibility,
            can_grow=self.can_grow,
            weights_shards=weights_shards,
        )

    def likely_workers(self, topology: Topology) -> int:
        """Return how many workers the nodes have room for, at most as many as the run uses."""
        per_process = self.resources.gpus or self.resources.cores or 1
        kind = "gpus" if self.resources.gpus else "cores"
        room = sum(int(getattr(node, kind) / per_process) for node in self.nodes if node.trains)
        wanted = topology.workers or topology.replicas * topology.children
        return max(1, min(wanted, room * self.resources.workers))

    def __str__(self) -> str:
        cores, gpus = (sum(getattr(node, kind) for node in self.nodes) for kind in ("cores", "gpus"))
        return f"{counted(len(self.nodes), 'node')}, {counted(cores, 'core')}, {counted(gpus, 'GPU')}"


@contextmanager
def cluster(config: RunConfig, report: Callable[[str], object], *, begun: bool = False) -> Iterator[Cluster]:
    """Join the cluster that `RAY_ADDRESS` names or that runs on this machine, or else start one on this machine.

    Args:
        config: the run's.
        report: called with a sentence on what takes a while.
        begun: the run has had a start.

    Raises:
        ClusterError: `RAY_ADDRESS` names a cluster that does not answer, or no Ray starts here in time.
        TaskError, StorageError: the task cannot be loaded; raised before a Ray is started.
        PlacementError: no worker can fit, or none has the GPUs that a new run has a ceiling on; raised before a Ray is
            started.
        CredentialsError: the cluster's token or its certificates cannot be used.
    """
    topology = config.topology
    memory = TRAINING_BYTES if config.task.entry.trains else PROCESS_BYTES
    check_credentials(os.environ)
    joined = join(report)
    try:
        # The nodes of a cluster are checked one by one later; the driver's node need not be one that trains.
        (check_without_data if joined else check_data)(config.task)
        can_grow = joined and cluster_inventory.has_autoscaler()
        nodes = cluster_inventory.nodes() if joined else (cluster_inventory.this_machine(),)
        if topology.gpus_per_child == AUTO:
            nodes = cluster_inventory.with_gpu_memory(nodes)
        resources = worker_resources(topology, nodes, memory=memory, can_grow=can_grow, joined=joined)
        check_gpus(config, resources.gpus, begun=begun)
        if not joined:
            check_folder(os.environ)
            allow_open_files()
            report("Starting Ray on this machine ...")
            nodes = (_start(nodes[0], report),)
        silence_worker_deaths()  # each is reported here, by its cause
        check_credentials(os.environ, ray.util.get_node_ip_address() if joined else LOOPBACK)
        yield Cluster(nodes=nodes, resources=resources, joined=joined, can_grow=can_grow)
    finally:
        ray.shutdown()


def _start(machine: Node, report: Callable[[str], object]) -> Node:
    """Start a Ray on this machine, and return its node."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    make_token(os.environ, secrets.token_hex(32))
    start_ray(int(machine.cores), report, job_config=job_config(module_folders()))
    return replace(machine, id=ray.get_runtime_context().get_node_id())
