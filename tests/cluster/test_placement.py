import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Topology
from cluster.placement import Node, PlacementError, can_grow, gpus_per_child, num_hosts, num_workers, spread


def machine(cores: float, gpus: float) -> Node:
    return Node(id="a", address="10.0.0.1", cores=cores, gpus=gpus)


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
        (Topology(gpus_per_child=0.5, workers=5), 2, "for each of 5 workers needs 2.5 GPUs, but there are 2"),
    ],
)
def test_more_gpus_than_there_are_is_an_error_unless_more_can_come(
    topology: Topology, gpus: float, message: str
) -> None:
    with pytest.raises(PlacementError, match=message):
        gpus_per_child(topology, gpus, can_grow=False)
    assert gpus_per_child(topology, gpus, can_grow=True) == topology.gpus_per_child


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
        (Topology(), [(8, 1)] * 4, 4, 1),  # four nodes of one GPU hold no worker of four
        (Topology(), [(8, 4), (8, 2)], 2, 3),
        (Topology(replicas=1, children=2), [(64, 8)], 1, 2),
        (Topology(workers=7), [(2, 0)], 0, 7),
        (Topology(workers_per_process=300), [(2, 0)], 0, 600),
        (Topology(workers_per_process=400), [(4, 0)], 0, 800),
    ],
)
def test_as_many_workers_as_fit_and_can_be_used(
    topology: Topology, nodes: list[tuple[float, float]], gpus_each: float, workers: int
) -> None:
    there = [machine(*node) for node in nodes]
    assert num_workers(topology, there, gpus_each, can_grow=False) == workers


def test_a_cluster_that_can_grow_is_asked_for_all_that_could_be_used() -> None:
    topology = Topology(replicas=10, children=8, gpus_per_child=1)
    assert num_workers(topology, [machine(4, 0)], 1, can_grow=True) == 80


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
