"""What a Ray cluster has: read here, judged in `cluster.placement.capacity` and `cluster.placement.plan`."""

import fcntl
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.placement.capacity import PROCESS_BYTES, TRAINING_BYTES, Node, Sight, can_grow
from cluster.placement.cluster_state import ClusterFacts
from cluster.placement.plan import NODE_LABEL
from cluster.runners.on_ray import private_api

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Ray's label that names the kind of a node's GPUs, where whoever runs the cluster has set it."""

ACCELERATOR_RESOURCE = "accelerator_type:"
"""How the resource begins by which Ray itself names the kind of GPU that it has found."""

PROBE_S = 20.0
"""Seconds in which a node must have said whether it sees the run's folder; its first process takes some."""


def nodes() -> tuple[Node, ...]:
    """The nodes that live, the driver's first, then by their addresses."""
    here, draining = ray.get_runtime_context().get_node_id(), private_api.draining_nodes()
    found = [
        _node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"], here, draining)
        for node in ray.nodes()
        if node["Alive"]
    ]
    found = with_free(found)
    return tuple(sorted(found, key=lambda node: (not node.driver, node.address, node.id)))


def with_free(there: Iterable[Node]) -> tuple[Node, ...]:
    """The same nodes, with what of them is free now."""
    free = private_api.free_resources()
    return tuple(replace(node, free=free.get(node.id, {})) for node in there)


def has_autoscaler() -> bool:
    """Whether the cluster can get more nodes by itself."""
    second = private_api.internal_value(b"__autoscaler_v2_enabled", b"__autoscaler")
    return can_grow(private_api.internal_value(b"__autoscaling_status"), second)


def this_machine() -> Node:
    """This machine before there is a Ray on it. However little memory is free, one worker may be tried."""
    import torch

    least = TRAINING_BYTES + 4 * PROCESS_BYTES
    return Node(
        id="",
        address="127.0.0.1",
        cores=float(os.cpu_count() or 1),
        gpus=float(torch.cuda.device_count()),
        memory=max(least, private_api.available_memory()),
        driver=True,
    )


def sight(folder: Path, there: Sequence[Node]) -> Sight:
    """Which of the stable nodes see the run's folder, as a lock in it shows that is held here.

    Seeing is not enough: the locks that keep two drivers' processes apart must hold from node to node.
    """
    asked = [node for node in there if node.stable and not (node.driver or node.draining)]
    if not asked:
        return Sight(str(folder))
    file = folder / f".seen-{secrets.token_hex(8)}"
    try:
        with file.open("x") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            answers = {_sees.options(label_selector={NODE_LABEL: node.id}).remote(file): node.id for node in asked}
            ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=PROBE_S)
            for answer in late:
                ray.cancel(answer)
    finally:
        file.unlink(missing_ok=True)
    return Sight(str(folder), frozenset(answers[answer] for answer in ready if _yes(answer)))


def sees(file: Path) -> bool:
    """Whether the file is here and is locked by somebody."""
    try:
        with file.open("r+") as seen:
            fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


_sees = ray.remote(num_cpus=0, max_retries=0)(sees)


def _yes(answer: Any) -> bool:
    try:
        return ray.get(answer)
    except RayError:  # the node has gone, or cannot run our code
        return False


def _node(
    node_id: str,
    address: str,
    resources: dict[str, float],
    labels: dict[str, str],
    here: str,
    draining: Collection[str],
) -> Node:
    named = [key.removeprefix(ACCELERATOR_RESOURCE) for key in resources if key.startswith(ACCELERATOR_RESOURCE)]
    return Node(
        id=node_id,
        address=address,
        cores=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        memory=int(resources.get("memory", 0)) or None,
        labels=labels,
        gpu_kind=labels.get(ACCELERATOR_LABEL) or next(iter(named), None),
        driver=node_id == here,
        draining=node_id in draining,
    )


def facts(address: str) -> ClusterFacts:
    """What the head at host:port knows of the whole cluster, for a process that has not joined it.

    Raises:
        RayError: it does not answer, or not with these credentials.
    """
    head = private_api.connect_to_head(address)
    table, draining = private_api.node_table(), private_api.draining_nodes()
    alive = [node for node in table if node["Alive"]]
    return ClusterFacts(
        ray=head.ray,
        python=head.python,
        nodes=tuple(
            _node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"], "", draining)
            for node in sorted(alive, key=lambda node: (node["NodeManagerAddress"], node["NodeID"]))
        ),
        dead=tuple(sorted(node["NodeManagerAddress"] for node in table if not node["Alive"])),
        actors=private_api.actors(),
        demands=private_api.pending_demands(head),
        autoscaler=has_autoscaler(),
    )


def running_here() -> str | None:
    """The address of the Ray that runs on this machine and that Ray itself would join, if there is one.

    That is one of `ray start`. One that a program has started for itself, as a launch does, ends with that program: it
    is joined only where `RAY_ADDRESS` is `auto`.
    """
    if os.environ.get("RAY_ADDRESS") == "auto":
        return private_api.auto_address()
    return private_api.last_started_address()
