import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.topology import Topology
from cluster.placement.capacity import (
    FolderVisibility,
    Node,
    PlacementError,
    SlidingMax,
    WorkerResources,
    can_grow,
    gpus_per_child,
    num_hosts,
    places_for,
    room,
    spread,
    vacant,
    worker_resources,
)
from cluster.placement.plan import OFF_STABLE, ON_STABLE, Plan, Seat, node_changes, plan

STABLE, CHILDREN = {"nascluster/pool": "stable"}, {"nascluster/pool": "children"}
SPOT, DEMAND = {"ray.io/market-type": "spot"}, {"ray.io/market-type": "on-demand"}


def machine(cores: float, gpus: float, *, number: int = 0, **more: Any) -> Node:
    """Return the nodes, the driver's first."""
    name = f"node{number}"
    return Node(id=name, address=f"10.0.0.{number}", cores=cores, gpus=gpus, driver=number == 0, **more)


def planned(
    there: Sequence[Node], topology: Topology, *, seen: Iterable[str] = (), can_grow: bool = False, memory: int = 1
) -> Plan:
    """On a cluster that was joined."""
    resources = worker_resources(topology, there, memory=memory, can_grow=can_grow)
    return plan(there, topology, resources, visibility=FolderVisibility("/runs/a", frozenset(seen)), can_grow=can_grow)


@given(st.integers(1, 500), st.integers(1, 500))
def test_parts_are_spread_once_each_and_evenly(count: int, hosts: int) -> None:
    shares = spread(count, hosts)
    assert [part for share in shares for part in share] == list(range(count))
    assert len(shares) == min(count, hosts)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("count", "cores", "hosts"), [(20, 2, 1), (100, 2, 1), (20, 64, 16), (2, 64, 2), (1, 0, 1)])
def test_a_small_machine_packs_its_hosts(count: int, cores: float, hosts: int) -> None:
    assert num_hosts(count, cores) == hosts


@pytest.mark.parametrize(
    ("asked", "gpus", "given"), [(None, 0, 0), (None, 8, 1), (0, 8, 0), (0.25, 1, 0.25), (2, 8, 2)]
)
def test_a_gpu_each_unless_told_otherwise(asked: float | None, gpus: float, given: float) -> None:
    assert gpus_per_child(Topology(gpus_per_child=asked), gpus, can_grow=False) == given


@pytest.mark.parametrize(
    ("topology", "gpus", "message"),
    [
        (Topology(gpus_per_child=1), 0, "--gpus-per-child 1 needs 1 GPUs, but there are 0 .* --gpus-per-child 0"),
        (Topology(gpus_per_child=2), 1, "needs 2 GPUs, but there are 1 .* smaller fraction"),
        (Topology(gpus_per_child="auto"), 0, "--gpus-per-child auto needs a GPU, but there is none .* 0 to train on"),
        (Topology(gpus_per_child=0.5, workers=5), 2, "for each of 5 workers needs 2.5 GPUs, but there are 2"),
    ],
)
def test_more_gpus_than_there_are_is_an_error_unless_more_can_come(
    topology: Topology, gpus: float, message: str
) -> None:
    with pytest.raises(PlacementError, match=message):
        gpus_per_child(topology, gpus, can_grow=False)
    asked = topology.gpus_per_child
    assert gpus_per_child(topology, gpus, can_grow=True) == (0.25 if asked == "auto" else asked)


def test_workers_reserve_equal_parts_of_a_gpu_where_children_get_parts_by_their_memory() -> None:
    topology = Topology(gpus_per_child="auto", replicas=10, children=8)
    there = [replace(machine(2, 2), gpu_bytes=80 * 10**9), machine(2, 2, number=1)]
    assert worker_resources(topology, there, can_grow=False).gpus == 0.125
    assert worker_resources(topology, [machine(2, 2)], can_grow=False).gpus == 0.25
    assert planned([machine(2, 2)], topology).seated == 8
    few = worker_resources(replace(topology, workers=4), there, can_grow=False, joined=False)
    assert (few.gpus, few.cores) == (1.0, 0)


