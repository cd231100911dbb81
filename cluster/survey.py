"""What a Ray cluster has: read here, judged in `cluster.placement`."""

import ray
from ray._private.state import state as ray_state
from ray.experimental.internal_kv import _internal_kv_get

from cluster.placement import Node, can_grow

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Ray's label that names the kind of a node's GPUs, where whoever runs the cluster has set it."""

ACCELERATOR_RESOURCE = "accelerator_type:"
"""How the resource begins by which Ray itself names the kind of GPU that it has found."""


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
