"""The nodes of a cluster and what fits on them; `plan.py` decides who runs where. Pure. Standard library only."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cluster.config.topology import AUTO, MAX_PARTS, Topology
from cluster.pool.gpu_shares import workers_per_gpu

CORES_PER_HOST = 4
"""Cores per process that hosts replicas or shards: with fewer, another process does not repay its memory."""

PROCESS_BYTES = 200_000_000
"""Memory of a process that has imported torch and trains nothing."""

TRAINING_BYTES = 600_000_000
"""Memory of a process that trains children."""

POOL_LABEL = "nascluster/pool"
"""The label by which the cluster's administrator says what a node is for: `stable` or `children`."""

MARKET_LABEL = "ray.io/market-type"
"""Ray's label for how a node was bought: a `spot` node may be preempted at any moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One machine of the cluster, as Ray counts it.

    Attributes:
        id: Ray's name for it.
        address: its IP address, for people.
        cores, gpus: the numbers that it has.
        memory: bytes that its processes may use; `None` if unknown.
        labels: set by the cluster's administrator and by Ray.
        gpu_kind: such as `A100`; `None` if unknown.
        gpu_bytes: memory of the smallest of its GPUs; `None` if unknown.
        driver: the run's driver is here, and with it the run's folder.
        draining: it is to be taken away soon, and starts nothing more.
        free: its resources that are not in use now, by Ray's names; `None` where only this run can use them.
    """

    id: str
    address: str
    cores: float
    gpus: float = 0.0
    memory: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    gpu_kind: str | None = None
    gpu_bytes: int | None = None
    driver: bool = False
    draining: bool = False
    free: Mapping[str, float] | None = None

    @property
    def stable(self) -> bool:
        """Whether it is expected to stay, so that shards and replicas may be on it."""
        pool = self.labels.get(POOL_LABEL)
        return pool == "stable" or (pool != "children" and self.labels.get(MARKET_LABEL) != "spot")

    @property
    def trains(self) -> bool:
        """Whether children may be trained on it."""
        return self.labels.get(POOL_LABEL) != "stable"


@dataclass(frozen=True, slots=True)
class FolderVisibility:
    """The nodes that see the run's folder, where the shards keep their snapshots.

    Attributes:
        folder: its path, for people.
        nodes: the ids of the nodes that see it, besides the driver's.
    """

    folder: str
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerResources:
    """The resources of one process of workers, the same for the whole run.

    Attributes:
        gpus: GPUs, all of one node.
        cores: cores, where it takes no GPU; 0 where any number of processes share them.
        workers: the number of workers in the process.
        memory: bytes.
        off_stable: it avoids the nodes that are labelled stable.
    """

    gpus: float = 0.0
    cores: int = 1
    workers: int = 1
    memory: int = TRAINING_BYTES
    off_stable: bool = False

    @property
    def gpus_per_worker(self) -> float:
        """The share of a GPU that each worker has."""
        return self.gpus / self.workers


class PlacementError(ValueError):
    """The machine or the cluster cannot hold what was requested."""