@pytest.mark.parametrize(
    ("topology", "nodes", "gpus_each", "workers"),
    [
        (Topology(), [(2, 0)], 0, 2),
        (Topology(), [(2, 0), (4, 0)], 0, 6),
        (Topology(), [(64, 8)], 1, 8),
        (Topology(), [(4, 8)], 1, 8),  # a GPU worker needs no core of its own
        (Topology(), [(64, 1)], 0.25, 4),
        (Topology(), [(64, 3)], 0.1, 30),  # 1 / 0.1 is not quite 10 in binary
        (Topology(), [(64, 4)], 0.4, 8),  # two to a GPU, and a fifth of each GPU is left
        (Topology(), [(8, 4), (8, 2)], 4, 1),  # the other node's two GPUs are not enough
        (Topology(), [(8, 4), (8, 2)], 2, 3),
        (Topology(replicas=1, children=2), [(64, 8)], 1, 2),
        (Topology(workers=7), [(2, 0), (1, 0)], 0, 3),  # the others wait
        (Topology(workers_per_process=300), [(2, 0)], 0, 600),
        (Topology(workers_per_process=400), [(4, 0)], 0, 800),
    ],
)
def test_as_many_workers_as_fit_and_can_be_used(
    topology: Topology, nodes: list[tuple[float, float]], gpus_each: float, workers: int
) -> None:
    there = [machine(*node, number=number) for number, node in enumerate(nodes)]
    found = planned(there, replace(topology, gpus_per_child=gpus_each))
    assert found.started == found.seated == workers


def test_workers_may_share_the_cores_of_one_machine() -> None:
    topology = Topology(workers=7)
    resources = worker_resources(topology, [machine(2, 0)], can_grow=False, joined=False)
    assert (
        plan([machine(2, 0)], topology, resources, visibility=FolderVisibility("/runs/a"), can_grow=False).started == 7
    )


def test_shared_weights_are_placed_as_the_other_shards_are() -> None:
    there = [machine(4, 0, number=number, labels=labels) for number, labels in enumerate((STABLE, STABLE, CHILDREN))]
    resources = worker_resources(Topology(), there, memory=1, can_grow=False)
    visibility = FolderVisibility("/runs/a", frozenset({"node1"}))
    found, without = (
        plan(there, Topology(shards=2), resources, visibility=visibility, can_grow=False, weights_shards=count)
        for count in (3, 0)
    )
    assert [(seat.node.id, seat.parts) for seat in found.weights] == [("node0", range(1)), ("node1", range(1, 3))]
    assert [seat.label_preferences for seat in found.weights] == [seat.label_preferences for seat in found.shards]
    assert sum(found.hosts.values()) == sum(without.hosts.values()) + 2
    assert "shared weights on 10.0.0.0 and 10.0.0.1" in str(found)
    assert "shared weights" not in str(without)


def test_a_worker_takes_as_many_cores_as_its_child_has_threads() -> None:
    topology, there = Topology(threads_per_child=3, gpus_per_child=0), [machine(8, 0), machine(4, 0, number=1)]
    assert worker_resources(topology, there, can_grow=False).cores == 3
    assert planned(there, topology).started == 3
    assert worker_resources(replace(topology, gpus_per_child=1), [machine(8, 1)], can_grow=False).cores == 0
    with pytest.raises(PlacementError, match="--threads-per-child 9 needs a node with 9 cores, but the largest has 8"):
        worker_resources(replace(topology, threads_per_child=9), there, can_grow=False)
    assert worker_resources(replace(topology, threads_per_child=9), there, can_grow=True).cores == 9


def test_a_cluster_that_can_grow_is_asked_for_all_that_could_be_used() -> None:
    topology = Topology(replicas=10, children=8, gpus_per_child=1)
    found = planned([machine(4, 0)], topology, can_grow=True)
    assert (found.started, found.seated) == (80, 0)
    assert found.notes == ("80 of 80 workers wait for GPUs: the cluster has 0; they start when there is room",)


def test_a_cluster_with_nothing_to_train_on_says_what_is_waited_for() -> None:
    """Such as a head without cores whose nodes are still to be started."""
    topology = Topology(replicas=1, children=8)
    found = planned([machine(0, 0)], topology)
    assert (found.started, found.seated, found.wanted) == (0, 0, 8)
    assert found.notes == ("8 of 8 workers wait for cores: the cluster has 0; they start when there is room",)
    (small,) = planned([machine(8, 0, memory=100)], topology, memory=600_000_000).notes[-1:]
    assert small == "8 of 8 workers wait for memory; they start when there is room"


