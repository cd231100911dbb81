"""Sentences for the user on a plan of who runs where: what it lacks, and what would give it. Standard library only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.config.topology import Topology
from cluster.formatting import counted
from cluster.placement.capacity import (
    FolderVisibility,
    Node,
    WorkerResources,
    places_for,
    room,
    room_for,
)

if TYPE_CHECKING:
    from cluster.placement.plan import Seat

MAX_NAMED = 4
"""The maximum of nodes that a sentence names one by one."""


def visibility_notes(nodes: Sequence[Node], shards: Sequence["Seat"], visibility: FolderVisibility) -> list[str]:
    """Say that shards stay where the run's folder is seen, if stable nodes do not see it."""
    blind = [node for node in nodes if node.stable and not node.driver and node.id not in visibility.nodes]
    if not blind:
        return []
    homes = list(dict.fromkeys(seat.node.address for seat in shards))
    where = "on this node" if all(seat.node.driver for seat in shards) else f"on {listed(homes)}"
    see = "does" if len(blind) == 1 else "do"
    names = listed([node.address for node in blind])
    return [f"Shards stay {where}: {names} {see} not see {visibility.folder}; a shared folder would let them spread"]


def memory_notes(nodes: Sequence[Node], resources: WorkerResources, hosts: Mapping[str, int]) -> list[str]:
    """Say of each node how many workers fewer it gets for want of memory."""
    notes: list[str] = []
    for node in nodes:
        held, without = room(node, resources, hosts.get(node.id, 0)), room(replace(node, memory=None), resources)
        if held < without:
            notes.append(
                f"{node.address} gets {counted(held * resources.workers, 'worker')} rather than"
                f" {without * resources.workers}: it has {(node.memory or 0) / 1e9:.1f} GB of memory, and a process"
                f" takes {resources.memory / 1e9:.1f} GB"
            )
    return notes


def waiting_note(wanted: int, seated: int, nodes: Sequence[Node], resources: WorkerResources) -> str:
    """Say for what the workers wait that have no place."""
    may = [node for node in nodes if not node.draining and (node.trains or not resources.off_stable)]
    kind = "GPU" if resources.gpus else "CPU"
    total = sum(node.gpus if resources.gpus else node.cores for node in may)
    free = sum(total if node.free is None else node.free.get(kind, 0.0) for node in may)
    if places_for([replace(node, memory=None) for node in nodes], resources, {}, wanted) == wanted:
        lacking = "memory"
    else:
        lacking = f"{'GPUs' if resources.gpus else 'cores'}: the cluster has {total:g}"
        if room_for(nodes, resources, {}, wanted) > seated:
            lacking += f", and others use all but {free:g}"
    return f"{wanted - seated} of {counted(wanted, 'worker')} wait for {lacking}; they start when there is room"


def growth_note(topology: Topology, wanted: int) -> str:
    """Say why no nodes are requested of an autoscaler though the search could use more workers."""
    cores = f"--workers {wanted} to request CPU nodes"
    if topology.gpus_per_child is not None:
        return f"No nodes are requested; use {cores}"
    return (
        "No GPU node is available: training on CPUs, and no nodes are requested; use --gpus-per-child 1 to request GPU"
        f" nodes or {cores}"
    )


def kinds_notes(seats: Sequence["Seat"], resources: WorkerResources) -> list[str]:
    """Say that workers train on GPUs of several kinds, if they do."""
    kinds: Counter[str] = Counter()
    for seat in seats if resources.gpus else ():
        kinds[seat.node.gpu_kind or "GPUs of no known kind"] += len(seat.parts)
    if len(kinds) < 2:
        return []
    each = ", ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
    return [f"Workers train on different GPUs: {each}"]


def listed(names: Sequence[str]) -> str:
    """Return the names as the end of a sentence, at most `MAX_NAMED` of them."""
    first = list(names[:MAX_NAMED])
    parts = [*first, f"{len(names) - len(first)} more"] if len(names) > len(first) else first
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
