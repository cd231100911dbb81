"""Facts of a healthy run and cluster, which tests change."""

from dataclasses import replace
from typing import Any

from cluster.doctor.run_facts import OpenAttempt, RunFacts
from cluster.placement.capacity import Node
from cluster.placement.cluster_state import Actor, ClusterFacts

ATTEMPT = OpenAttempt(child_id=7, number=1, worker="worker-0@10.0.0.2/ab:77", seconds=5.0)

RUN = RunFacts(
    name="demo",
    state="running",
    message="",
    local=False,
    began=True,
    silence_s=1.0,
    stop_requested=False,
    waiting=2,
    ended=10,
    finished=10,
    failed=0,
    max_children=100,
    workers=2,
    requested_workers=2,
    open=(ATTEMPT,),
    typical_s=4.0,
    idle_s=2.0,
    causes={},
    recent_failed=(0, 10),
    last_failure=None,
    resume="nascluster resume demo",
    failures="nascluster failures demo",
    error="/runs/demo/error.txt",
)

NODES = (
    Node(id="1", address="10.0.0.1", cores=4),
    Node(id="2", address="10.0.0.2", cores=8, gpus=2, memory=32 * 2**30, gpu_kind="A10G", labels={"pool": "children"}),
)

CLUSTER = ClusterFacts(
    ray="2.60.0", python="3.11.7", nodes=NODES, dead=(), actors=(), demands=(), autoscaler=False
)  # fmt: skip


def run(**changes: Any) -> RunFacts:
    return replace(RUN, **changes)


def cluster(**changes: Any) -> ClusterFacts:
    return replace(CLUSTER, **changes)


def actor(name: str, state: str = "ALIVE", **changes: Any) -> Actor:
    usual = Actor(
        name=name, state=state, job="01", address="10.0.0.2", pid=5, restarts=0, needs={}, labels={}, reason=""
    )
    return replace(usual, **changes)
