"""What a Ray cluster has: read here, judged in `cluster.placement.capacity` and `cluster.placement.plan`."""

import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from child_trainer.training.gpu_memory import smallest_memory
from cluster.placement.capacity import PROCESS_BYTES, TRAINING_BYTES, FolderVisibility, Node, can_grow
from cluster.placement.cluster_state import ClusterFacts
from cluster.placement.cores import usable_cores
from cluster.placement.plan import NODE_LABEL
from cluster.runners.on_ray import private_api
from cluster.storage.locks import exclusive, is_locked

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Ray's label for the kind of a node's GPUs, which the cluster's administrator may set."""

ACCELERATOR_RESOURCE = "accelerator_type:"
"""The beginning of the resource by which Ray itself names the kind of GPU that it has found."""

VISIBILITY_TIMEOUT_S = 20.0
"""Timeout for the nodes' answers whether they see the run's folder; the start of their processes is part of it."""


def nodes() -> tuple[Node, ...]:
    """Return the live nodes, the driver's first, the others by their addresses."""
    here, draining = ray.get_runtime_context().get_node_id(), private_api.draining_nodes()
    alive = [
        _node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"], here, draining)
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(with_free_resources(alive), key=lambda node: (not node.driver, node.address, node.id)))


def with_free_resources(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes with `free` set to what is free on them now."""
    free = private_api.free_resources()
    return tuple(replace(node, free=free.get(node.id, {})) for node in nodes)


def with_gpu_memory(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes with the memory of the driver's smallest GPU, if this process can use one."""
    known = smallest_memory()
    return tuple(replace(node, gpu_bytes=known) if node.driver and node.gpus else node for node in nodes)


def has_autoscaler() -> bool:
    """Return whether the cluster has an autoscaler that can add nodes."""
    second = private_api.internal_value(b"__autoscaler_v2_enabled", b"__autoscaler")
    return can_grow(private_api.internal_value(b"__autoscaling_status"), second)


def this_machine() -> Node:
    """Return this machine as a node, before a Ray runs on it, with the cores that this process may use.

    Its memory is enough for at least one worker.
    """
    import torch

    minimum = TRAINING_BYTES + 4 * PROCESS_BYTES
    return Node(
        id="",
        address="127.0.0.1",
        cores=float(usable_cores()),
        gpus=float(torch.cuda.device_count()),
        memory=max(minimum, private_api.available_memory()),
        driver=True,
    )


def folder_visibility(folder: Path, nodes: Sequence[Node]) -> FolderVisibility:
    """Find out which stable nodes see the run's folder: those that see a lock in it which is held here.

    To see the files is not enough: the locks that keep apart the processes of two drivers must hold across nodes.
    """
    candidates = [node for node in nodes if node.stable and not (node.driver or node.draining)]
    if not candidates:
        return FolderVisibility(str(folder))
    file = folder / f".seen-{secrets.token_hex(8)}"
    try:
        with exclusive(file):
            calls = {
                _sees_lock.options(label_selector={NODE_LABEL: node.id}).remote(file): node.id for node in candidates
            }
            ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=VISIBILITY_TIMEOUT_S)
            for call in late:
                ray.cancel(call)
    finally:
        file.unlink(missing_ok=True)
    return FolderVisibility(str(folder), frozenset(calls[call] for call in ready if _succeeded(call)))


def sees_lock(file: Path) -> bool:
    """Return whether the file exists on this node and another process holds a lock on it."""
    try:
        return is_locked(file, writable=True)
    except OSError:
        return False


_sees_lock = ray.remote(num_cpus=0, max_retries=0)(sees_lock)


def _succeeded(call: Any) -> bool:
    try:
        return ray.get(call)
    except RayError:  # the node has left, or cannot run our code
        return False


def _node(
    node_id: str,
    address: str,
    resources: dict[str, float],
    labels: dict[str, str],
    here: str,
    draining: Collection[str],
) -> Node:
    kinds = [key.removeprefix(ACCELERATOR_RESOURCE) for key in resources if key.startswith(ACCELERATOR_RESOURCE)]
    return Node(
        id=node_id,
        address=address,
        cores=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        memory=int(resources.get("memory", 0)) or None,
        labels=labels,
        gpu_kind=labels.get(ACCELERATOR_LABEL) or next(iter(kinds), None),
        driver=node_id == here,
        draining=node_id in draining,
    )


def facts(address: str) -> ClusterFacts:
    """Return what the head at host:port knows of the whole cluster, for a process that has not joined it.

    Raises:
        RayError: it does not answer, or refuses these credentials.
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
    """Return the address of the Ray on this machine that Ray itself would join; `None` if there is none.

    That is the one of `ray start`. A Ray that a program has started for itself, as a launch does, ends with that
    program: it is joined only where `RAY_ADDRESS` is `auto`.
    """
    if os.environ.get("RAY_ADDRESS") == "auto":
        return private_api.auto_address()
    return private_api.last_started_address()
