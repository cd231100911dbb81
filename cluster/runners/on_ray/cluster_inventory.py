"""What a Ray cluster has: read here, judged in `cluster.placement.capacity` and `cluster.placement.plan`."""

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import services
from ray._private.state import state as ray_state
from ray._private.utils import estimate_available_memory
from ray.core.generated import autoscaler_pb2, common_pb2, gcs_pb2
from ray.exceptions import RayError
from ray.experimental.internal_kv import _initialize_internal_kv, _internal_kv_get

from cluster.formatting import first_line, last_line
from cluster.placement.capacity import PROCESS_BYTES, TRAINING_BYTES, Node, Sight, can_grow
from cluster.placement.cluster_state import Actor, ClusterFacts, Demand
from cluster.placement.plan import NODE_LABEL
from cluster.storage.locks import exclusive, is_locked

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Ray's label that names the kind of a node's GPUs, where whoever runs the cluster has set it."""

ACCELERATOR_RESOURCE = "accelerator_type:"
"""How the resource begins by which Ray itself names the kind of GPU that it has found."""

# Compiled and generated code of Ray's, which says nothing to a type checker.
RAYLET: Any = _raylet
ActorTableData: Any = vars(gcs_pb2)["ActorTableData"]
GetClusterResourceStateReply: Any = vars(autoscaler_pb2)["GetClusterResourceStateReply"]
LABEL_NOT_IN: Any = vars(common_pb2)["LabelSelectorOperator"].Value("LABEL_OPERATOR_NOT_IN")

ANSWER_S = 5.0
"""Seconds that the head has for one answer."""

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
    found = with_free(found)
    return tuple(sorted(found, key=lambda node: (not node.driver, node.address, node.id)))


def with_free(there: Iterable[Node]) -> tuple[Node, ...]:
    """The same nodes, with what of them is free now."""
    free = ray_state.available_resources_per_node()
    return tuple(replace(node, free=free.get(node.id, {})) for node in there)


def has_autoscaler() -> bool:
    """Whether the cluster can get more nodes by itself."""
    second = _internal_kv_get(b"__autoscaler_v2_enabled", namespace=b"__autoscaler")
    return can_grow(_internal_kv_get(b"__autoscaling_status"), second)


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
        with exclusive(file):
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
        return is_locked(file, writable=True)
    except OSError:
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


def node_of(actor: Any) -> str | None:
    """The id of the node on which an actor is, or was last; `None` if nobody knows."""
    found = ray_state.actor_table(actor._actor_id.hex())
    return found.get("Address", {}).get("NodeID") or None


def facts(address: str) -> ClusterFacts:
    """What the head at host:port knows of the whole cluster, for a process that has not joined it.

    Raises:
        RayError: it does not answer, or not with these credentials.
    """
    client = RAYLET.GcsClient(address=address)
    metadata = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster", timeout=ANSWER_S) or b"{}")
    _initialize_internal_kv(client)
    ray_state._initialize_global_state(RAYLET.GcsClientOptions.create(address, None, True, True))
    table, draining = ray_state.node_table(), ray_state.get_draining_nodes()
    alive = [node for node in table if node["Alive"]]
    return ClusterFacts(
        ray=metadata.get("ray_version", "?"),
        python=metadata.get("python_version", "?"),
        nodes=tuple(
            _node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"], "", draining)
            for node in sorted(alive, key=lambda node: (node["NodeManagerAddress"], node["NodeID"]))
        ),
        dead=tuple(sorted(node["NodeManagerAddress"] for node in table if not node["Alive"])),
        actors=_actors(),
        demands=_demands(client),
        autoscaler=has_autoscaler(),
    )


def _actors() -> tuple[Actor, ...]:
    rows = ray_state._connect_and_get_accessor().get_actor_table(None, None)
    return tuple(_actor(ActorTableData.FromString(row)) for row in rows)


def _actor(row: Any) -> Actor:
    return Actor(
        name=row.name or row.class_name,
        state=ActorTableData.ActorState.Name(row.state),
        job=row.job_id.hex(),
        address=row.address.ip_address,
        pid=row.pid,
        restarts=int(row.num_restarts),
        needs=dict(row.required_resources),
        labels=dict(row.label_selector),
        reason=_reason(row.death_cause),
    )


def _reason(cause: Any) -> str:
    kind = cause.WhichOneof("context")
    if kind is None:
        return ""
    context = getattr(cause, kind)
    if kind == "creation_task_failure_context":  # a traceback: what was raised stands last
        return last_line(context.formatted_exception_string)
    return first_line(getattr(context, "error_message", "")) or kind.removesuffix("_context")


def _demands(client: Any) -> tuple[Demand, ...]:
    reply = GetClusterResourceStateReply.FromString(client.get_cluster_resource_state(timeout_s=ANSWER_S))
    return tuple(
        Demand(needs=dict(by_count.request.resources_bundle), count=by_count.count, labels=_labels(by_count.request))
        for by_count in reply.cluster_resource_state.pending_resource_requests
    )


def _labels(request: Any) -> dict[str, str]:
    """The first of the selectors that would do, in the words in which Ray takes them."""
    for selector in request.label_selectors[:1]:
        return {constraint.label_key: _wanted(constraint) for constraint in selector.label_constraints}
    return {}


def _wanted(constraint: Any) -> str:
    not_ = "!" if constraint.operator == LABEL_NOT_IN else ""
    values = list(constraint.label_values)
    return f"{not_}{values[0]}" if len(values) == 1 else f"{not_}in({','.join(values)})"


def running_here() -> str | None:
    """The address of the Ray that runs on this machine and that Ray itself would join, if there is one.

    That is one of `ray start`. One that a program has started for itself, as a launch does, ends with that program: it
    is joined only where `RAY_ADDRESS` is `auto`.
    """
    unnamed: Any = None
    try:
        found = services.get_ray_address_from_environment(unnamed, None)
    except ConnectionError:
        return None
    return None if found == "auto" else found
