"""Who runs where: pure functions of what there is and what was asked for. Standard library only."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cluster.config import Topology

CORES_PER_HOST = 4
"""A process that hosts replicas or shards is worth its 180 MB for every so many cores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One machine of the cluster, as Ray counts it.

    Attributes:
        id: Ray's name for it.
        address: its IP address, for people.
        cores, gpus: how many it has.
        memory: bytes that its processes may use, or `None` where that is not known.
        labels: what whoever runs the cluster has said of it.
        gpu_kind: such as `A100`, or `None` where that is not known.
        driver: the run's driver is here, and with it the run's folder.
        draining: it was told to go.
    """

    id: str
    address: str
    cores: float
    gpus: float = 0.0
    memory: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    gpu_kind: str | None = None
    driver: bool = False
    draining: bool = False


class PlacementError(ValueError):
    """The machine or the cluster cannot hold what was asked for."""


def spread(count: int, hosts: int) -> list[range]:
    """`count` numbered parts in contiguous, balanced ranges over at most `hosts` processes."""
    hosts = min(count, hosts)
    edges = [count * i // hosts for i in range(hosts + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def num_hosts(count: int, cores: float) -> int:
    """How many processes host `count` shards or replicas on a cluster with so many cores."""
    return max(1, min(count, int(cores) // CORES_PER_HOST))


def can_grow(autoscaling_status: bytes | None, autoscaler_v2: bytes | None) -> bool:
    """Whether a Ray cluster has an autoscaler that could add nodes.

    Without one, Ray's monitor reports every node as a type of its own, named after the node's id.

    Args:
        autoscaling_status: what Ray's monitor reports (JSON, its key `__autoscaling_status`), if it has already.
        autoscaler_v2: `1` where the second autoscaler runs (Ray's key `__autoscaler_v2_enabled`).
    """
    if autoscaler_v2 == b"1":
        return True
    report = json.loads(autoscaling_status or b"{}").get("autoscaler_report") or {}
    types = {*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())}
    return any(not re.fullmatch("node_[0-9a-f]{40,}", name) for name in types)


def gpus_per_child(topology: Topology, gpus: float, *, can_grow: bool) -> float:
    """GPUs of each worker: as asked for, or 1 where there is a GPU and 0 where there is none.

    Raises:
        PlacementError: if no worker would fit and no autoscaler (`can_grow`) could bring what is missing.
    """
    asked = topology.gpus_per_child
    if asked is None:
        return 1.0 if gpus else 0.0
    needed = asked * (topology.workers or 1)
    if needed > gpus and not can_grow:
        workers = f" for each of {topology.workers} workers" if topology.workers else ""
        fit = "use --gpus-per-child 0 to train on the CPU" if not gpus else "use a smaller fraction or fewer --workers"
        raise PlacementError(
            f"--gpus-per-child {asked:g}{workers} needs {needed:g} GPUs, but there are {gpus:g} and no autoscaler to"
            f" bring more; {fit}"
        )
    return asked


def num_workers(topology: Topology, nodes: Sequence[Node], gpus_each: float, *, can_grow: bool) -> int:
    """Workers to start: as asked for, or as many as fit, and never more than children that can be out at once.

    A worker on the CPU takes a core; one on GPUs takes no core, and its GPUs are all of one node. On a cluster that
    can grow, as many GPU workers are started as could be used: those that find no place make it grow.
    """
    if topology.workers is not None:
        return topology.workers
    most = topology.replicas * topology.children
    if gpus_each and can_grow:
        return most
    fit = sum(_fit(node, gpus_each) for node in nodes) * topology.workers_per_process
    return max(1, min(fit, most))


def _fit(node: Node, gpus_each: float) -> int:
    if not gpus_each:
        return int(node.cores)
    if gpus_each < 1:
        return int(node.gpus) * int(1 / gpus_each + 1e-9)  # 0.1 is a little more than a tenth
    return int(node.gpus // gpus_each)