def test_gpus_that_no_single_node_has_are_refused_unless_one_may_come() -> None:
    there = [machine(8, 1, number=number) for number in range(4)]
    topology = Topology(gpus_per_child=4)
    with pytest.raises(PlacementError, match="needs a node with 4 GPUs, but the largest has 1 and there is no auto"):
        worker_resources(topology, there, can_grow=False)
    assert worker_resources(topology, there, can_grow=True).gpus == 4


READ_ONLY = json.dumps(
    {"autoscaler_report": {"active_nodes": {"node_" + "d0835fb03b060a4c8d8d" * 3: 1}, "idle_nodes": None}}
)
REAL = json.dumps({"autoscaler_report": {"active_nodes": {"ray.head.default": 1}, "idle_nodes": None}})
STARTING = json.dumps({"gcs_request_time": 0.1, "load_metrics_report": {"node_type_mapping": None}})


@pytest.mark.parametrize(
    ("status", "v2", "grows"),
    [
        (None, None, False),
        (STARTING, None, False),
        (READ_ONLY, None, False),
        (REAL, None, True),
        (READ_ONLY, b"1", True),
    ],
)
def test_an_autoscaler_is_told_from_rays_own_bookkeeping(status: str | None, v2: bytes | None, grows: bool) -> None:
    assert can_grow(status.encode() if status else None, v2) == grows


@pytest.mark.parametrize(
    ("labels", "stable", "trains"),
    [
        ({}, True, True),
        (STABLE, True, False),
        (CHILDREN, False, True),
        (SPOT, False, True),
        (DEMAND, True, True),
        (STABLE | SPOT, True, False),  # what is said of this search counts more
    ],
)
def test_what_a_node_is_for_is_read_from_its_labels(labels: dict[str, str], stable: bool, trains: bool) -> None:
    node = machine(1, 0, labels=labels)
    assert (node.stable, node.trains) == (stable, trains)
    # Ray's selectors, by which actors find another place, say the same.
    assert any(selects(selector, labels) for selector in ON_STABLE) == stable
    assert selects(OFF_STABLE, labels) == trains


def selects(selector: Any, labels: dict[str, str]) -> bool:
    """As Ray does: a value that begins with `!` is met by anything else, and by no such label."""
    return all(
        labels.get(key) != value[1:] if value.startswith("!") else labels.get(key) == value
        for key, value in selector.items()
    )


@st.composite
def clusters(draw: st.DrawFn) -> list[Node]:
    def node(number: int) -> Node:
        return machine(
            draw(st.integers(0, 96)),
            draw(st.integers(0, 8)),
            number=number,
            memory=draw(st.none() | st.integers(0, 10**11)),
            labels=draw(st.sampled_from([{}, STABLE, CHILDREN, SPOT, DEMAND])),
            gpu_kind=draw(st.sampled_from([None, "A100", "T4"])),
            draining=draw(st.booleans()),
        )

    return [node(number) for number in range(draw(st.integers(1, 8)))]


def counts(seats: Sequence[Seat]) -> dict[str, int]:
    found: dict[str, int] = {}
    for seat in seats:
        found[seat.node.id] = found.get(seat.node.id, 0) + len(seat.parts)
    return found