def spread(count: int, hosts: int) -> list[range]:
    """Divide `count` numbered parts into contiguous, balanced ranges, at most one for each of `hosts` processes."""
    hosts = min(count, hosts)
    edges = [count * i // hosts for i in range(hosts + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def num_hosts(count: int, cores: float) -> int:
    """Return the number of processes that host `count` shards or replicas on that many cores."""
    return max(1, min(count, int(cores) // CORES_PER_HOST))


def can_grow(autoscaling_status: bytes | None, autoscaler_v2: bytes | None) -> bool:
    """Return whether a Ray cluster has an autoscaler that can add nodes.

    Without one, Ray's monitor reports every node as a type of its own, named after the node's id.

    Args:
        autoscaling_status: the report of Ray's monitor (JSON, its key `__autoscaling_status`), if there is one yet.
        autoscaler_v2: `1` where Ray's second autoscaler runs (Ray's key `__autoscaler_v2_enabled`).
    """
    if autoscaler_v2 == b"1":
        return True
    report = json.loads(autoscaling_status or b"{}").get("autoscaler_report") or {}
    types = {*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())}
    return any(not re.fullmatch("node_[0-9a-f]{40,}", name) for name in types)


def gpus_per_child(topology: Topology, gpus: float, *, can_grow: bool, gpu_bytes: int | None = None) -> float:
    """Return the GPUs of each worker: as requested, else 1 if the cluster has a GPU and 0 if it has none.

    With `auto` they are what a worker reserves; see `cluster.pool.gpu_shares`.

    Args:
        topology: as requested.
        gpus: of the cluster.
        can_grow: an autoscaler may add nodes.
        gpu_bytes: memory of the smallest GPU that is known; `None`: of none.

    Raises:
        PlacementError: no worker would fit, and no autoscaler could add what is missing.
    """
    requested = topology.gpus_per_child
    if requested is None:
        return 1.0 if gpus else 0.0
    if requested == AUTO:
        if not gpus and not can_grow:
            raise PlacementError(
                "--gpus-per-child auto needs a GPU, but there is none and no autoscaler to add one; use"
                " --gpus-per-child 0 to train on the CPU"
            )
        wanted = topology.workers or topology.replicas * topology.children
        return 1.0 / workers_per_gpu(wanted, gpus, gpu_bytes)
    needed = requested * (topology.workers or 1)
    if needed > gpus and not can_grow:
        workers = f" for each of {topology.workers} workers" if topology.workers else ""
        fit = "use --gpus-per-child 0 to train on the CPU" if not gpus else "use a smaller fraction or fewer --workers"
        raise PlacementError(
            f"--gpus-per-child {requested:g}{workers} needs {needed:g} GPUs, but there are {gpus:g} and no autoscaler"
            f" to add more; {fit}"
        )
    return requested


def worker_resources(
    topology: Topology, nodes: Sequence[Node], *, memory: int = TRAINING_BYTES, can_grow: bool, joined: bool = True
) -> WorkerResources:
    """Return the resources of a process of workers on this cluster.

    Args:
        topology: as requested.
        nodes: of the cluster.
        memory: of the process, bytes.
        can_grow: an autoscaler may add nodes.
        joined: nodes may be added by hand; a Ray that a launch starts stays on one machine.

    Raises:
        PlacementError: it fits no node, and no node that it fits can be added.
    """
    requested = replace(topology, workers=None) if joined else topology  # workers that do not fit yet wait
    if topology.gpus_per_child == AUTO:
        requested = topology  # any number of workers can take turns on one GPU
    sizes = [node.gpu_bytes for node in nodes if node.gpu_bytes is not None]
    gpus = gpus_per_child(
        requested, sum(node.gpus for node in nodes), can_grow=can_grow, gpu_bytes=min(sizes, default=None)
    )
    largest = max((node.gpus for node in nodes), default=0.0)
    if gpus > largest and not can_grow:
        raise PlacementError(
            f"--gpus-per-child {gpus:g} needs a node with {gpus:g} GPUs, but the largest has {largest:g} and there is"
            " no autoscaler to add another; use fewer"
        )
    cores, threads = max((node.cores for node in nodes), default=0.0), topology.threads_per_child
    if not gpus and 1 <= cores < threads and not can_grow:
        raise PlacementError(
            f"--threads-per-child {threads} needs a node with {threads} cores, but the largest has {cores:g} and there"
            " is no autoscaler to add another; use fewer"
        )
    # On one machine a user may ask for more workers than it has cores, which then share them.
    shared = not joined and topology.workers is not None
    return WorkerResources(
        gpus=gpus,
        cores=0 if gpus or shared else topology.threads_per_child,
        workers=topology.workers_per_process,
        memory=memory,
        off_stable=keeps_off_stable(nodes, gpus) or (can_grow and gpus > 0),
    )


def keeps_off_stable(nodes: Sequence[Node], gpus: float) -> bool:
    """Return whether workers with `gpus` GPUs each avoid the nodes that are labelled stable.

    They avoid them if another node fits a worker; else they go to any node.
    """
    return any(node.trains and (node.gpus >= gpus if gpus else node.cores >= 1) for node in nodes)


def room(node: Node, resources: WorkerResources, hosts: int = 0) -> int:
    """Return how many processes of workers a node holds besides `hosts` processes of shards and replicas."""
    if node.draining or (resources.off_stable and not node.trains):
        return 0
    held = _by_devices(node, resources)
    if node.memory is not None:
        held = min(held, max(0, node.memory - hosts * PROCESS_BYTES) // resources.memory)
    return held


def _by_devices(node: Node, resources: WorkerResources) -> int:
    if not resources.gpus:
        return int(node.cores) // resources.cores if resources.cores else MAX_PARTS
    if resources.gpus < 1:
        return int(node.gpus) * int(1 / resources.gpus + 1e-9)  # 0.1 is a little more than a tenth
    return int(node.gpus // resources.gpus)


def vacant(node: Node, resources: WorkerResources, hosts: int = 0) -> int:
    """Return how many more processes of workers a node has room for now, besides what is in use."""
    held = room(node, resources, hosts)
    taken = {
        "GPU": resources.gpus,
        "CPU": float(resources.cores),
        "memory": float(resources.memory if node.memory else 0),
    }
    for kind, amount in taken.items() if node.free is not None else ():
        if amount:
            held = min(held, int((node.free or {}).get(kind, 0.0) / amount + 1e-9))
    return held


def room_for(nodes: Sequence[Node], resources: WorkerResources, hosts: Mapping[str, int], wanted: int) -> int:
    """Return how many workers these nodes hold, at most `wanted`, besides the `hosts` of each node (by its id)."""
    held = sum(room(node, resources, hosts.get(node.id, 0)) for node in nodes)
    return min(wanted, held * resources.workers)


def places_for(
    nodes: Sequence[Node],
    resources: WorkerResources,
    hosts: Mapping[str, int],
    wanted: int,
    up: Mapping[str, int] | None = None,
) -> int:
    """How many workers have a place on these nodes at this moment: `room_for`, but for what others use.

    Args:
        nodes, resources, hosts, wanted: as of `room_for`.
        up: how many of our own are on each node already, by its id.
    """
    places = 0
    for node in nodes:
        beside = hosts.get(node.id, 0)
        more = vacant(node, resources, beside) * resources.workers
        places += min(room(node, resources, beside) * resources.workers, (up or {}).get(node.id, 0) + more)
    return min(wanted, places)


class SlidingMax:
    """The maximum of a number over the last `window_s` seconds, so that a shorter dip does not show."""

    def __init__(self, window_s: float) -> None:
        self._window_s, self._values = window_s, list[tuple[float, int]]()

    def update(self, number: int, now: float) -> int:
        """Record the number at the time `now`, in seconds, and return the maximum."""
        self._values = [(at, value) for at, value in self._values if now - at < self._window_s and value > number]
        self._values.append((now, number))
        return max(value for _, value in self._values)
