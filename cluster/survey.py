"""What a Ray cluster has: read here, judged in `cluster.placement` and `cluster.plan`."""

import fcntl
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state as ray_state
from ray._private.utils import estimate_available_memory
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get

from cluster.placement import PROCESS_BYTES, TRAINING_BYTES, Node, Sight, can_grow
from cluster.plan import NODE_LABEL

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Ray's label that names the kind of a node's GPUs, where whoever runs the cluster has set it."""

ACCELERATOR_RESOURCE = "accelerator_type:"
"""How the resource begins by which Ray itself names the kind of GPU that it has found."""


PROBE_S = 20.0
"""Seconds in which a node must have said whether it sees the run's folder; its first process takes some."""


def nodes() -> tuple[Node, ...]:
    """The nodes that live, the driver's first, then by their addresses."""
    here, draining = ray.get_runtime_context().get_node_id(), ray_state.get_draining_nodes()
    found = [
        _node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"], here, draining)
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(found, key=lambda node: (not node.driver, node.address, node.id)))


def has_autoscaler() -> bool:
    """Whether the cluster can get more nodes by itself."""
    return can_grow(_internal_kv_get(b"__autoscaling_status"), _internal_kv_get(b"__autoscaler_v2_enabled"))


def this_machine() -> Node:
    """This machine before there is a Ray on it. However little memory is free, one worker may be tried."""
    import torch

    least = TRAINING_BYTES + 4 * PROCESS_BYTES
    return Node(
        id="",
        address="127.0.0.1",
        cores=float(os.cpu_count() or 1),
        gpus=float(torch.cuda.device_count()),
        memory=max(least, estimate_available_memory()),
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
    draining: dict[str, int],
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
