"""Who runs where, each with a reason: a pure function of what there is and what was asked for. Standard library only.

`cluster.runners.on_ray.topology` carries the plan out by Ray's label selectors. What Ray 2.60 does with them, as
tried on real nodes: where the first selector finds no node with room, the fallbacks are tried in their order, at a
start as at a restart; an actor whose selectors name a node by its id is given up for good once none of them has a
node that fits, however soon one may join, while one whose selectors are of other labels waits. So only processes that
need nothing and have a last resort are bound to nodes; workers are not.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.config.topology import Topology
from cluster.formatting import counted
from cluster.placement.capacity import (
    MARKET_LABEL,
    POOL_LABEL,
    PROCESS_BYTES,
    Needs,
    Node,
    Sight,
    num_hosts,
    places_for,
    room,
    room_for,
    spread,
)

Selector = Mapping[str, str]
"""What the labels of a node must be, in Ray's words; nothing is any node."""

NODE_LABEL = "ray.io/node-id"
"""Ray's own label, which every node has."""

ON_STABLE: tuple[Selector, ...] = ({POOL_LABEL: "stable"}, {POOL_LABEL: "!children", MARKET_LABEL: "!spot"})
"""The stable nodes: those that are said to be, and else those of which nothing is said."""

OFF_STABLE: Selector = {POOL_LABEL: "!stable"}
"""The nodes that are not kept for other things than children."""