@given(clusters(), st.data())
def test_whatever_the_cluster_the_plan_keeps_its_rules(there: list[Node], data: st.DataObject) -> None:
    whole = st.integers(1, 200)
    gpus = data.draw(st.sampled_from([0, 0.1, 0.25, 1, 2, 8]), "gpus")
    topology = Topology(
        replicas=data.draw(whole, "replicas"),
        shards=data.draw(whole, "shards"),
        workers=data.draw(st.none() | whole, "workers"),
        gpus_per_child=gpus,
    )
    grows = data.draw(st.booleans(), "grows") or not any(node.gpus >= gpus for node in there)
    seen = data.draw(st.sets(st.sampled_from([node.id for node in there])), "seen")
    memory = 600_000_000
    found = planned(there, topology, seen=seen, can_grow=grows, memory=memory)
    for count, seats in ((topology.shards, found.shards), (topology.replicas, found.replicas)):
        assert sorted(part for seat in seats for part in seat.parts) == list(range(count))
        shares = counts(seats).values()
        assert max(shares) - min(shares) <= 1
        assert all(seat.parts for seat in seats)
    for seat in found.shards:
        assert seat.node.driver or (seat.node.id in seen and seat.node.stable and not seat.node.draining)
    assert all(seat.reason for seat in (*found.shards, *found.replicas, *found.workers))
    hosts = found.hosts
    for seat in found.workers:
        node, workers = seat.node, len(seat.parts)
        assert gpus * workers <= node.gpus + 1e-9
        assert gpus or workers <= node.cores
        assert not node.draining
        assert node.memory is None or workers * memory + hosts[node.id] * 200_000_000 <= node.memory
    assert [slot for seat in found.workers for slot in seat.parts] == list(range(found.seated))
    assert found.seated <= found.started <= found.wanted
    assert grows or found.started == found.seated


def test_shards_and_replicas_are_on_the_stable_pool_and_children_on_the_gpus() -> None:
    there = [
        machine(0, 0),
        machine(8, 0, number=1, labels=STABLE),
        machine(8, 0, number=2, labels=STABLE),
        machine(32, 4, number=3, labels=CHILDREN, gpu_kind="A100"),
        machine(32, 1, number=4, labels=SPOT, gpu_kind="T4"),
    ]
    found = planned(there, Topology(shards=20, replicas=100), seen=["node1", "node2"])
    assert counts(found.shards) == {"node1": 10, "node2": 10}
    assert counts(found.replicas) == {"node1": 50, "node2": 50}
    assert counts(found.workers) == {"node3": 4, "node4": 1}
    # A shard never goes where the folder is not seen, and to the driver's node only when all others have gone.
    assert [[selector["ray.io/node-id"] for selector in seat.label_preferences] for seat in found.shards[::2]] == [
        ["node1", "in(node1,node2)", "in(node0,node1,node2)"],
        ["node2", "in(node1,node2)", "in(node0,node1,node2)"],
    ]
    assert found.replicas[0].label_preferences[1:] == (*ON_STABLE, {})
    assert found.notes == ("Workers train on different GPUs: 4 on A100, 1 on T4",)
    assert str(found) == (
        "shards on 10.0.0.1 and 10.0.0.2; replicas on 10.0.0.2 and 10.0.0.1; workers on 10.0.0.3 and 10.0.0.4"
    )


def test_shards_stay_where_the_runs_folder_is_seen() -> None:
    there = [machine(8, 0), machine(8, 0, number=1), machine(8, 0, number=2)]
    found = planned(there, Topology())
    assert counts(found.shards) == {"node0": 20}
    assert found.notes == (
        "Shards stay on this node: 10.0.0.1 and 10.0.0.2 do not see /runs/a; a shared folder would let them spread",
    )


def test_memory_limits_the_workers_and_is_said() -> None:
    there = [machine(8, 0, memory=2_000_000_000)]
    found = planned(there, Topology(shards=1, replicas=1, workers=8), memory=600_000_000)
    assert found.started == 2  # the two hosts have theirs first
    assert found.notes == (
        "10.0.0.0 gets 2 workers rather than 8: it has 2.0 GB of memory, and a process takes 0.6 GB",
        "6 of 8 workers wait for memory; they start when there is room",
    )


def test_a_launch_that_asks_for_more_than_there_is_says_what_it_waits_for() -> None:
    there = [machine(8, 0), *(machine(8, 8, number=number, labels=CHILDREN) for number in range(1, 21))]
    found = planned(there, Topology(), can_grow=True, seen=[])
    assert found.notes == ("640 of 800 workers wait for GPUs: the cluster has 160; they start when there is room",)
    assert planned(there, Topology()).notes == ()  # where nobody has asked for more, it is no news


