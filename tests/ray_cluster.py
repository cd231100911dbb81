"""Starts a Ray of the tests' own, with more tries where a busy machine is too slow for Ray's 30 s, as searches do."""

from typing import Any

from cluster.runners.on_ray.start_local_ray import TOO_SLOW, kill_processes, ray_processes

TRIES = 3
"""How often the start of a node is tried: the fixture of many tests must not fail because of one slow minute."""


def start_cluster(**head: Any) -> Any:
    """Return a `ray.cluster_utils.Cluster` whose head node has these options, and which has patience with its nodes."""
    from ray.cluster_utils import Cluster

    class PatientCluster(Cluster):
        def add_node(self, *args: Any, **options: Any) -> Any:
            before = ray_processes()
            for _ in range(TRIES - 1):
                try:
                    return super().add_node(*args, **options)
                except Exception as error:  # Ray has no type of its own for it
                    if TOO_SLOW not in str(error):
                        raise
                    kill_processes(ray_processes() - before)  # Ray does not end them
            return super().add_node(*args, **options)

    return PatientCluster(initialize_head=True, head_node_args=head)
