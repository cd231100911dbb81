"""Who runs where, each with a reason: a pure function of the nodes and the topology. Standard library only.

`cluster.runners.on_ray.topology` carries the plan out by Ray's label selectors. Ray 2.60 was observed on real nodes to
do this with them: if the first selector finds no node with room, Ray tries the fallbacks in their order, at a start and
at a restart; an actor whose selectors name nodes by their ids fails permanently once none of these nodes fits, even if
one joins soon, while an actor whose selectors are of other labels waits. So only processes that need no resources and
have a last resort are bound to nodes; workers are not.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.config.topology import Topology
from cluster.formatting import counted
from cluster.placement.capacity import (
    MARKET_LABEL,
    POOL_LABEL,
    PROCESS_BYTES,
    FolderVisibility,
    Node,
    WorkerResources,
    num_hosts,
    places_for,
    room,
    room_for,
    spread,
)
from cluster.placement.plan_notes import growth_note, kinds_notes, listed, memory_notes, visibility_notes, waiting_note

Selector = Mapping[str, str]
"""Conditions on the labels of a node, in Ray's words; empty for any node."""

NODE_LABEL = "ray.io/node-id"
"""Ray's own label, which every node has."""

ON_STABLE: tuple[Selector, ...] = ({POOL_LABEL: "stable"}, {POOL_LABEL: "!children", MARKET_LABEL: "!spot"})
"""The stable nodes: those labelled so, and else those without a label that says otherwise."""