def test_what_others_use_is_waited_for_and_said() -> None:
    there = [machine(4, 0, free={}), machine(4, 2, number=1, labels=CHILDREN, free={"CPU": 4.0, "GPU": 0.5})]
    found = planned(there, Topology(workers=2))
    assert (found.started, found.seated, found.workers) == (2, 0, ())
    waits = "2 of 2 workers wait for GPUs: the cluster has 2, and others use all but 0.5; they start when there is room"
    assert found.notes[-1] == waits
    assert found.staffing == "0 of 2 workers have a place"
    assert planned(there, Topology()).notes[-1] == waits  # also where nobody has asked for more than there is
    shares = planned(there, Topology(gpus_per_child=0.25))
    assert (shares.started, shares.seated) == (8, 2)
    assert planned(there, Topology(gpus_per_child=1), can_grow=True).seated == 0
    alone = [replace(node, free={"CPU": node.cores, "GPU": node.gpus}) for node in there]
    assert planned(alone, Topology(workers=2)).seated == 2


def test_memory_that_others_use_is_waited_for() -> None:
    there = [machine(8, 0, memory=10**10, free={"CPU": 6.0, "memory": 1.3e9})]
    found = planned(there, Topology(shards=1, replicas=1, workers=6), memory=600_000_000)
    assert (found.started, found.seated) == (6, 2)
    assert found.notes[-1] == "4 of 6 workers wait for memory; they start when there is room"


def test_the_number_of_placed_workers_is_always_reported() -> None:
    assert planned([machine(8, 8)], Topology()).staffing == "8 of 800 workers have a place"


def test_an_autoscaler_that_is_not_asked_is_said_with_what_would_ask_it() -> None:
    there = [machine(8, 0), machine(8, 0, number=1)]
    (note,) = planned(there, Topology(), seen=["node1"], can_grow=True).notes
    assert note == (
        "No GPU node is available: training on CPUs, and no nodes are requested; use --gpus-per-child 1 to request GPU"
        " nodes or --workers 800 to request CPU nodes"
    )
    (note,) = planned(there, Topology(gpus_per_child=0), seen=["node1"], can_grow=True).notes
    assert note == "No nodes are requested; use --workers 800 to request CPU nodes"
    for asked in (Topology(workers=800), Topology(gpus_per_child=1)):
        (note,) = planned(there, asked, seen=["node1"], can_grow=True).notes
        assert " of 800 workers wait for " in note
    assert planned(there, Topology(), seen=["node1"]).notes == ()


def test_workers_that_are_up_have_their_place_beside_what_is_free() -> None:
    resources, busy = WorkerResources(gpus=1.0, cores=0), machine(4, 4, free={"GPU": 1.0})
    assert (vacant(busy, resources), room(busy, resources)) == (1, 4)
    assert places_for([busy], resources, {}, 9) == 1
    assert places_for([busy], resources, {}, 9, {busy.id: 2}) == 3
    assert places_for([replace(busy, free={"GPU": 4.0})], resources, {}, 9, {busy.id: 2}) == 4  # they are no more
    assert places_for([replace(busy, free=None)], resources, {}, 3) == 3
    gone = {"node7": 4}
    assert places_for([busy], resources, {}, 9, gone) == 1


def test_a_number_holds_through_a_gap() -> None:
    recent = SlidingMax(10.0)
    assert [recent.update(*seen) for seen in ((2, 0.0), (0, 3.0), (1, 6.0), (0, 11.0), (0, 15.9), (0, 16.0))] == [
        2, 2, 2, 1, 1, 0,
    ]  # fmt: skip
    assert recent.update(5, 17.0) == 5


def test_nodes_that_come_and_go_are_told_with_their_workers() -> None:
    first, second, third = (machine(4, 0, number=number) for number in range(3))
    crews = {first.id: 4, second.id: 1}
    resources = WorkerResources()
    assert node_changes([first, second], [first, second], crews, 5, resources) == []
    assert node_changes([first, second], [second, third], crews, 8, resources) == [
        "Node 10.0.0.0 has left with 4 workers: their children are trained elsewhere; 8 workers now",
        "Node 10.0.0.2 has joined; 8 workers now",
    ]
    assert node_changes([second], [], crews, 0, resources) == [
        "Node 10.0.0.1 has left with 1 worker: their children are trained elsewhere; the search waits for a node with"
        " room"
    ]
    assert node_changes([first], [replace(first, draining=True)], crews, 0, resources) == [
        "Node 10.0.0.0 is draining with 4 workers: they start no more children; the search waits for a node with room"
    ]
    assert room(replace(first, draining=True), resources) == 0