MOST_NAMED = 4
"""Nodes that a sentence names one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Some parts on one node: a process of shards or replicas, or all the workers that a node has room for.

    Attributes:
        node: where.
        parts: their numbers.
        reason: why there.
        wishes: the nodes that it may be on, the best first; a restart takes the first that there is.
    """

    node: Node
    parts: range
    reason: str
    wishes: tuple[Selector, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Who runs where.

    Attributes:
        shards, replicas: one seat for each process.
        workers: one seat for each node with room now; Ray settles who of them is where, as nodes come and go.
        wanted: workers that could be used.
        started: workers to start with; more than have a seat where an autoscaler is to bring nodes for them, or where
            they are to have what others use now.
        notes: what a person should know, in sentences.
    """

    shards: tuple[Seat, ...]
    replicas: tuple[Seat, ...]
    workers: tuple[Seat, ...]
    wanted: int
    started: int
    notes: tuple[str, ...]

    @property
    def hosts(self) -> Counter[str]:
        """Processes of shards and replicas on each node, by its id."""
        return Counter(seat.node.id for seat in (*self.shards, *self.replicas))

    @property
    def seated(self) -> int:
        """Workers for which there is room now."""
        return sum(len(seat.parts) for seat in self.workers)

    @property
    def staffing(self) -> str:
        """For people, how many of the workers that could be used have a seat."""
        return f"{self.seated} of {counted(self.wanted, 'worker')} {'has' if self.seated == 1 else 'have'} a place"

    def __str__(self) -> str:
        parts = (("shards", self.shards), ("replicas", self.replicas), ("workers", self.workers))
        where = ((what, list(dict.fromkeys(seat.node.address for seat in seats))) for what, seats in parts)
        return "; ".join(f"{what} on {_listed(addresses)}" for what, addresses in where if addresses)


def plan(nodes: Sequence[Node], topology: Topology, needs: Needs, *, sight: Sight, can_grow: bool) -> Plan:
    """Who runs where on these nodes, of which one is the driver's.

    Shards go to the stable nodes that see the run's folder, replicas to the stable nodes, evenly; where a machine
    has few cores or little memory, fewer processes host them. Workers go where there is room.

    Args:
        nodes: what there is; those that are told to go get nothing.
        topology: what was asked for.
        needs: what a process of workers takes.
        sight: who sees the run's folder.
        can_grow: an autoscaler may bring more nodes.
    """
    there = [node for node in nodes if not node.draining or node.driver]
    shards, replicas = _seat_shards(topology.shards, there, sight), _seat_replicas(topology.replicas, there)
    hosts = Counter(seat.node.id for seat in (*shards, *replicas))
    wanted = topology.workers or topology.replicas * topology.children
    workers = _seat_workers(wanted, there, needs, hosts)
    held, seated = room_for(there, needs, hosts, wanted), places_for(there, needs, hosts, wanted)
    asked_for = topology.workers is not None or (can_grow and needs.gpus > 0)
    notes = [*_sight_notes(there, shards, sight), *_kinds_notes(workers, needs)]
    if seated < wanted:
        notes += _memory_notes(there, needs, hosts)
        none = not (held or can_grow)
        waits = asked_for or seated < held or none
        notes += [_waiting_note(wanted if asked_for or none else held, seated, there, needs)] * waits
        notes += [_growth_note(topology, wanted)] * (can_grow and not asked_for)
    return Plan(
        shards=shards,
        replicas=replicas,
        workers=workers,
        wanted=wanted,
        started=wanted if can_grow and asked_for else held,
        notes=tuple(notes),
    )


def comings_and_goings(
    before: Sequence[Node], after: Sequence[Node], crews: Mapping[str, int], workers: int, needs: Needs
) -> list[str]:
    """What to say of nodes that have joined, have left, or are told to go.

    Args:
        before, after: the nodes at the last look, and now.
        crews: how many workers were on each node, by its id.
        workers: how many there are now, or are coming up.
        needs: what a process of workers takes.
    """
    now, known = {node.id: node for node in after}, {node.id: node for node in before}
    left = f"{counted(workers, 'worker')} now" if workers else "the search waits for a node with room"
    said: list[str] = []
    for node in before:
        crew = counted(crews.get(node.id, 0), "worker")
        if node.id not in now:
            what = f"with {crew}: their children are trained elsewhere" if crews.get(node.id) else "without any worker"
            said.append(f"Node {node.address} has left {what}; {left}")
        elif now[node.id].draining and not node.draining:
            said.append(f"Node {node.address} is told to go with {crew}: they begin nothing more; {left}")
    for node in after:
        if node.id not in known and room(node, needs):
            said.append(f"Node {node.address} has joined; {left}")
    return said


def _with_cores(nodes: Sequence[Node]) -> list[Node]:
    """Without those that whoever runs the cluster has given no cores, if there are others."""
    return [node for node in nodes if node.cores] or list(nodes)


def _deal(count: int, nodes: Sequence[Node]) -> list[tuple[Node, range]]:
    """Numbered parts, evenly over the nodes, and on each in as many processes as it is worth."""
    dealt: list[tuple[Node, range]] = []
    for node, share in zip(nodes, spread(count, len(nodes)), strict=False):
        hosts = num_hosts(len(share), node.cores)
        if node.memory is not None:  # one half for these, one for the others
            hosts = max(1, min(hosts, node.memory // (2 * PROCESS_BYTES)))
        dealt += [(node, share[part.start : part.stop]) for part in spread(len(share), hosts)]
    return dealt


def _seat_shards(count: int, nodes: Sequence[Node], sight: Sight) -> tuple[Seat, ...]:
    driver = next(node for node in nodes if node.driver)
    seeing = [node for node in nodes if node.stable and (node.driver or node.id in sight.nodes)]
    reason = "it is stable and sees the run's folder" if seeing else "no stable node sees the run's folder, and it does"
    if len(nodes) == 1:
        reason = "it is the only node"
    chosen = _with_cores(seeing or [driver])
    # The driver's node is the last resort, as without it all is over anyway.
    others = (_one_of(chosen), _one_of([*seeing, driver]))
    return tuple(
        Seat(node=node, parts=parts, reason=reason, wishes=({NODE_LABEL: node.id}, *others))
        for node, parts in _deal(count, chosen)
    )


def _one_of(nodes: Iterable[Node]) -> Selector:
    return {NODE_LABEL: f"in({','.join(sorted({node.id for node in nodes}))})"}


def _seat_replicas(count: int, nodes: Sequence[Node]) -> tuple[Seat, ...]:
    stable = [node for node in nodes if node.stable]
    reason = "it is stable" if stable else "no node is stable, and without the driver's all is over anyway"
    if len(nodes) == 1:
        reason = "it is the only node"
    # From the other end than the shards, which matters where there are fewer of both than nodes.
    chosen = _with_cores(stable or [node for node in nodes if node.driver])[::-1]
    return tuple(
        Seat(node=node, parts=parts, reason=reason, wishes=({NODE_LABEL: node.id}, *ON_STABLE, {}))
        for node, parts in _deal(count, chosen)
    )


def _seat_workers(wanted: int, nodes: Sequence[Node], needs: Needs, hosts: Mapping[str, int]) -> tuple[Seat, ...]:
    seats: list[Seat] = []
    taken = 0
    for node in nodes:
        fit = places_for([node], needs, hosts, wanted - taken)
        if fit:
            has = f"{node.gpus:g} {node.gpu_kind or ''} GPU(s)" if needs.gpus else f"{node.cores:g} core(s)"
            kept = " and is not kept for other things" if needs.off_stable else ""
            reason = f"it has {' '.join(has.split())}{kept}"
            wishes = (OFF_STABLE,) if needs.off_stable else ({},)
            seats.append(Seat(node=node, parts=range(taken, taken + fit), reason=reason, wishes=wishes))
            taken += fit
    return tuple(seats)


def _sight_notes(nodes: Sequence[Node], shards: Sequence[Seat], sight: Sight) -> list[str]:
    blind = [node for node in nodes if node.stable and not node.driver and node.id not in sight.nodes]
    if not blind:
        return []
    homes = list(dict.fromkeys(seat.node.address for seat in shards))
    where = "on this node" if all(seat.node.driver for seat in shards) else f"on {_listed(homes)}"
    see = "does" if len(blind) == 1 else "do"
    names = _listed([node.address for node in blind])
    return [f"Shards stay {where}: {names} {see} not see {sight.folder}; a shared folder would let them spread"]


def _memory_notes(nodes: Sequence[Node], needs: Needs, hosts: Mapping[str, int]) -> list[str]:
    notes: list[str] = []
    for node in nodes:
        held, without = room(node, needs, hosts.get(node.id, 0)), room(replace(node, memory=None), needs)
        if held < without:
            notes.append(
                f"{node.address} gets {counted(held * needs.workers, 'worker')} rather than {without * needs.workers}:"
                f" it has {(node.memory or 0) / 1e9:.1f} GB of memory, and a process takes {needs.memory / 1e9:.1f} GB"
            )
    return notes


def _waiting_note(wanted: int, seated: int, nodes: Sequence[Node], needs: Needs) -> str:
    may = [node for node in nodes if not node.draining and (node.trains or not needs.off_stable)]
    kind = "GPU" if needs.gpus else "CPU"
    there = sum(node.gpus if needs.gpus else node.cores for node in may)
    free = sum(there if node.free is None else node.free.get(kind, 0.0) for node in may)
    if places_for([replace(node, memory=None) for node in nodes], needs, {}, wanted) == wanted:
        lacking = "memory"
    else:
        lacking = f"{'GPUs' if needs.gpus else 'cores'}: the cluster has {there:g}"
        if room_for(nodes, needs, {}, wanted) > seated:
            lacking += f", and others use all but {free:g}"
    return f"{wanted - seated} of {counted(wanted, 'worker')} wait for {lacking}; they are used as they come"


def _growth_note(topology: Topology, wanted: int) -> str:
    """Why an autoscaler is not asked for anything, though more could be used."""
    cores = f"--workers {wanted} has it bring cores"
    if topology.gpus_per_child is not None:
        return f"The autoscaler is not asked for more nodes; {cores}"
    return (
        "No GPU is up, so children are trained on CPUs and the autoscaler is not asked for more nodes;"
        f" --gpus-per-child 1 has it bring GPUs, {cores}"
    )


def _kinds_notes(seats: Sequence[Seat], needs: Needs) -> list[str]:
    kinds: Counter[str] = Counter()
    for seat in seats if needs.gpus else ():
        kinds[seat.node.gpu_kind or "GPUs of no known kind"] += len(seat.parts)
    if len(kinds) < 2:
        return []
    each = ", ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
    return [f"Workers train on different GPUs: {each}"]


def _listed(names: Sequence[str]) -> str:
    first = list(names[:MOST_NAMED])
    parts = [*first, f"{len(names) - len(first)} more"] if len(names) > len(first) else first
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
