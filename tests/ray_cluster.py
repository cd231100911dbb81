"""Starts a Ray of the tests' own, as searches do: with a second try where a busy machine is too slow for Ray's 30 s."""

from typing import Any

from cluster.runners.on_ray.start_local_ray import TOO_SLOW


def start_cluster(**head: Any) -> Any:
    """Return a `ray.cluster_utils.Cluster` whose head node has these options."""
    from ray.cluster_utils import Cluster

    try:
        return Cluster(initialize_head=True, head_node_args=head)
    except Exception as error:
        if TOO_SLOW not in str(error):
            raise
    return Cluster(initialize_head=True, head_node_args=head)