OFF_STABLE: Selector = {POOL_LABEL: "!stable"}
"""The nodes on which children may be trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Some parts on one node: a process of shards or replicas, or all the workers that a node has room for.

    Attributes:
        node: on which they run.
        parts: their numbers.
        reason: why they run there.
        label_preferences: selectors of the nodes that it may be on, the best first; a restart takes the first that
            finds a node.
    """

    node: Node
    parts: range
    reason: str
    label_preferences: tuple[Selector, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Who runs where.

    Attributes:
        shards, weights, replicas: one seat for each process; `weights` has the shards of the shared weights.
        workers: one seat for each node with room now; Ray decides which worker is where, as nodes join and leave.
        wanted: the workers that the search can use.
        started: the workers to start with; more than have a seat if an autoscaler shall add nodes for them, or if they
            wait for resources that others use now.
        notes: sentences for the user.
    """

    shards: tuple[Seat, ...]
    weights: tuple[Seat, ...]
    replicas: tuple[Seat, ...]
    workers: tuple[Seat, ...]
    wanted: int
    started: int
    notes: tuple[str, ...]

    @property
    def hosts(self) -> Counter[str]:
        """Processes of shards and replicas on each node, by its id."""
        return Counter(seat.node.id for seat in (*self.shards, *self.weights, *self.replicas))

    @property
    def seated(self) -> int:
        """Workers for which there is room now."""
        return sum(len(seat.parts) for seat in self.workers)

    @property
    def staffing(self) -> str:
        """How many of the wanted workers have a seat, as text."""
        return f"{self.seated} of {counted(self.wanted, 'worker')} {'has' if self.seated == 1 else 'have'} a place"

    def __str__(self) -> str:
        parts = (
            ("shards", self.shards),
            ("shared weights", self.weights),
            ("replicas", self.replicas),
            ("workers", self.workers),
        )
        where = ((what, list(dict.fromkeys(seat.node.address for seat in seats))) for what, seats in parts)
        return "; ".join(f"{what} on {listed(addresses)}" for what, addresses in where if addresses)


def plan(
    nodes: Sequence[Node],
    topology: Topology,
    resources: WorkerResources,
    *,
    visibility: FolderVisibility,
    can_grow: bool,
    weights_shards: int = 0,
) -> Plan:
    """Decide who runs where on these nodes, of which one is the driver's.

    Shards go to the stable nodes that see the run's folder, replicas to the stable nodes, evenly; where a machine
    has few cores or little memory, fewer processes host them. Workers go where there is room.

    Args:
        nodes: of the cluster; draining ones get nothing.
        topology: as requested.
        resources: of a process of workers.
        visibility: the nodes that see the run's folder.
        can_grow: an autoscaler may add nodes.
        weights_shards: how many shards hold weights that children share.
    """
    usable = [node for node in nodes if not node.draining or node.driver]
    shards, replicas = _seat_shards(topology.shards, usable, visibility), _seat_replicas(topology.replicas, usable)
    weights = _seat_shards(weights_shards, usable, visibility) if weights_shards else ()
    hosts = Counter(seat.node.id for seat in (*shards, *weights, *replicas))
    wanted = topology.workers or topology.replicas * topology.children
    workers = _seat_workers(wanted, usable, resources, hosts)
    held, seated = room_for(usable, resources, hosts, wanted), places_for(usable, resources, hosts, wanted)
    requests = topology.workers is not None or (can_grow and resources.gpus > 0)
    notes = [*visibility_notes(usable, shards, visibility), *kinds_notes(workers, resources)]
    if seated < wanted:
        notes += memory_notes(usable, resources, hosts)
        none = not (held or can_grow)
        waits = requests or seated < held or none
        notes += [waiting_note(wanted if requests or none else held, seated, usable, resources)] * waits
        notes += [growth_note(topology, wanted)] * (can_grow and not requests)
    return Plan(
        shards=shards,
        weights=weights,
        replicas=replicas,
        workers=workers,
        wanted=wanted,
        started=wanted if can_grow and requests else held,
        notes=tuple(notes),
    )


def node_changes(
    before: Sequence[Node],
    after: Sequence[Node],
    workers_by_node: Mapping[str, int],
    workers: int,
    resources: WorkerResources,
) -> list[str]:
    """Describe the nodes that have joined, have left or have begun to drain, one sentence each.

    Args:
        before, after: the nodes at the last poll, and now.
        workers_by_node: the number of workers that were on each node, by its id.
        workers: the number of workers that are up now or are starting.
        resources: of a process of workers.
    """
    now, known = {node.id: node for node in after}, {node.id: node for node in before}
    left = f"{counted(workers, 'worker')} now" if workers else "the search waits for a node with room"
    changes: list[str] = []
    for node in before:
        lost = workers_by_node.get(node.id, 0)
        if node.id not in now:
            what = (
                f"with {counted(lost, 'worker')}: their children are trained elsewhere" if lost else "without workers"
            )
            changes.append(f"Node {node.address} has left {what}; {left}")
        elif now[node.id].draining and not node.draining:
            changes.append(
                f"Node {node.address} is draining with {counted(lost, 'worker')}: they start no more children; {left}"
            )
    for node in after:
        if node.id not in known and room(node, resources):
            changes.append(f"Node {node.address} has joined; {left}")
    return changes


def _with_cores(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that have cores, or all if none has any."""
    return [node for node in nodes if node.cores] or list(nodes)


def _deal(count: int, nodes: Sequence[Node]) -> list[tuple[Node, range]]:
    """Divide numbered parts evenly over the nodes, and on each node over as many processes as pay off there."""
    dealt: list[tuple[Node, range]] = []
    for node, share in zip(nodes, spread(count, len(nodes)), strict=False):
        hosts = num_hosts(len(share), node.cores)
        if node.memory is not None:  # one half for shards, the other for replicas
            hosts = max(1, min(hosts, node.memory // (2 * PROCESS_BYTES)))
        dealt += [(node, share[part.start : part.stop]) for part in spread(len(share), hosts)]
    return dealt


def _seat_shards(count: int, nodes: Sequence[Node], visibility: FolderVisibility) -> tuple[Seat, ...]:
    driver = next(node for node in nodes if node.driver)
    seeing = [node for node in nodes if node.stable and (node.driver or node.id in visibility.nodes)]
    reason = "it is stable and sees the run's folder" if seeing else "no stable node sees the run's folder, and it does"
    if len(nodes) == 1:
        reason = "it is the only node"
    chosen = _with_cores(seeing or [driver])
    # The driver's node is the last resort, as the run ends without it anyway.
    others = (_one_of(chosen), _one_of([*seeing, driver]))
    return tuple(
        Seat(node=node, parts=parts, reason=reason, label_preferences=({NODE_LABEL: node.id}, *others))
        for node, parts in _deal(count, chosen)
    )


def _one_of(nodes: Iterable[Node]) -> Selector:
    return {NODE_LABEL: f"in({','.join(sorted({node.id for node in nodes}))})"}


def _seat_replicas(count: int, nodes: Sequence[Node]) -> tuple[Seat, ...]:
    stable = [node for node in nodes if node.stable]
    reason = "it is stable" if stable else "no node is stable, and the run ends without the driver's node anyway"
    if len(nodes) == 1:
        reason = "it is the only node"
    # From the other end than the shards, to use other nodes if there are fewer of both than nodes.
    chosen = _with_cores(stable or [node for node in nodes if node.driver])[::-1]
    return tuple(
        Seat(node=node, parts=parts, reason=reason, label_preferences=({NODE_LABEL: node.id}, *ON_STABLE, {}))
        for node, parts in _deal(count, chosen)
    )


def _seat_workers(
    wanted: int, nodes: Sequence[Node], resources: WorkerResources, hosts: Mapping[str, int]
) -> tuple[Seat, ...]:
    seats: list[Seat] = []
    taken = 0
    for node in nodes:
        fit = places_for([node], resources, hosts, wanted - taken)
        if fit:
            has = f"{node.gpus:g} {node.gpu_kind or ''} GPU(s)" if resources.gpus else f"{node.cores:g} core(s)"
            kept = " and is not labelled stable" if resources.off_stable else ""
            reason = f"it has {' '.join(has.split())}{kept}"
            label_preferences = (OFF_STABLE,) if resources.off_stable else ({},)
            seats.append(
                Seat(node=node, parts=range(taken, taken + fit), reason=reason, label_preferences=label_preferences)
            )
            taken += fit
    return tuple(seats)
