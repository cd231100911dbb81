"""What nodes there are and what fits on them; `plan.py` says who runs where. Pure. Standard library only."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cluster.config.topology import MOST_PARTS, Topology

CORES_PER_HOST = 4
"""A process that hosts replicas or shards is worth its memory for every so many cores."""

PROCESS_BYTES = 200_000_000
"""What a process with torch takes before it does anything, and more or less for good if it trains nothing."""

TRAINING_BYTES = 600_000_000
"""What a process takes that trains children."""

POOL_LABEL = "nascluster/pool"
"""The label by which whoever runs the cluster says what a node is for: `stable` or `children`."""

MARKET_LABEL = "ray.io/market-type"
"""Ray's label for how a node was bought: `spot` ones may be taken back at any moment."""


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
        free: what of it nobody uses at this moment, by Ray's names, or `None` where nobody else could use it.
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
    free: Mapping[str, float] | None = None

    @property
    def stable(self) -> bool:
        """It is expected to stay: shards and replicas may be here."""
        pool = self.labels.get(POOL_LABEL)
        return pool == "stable" or (pool != "children" and self.labels.get(MARKET_LABEL) != "spot")

    @property
    def trains(self) -> bool:
        """It is not kept for other things than children."""
        return self.labels.get(POOL_LABEL) != "stable"


@dataclass(frozen=True, slots=True)
class Sight:
    """Who sees the run's folder, where the shards keep their snapshots.

    Attributes:
        folder: its path, for people.
        nodes: the ids of the nodes that see it, besides the driver's.
    """

    folder: str
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a process of workers takes, the same for the whole run.

    Attributes:
        gpus: GPUs, all of one node.
        cores: cores, where it takes no GPU; none where they are to be shared among any number.
        workers: how many share the process.
        memory: bytes.
        off_stable: it keeps off the nodes that are labelled stable.
    """

    gpus: float = 0.0
    cores: int = 1
    workers: int = 1
    memory: int = TRAINING_BYTES
    off_stable: bool = False


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


def needs_of(
    topology: Topology, nodes: Sequence[Node], *, memory: int = TRAINING_BYTES, can_grow: bool, joined: bool = True
) -> Needs:
    """What a process of workers takes on this cluster.

    Args:
        topology: what was asked for.
        nodes: what there is.
        memory: bytes that it takes.
        can_grow: an autoscaler may bring more nodes.
        joined: nodes may be added by hand; a machine of our own stays alone.

    Raises:
        PlacementError: it fits no node, and nothing could bring one that it fits.
    """
    asked = replace(topology, workers=None) if joined else topology  # those that do not fit yet wait
    gpus = gpus_per_child(asked, sum(node.gpus for node in nodes), can_grow=can_grow)
    largest = max((node.gpus for node in nodes), default=0.0)
    if gpus > largest and not can_grow:
        raise PlacementError(
            f"--gpus-per-child {gpus:g} needs a node with {gpus:g} GPUs, but the largest has {largest:g} and there is"
            " no autoscaler to bring another; use fewer"
        )
    # A machine of our own may be told of more workers than it has cores, which then share them.
    shared = not joined and topology.workers is not None
    return Needs(
        gpus=gpus,
        cores=0 if gpus or shared else 1,
        workers=topology.workers_per_process,
        memory=memory,
        off_stable=keeps_off_stable(nodes, gpus) or (can_grow and gpus > 0),
    )


def keeps_off_stable(nodes: Sequence[Node], gpus: float) -> bool:
    """Whether workers of so many GPUs each keep off the nodes that are kept for other things.

    Where no other node is left for children, they go to any.
    """
    return any(node.trains and (node.gpus >= gpus if gpus else node.cores >= 1) for node in nodes)


def room(node: Node, needs: Needs, hosts: int = 0) -> int:
    """How many processes of workers a node holds beside so many processes of shards and replicas."""
    if node.draining or (needs.off_stable and not node.trains):
        return 0
    held = _by_devices(node, needs)
    if node.memory is not None:
        held = min(held, max(0, node.memory - hosts * PROCESS_BYTES) // needs.memory)
    return held


def _by_devices(node: Node, needs: Needs) -> int:
    if not needs.gpus:
        return int(node.cores) // needs.cores if needs.cores else MOST_PARTS
    if needs.gpus < 1:
        return int(node.gpus) * int(1 / needs.gpus + 1e-9)  # 0.1 is a little more than a tenth
    return int(node.gpus // needs.gpus)


def vacant(node: Node, needs: Needs, hosts: int = 0) -> int:
    """How many of those processes would find room at this moment, beside what others use."""
    held = room(node, needs, hosts)
    taken = {"GPU": needs.gpus, "CPU": float(needs.cores), "memory": float(needs.memory if node.memory else 0)}
    for kind, amount in taken.items() if node.free is not None else ():
        if amount:
            held = min(held, int((node.free or {}).get(kind, 0.0) / amount + 1e-9))
    return held


def room_for(nodes: Sequence[Node], needs: Needs, hosts: Mapping[str, int], wanted: int) -> int:
    """How many workers these nodes hold, up to as many as are wanted, beside the `hosts` of each node (by its id)."""
    held = sum(room(node, needs, hosts.get(node.id, 0)) for node in nodes)
    return min(wanted, held * needs.workers)


def places_for(
    nodes: Sequence[Node], needs: Needs, hosts: Mapping[str, int], wanted: int, up: Mapping[str, int] | None = None
) -> int:
    """How many workers have a place on these nodes at this moment: `room_for`, but for what others use.

    Args:
        nodes, needs, hosts, wanted: as there.
        up: how many of our own are on each node already, by its id.
    """
    places = 0
    for node in nodes:
        beside = hosts.get(node.id, 0)
        more = vacant(node, needs, beside) * needs.workers
        places += min(room(node, needs, beside) * needs.workers, (up or {}).get(node.id, 0) + more)
    return min(wanted, places)


class Recent:
    """The most that a number has been within the last while: it holds through a gap that is shorter."""

    def __init__(self, within_s: float) -> None:
        self._within_s, self._seen = within_s, list[tuple[float, int]]()

    def most(self, number: int, now: float) -> int:
        """It is `number` at the time `now`, seconds."""
        self._seen = [(at, seen) for at, seen in self._seen if now - at < self._within_s and seen > number]
        self._seen.append((now, number))
        return max(seen for _, seen in self._seen)
