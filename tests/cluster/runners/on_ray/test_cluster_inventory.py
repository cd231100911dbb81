"""What is read of a cluster, and what is asked of it."""

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import _raylet
from ray._private.utils import write_ray_address
from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.placement.capacity import FolderVisibility, Node, WorkerResources
from cluster.placement.cluster_state import ClusterFacts
from cluster.placement.node_check import GONE
from cluster.placement.plan import plan
from cluster.runners.on_ray import cluster_inventory, node_checks
from cluster.runners.on_ray.autoscaler import request_nodes, requester
from cluster.runners.on_ray.credentials import sending_token
from cluster.runners.on_ray.probe_head import Refusal, probe_head
from tests.chaos.machines import Machines
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("ray")


def test_a_folder_is_seen_where_its_locks_are(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert not cluster_inventory.sees_lock(file)
    with file.open("x") as held:
        assert not cluster_inventory.sees_lock(file)  # a copy, or a file system whose locks stay on their node
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cluster_inventory.sees_lock(file)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    """Start a head and a node of each kind."""
    machines = Machines(nodes=0, cores=0)
    machines.add_node(num_cpus=2, labels={"nascluster/pool": "stable"})
    machines.add_node(
        num_gpus=2, labels={"nascluster/pool": "children"}, resources={"accelerator_type:A100": 1}, memory=10**9
    )
    with machines.joined():
        yield machines
    machines.close()


def test_nodes_are_read_with_what_they_have(cluster: Machines) -> None:
    here, *others = cluster_inventory.nodes()
    assert here.driver
    (stable,) = [node for node in others if node.labels.get("nascluster/pool") == "stable"]
    (gpus,) = [node for node in others if node.labels.get("nascluster/pool") == "children"]
    assert (stable.cores, stable.gpus, stable.gpu_kind, stable.driver) == (2, 0, None, False)
    assert (gpus.cores, gpus.gpus, gpus.gpu_kind, gpus.memory) == (0, 2, "A100", 10**9)
    assert stable.address == ray.util.get_node_ip_address()
    assert not cluster_inventory.has_autoscaler()


def test_a_token_is_sent_where_one_is_asked_for_and_only_there(cluster: None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    assert sending_token(environment)["RAY_AUTH_MODE"] == "token"
    answer = probe_head(ray.get_runtime_context().gcs_address, environment=environment)
    assert isinstance(answer, ClusterFacts), answer
    assert len(answer.nodes) == 3
    # Whether Ray asked for tokens when this cluster was started is for the tests before to settle. Who joins one
    # without tokens with one would not hear it.
    bare = probe_head(ray.get_runtime_context().gcs_address, environment=environment | {"RAY_AUTH_MODE": "disabled"})
    assert answer.asks_token == isinstance(bare, Refusal)


def test_a_ray_that_a_program_started_for_itself_is_joined_only_when_told_to(
    cluster: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_inventory.running_here() is None
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert cluster_inventory.running_here() is not None
    monkeypatch.delenv("RAY_ADDRESS")
    (tmp_path / "ray").mkdir()
    write_ray_address("192.0.2.7:6379")  # as `ray start` does, on every node
    assert cluster_inventory.running_here() == "192.0.2.7:6379"


def test_the_second_autoscaler_is_found_where_ray_says_that_it_runs(cluster: Machines) -> None:
    key, namespace = _raylet.GCS_AUTOSCALER_V2_ENABLED_KEY, _raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    before = _internal_kv_get(key, namespace=namespace)
    _internal_kv_put(key, b"1", overwrite=True, namespace=namespace)
    assert cluster_inventory.has_autoscaler()
    _internal_kv_put(key, before, overwrite=True, namespace=namespace)
    assert not cluster_inventory.has_autoscaler()


def test_the_visibility_of_the_folder_on_stable_nodes(cluster: Machines, tmp_path: Path) -> None:
    here, *others = cluster_inventory.nodes()
    lost = Node(id="e" * 56, address="10.0.0.9", cores=1)
    seen = cluster_inventory.folder_visibility(tmp_path, [here, *others, lost])
    assert seen == FolderVisibility(str(tmp_path), frozenset(node.id for node in others if node.stable))
    assert list(tmp_path.iterdir()) == []


def asked() -> Any:
    """Return the nodes requested of the autoscaler."""
    return json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or b"null")


def test_requested_nodes_are_released_however_the_block_ends(cluster: Machines) -> None:
    there = [Node(id="a", address="10.0.0.1", cores=8, driver=True)]
    resources, topology = WorkerResources(gpus=0.5, off_stable=True), Topology(replicas=1, children=3)
    wanting = plan(there, topology, resources, visibility=FolderVisibility("/runs/a"), can_grow=True)

    with pytest.raises(KeyboardInterrupt), request_nodes(wanting, resources, pytest.fail):
        assert asked() == [{"GPU": 0.5}, {"GPU": 0.5}, {"GPU": 0.5}]
        raise KeyboardInterrupt
    assert asked() == []


def test_runs_request_nodes_side_by_side_and_silent_ones_expire(cluster: Machines) -> None:
    there = [Node(id="a", address="10.0.0.1", cores=8, driver=True)]
    resources, topology = WorkerResources(gpus=0.5, off_stable=True), Topology(replicas=1, children=3)
    wanting = plan(there, topology, resources, visibility=FolderVisibility("/runs/a"), can_grow=True)
    others = requester()
    ray.get(others.put.remote("another run", 2, {"CPU": 1.0}, {}))
    with request_nodes(wanting, resources, pytest.fail):
        assert asked() == [{"CPU": 1}] * 2 + [{"GPU": 0.5}] * 3
        ray.get(others.put.remote("one that is killed", 1, {"GPU": 8.0}, {}, 0.5))
        assert asked()[-1] == {"GPU": 8}
        until(lambda: asked() == [{"CPU": 1}] * 2 + [{"GPU": 0.5}] * 3, "what nobody repeats is dropped")
    assert asked() == [{"CPU": 1}] * 2
    ray.get(others.drop.remote("another run"))
    assert asked() == []


class Holder:
    """Something that goes on where it is."""

    def ready(self) -> None:
        """Return once the process is up."""


def test_a_draining_node_does_not_end_the_launch(cluster: Machines) -> None:
    """One that is known to drain, and one that began to after it was surveyed."""
    known, since = (cluster.add_node(resources={name: 1}) for name in ("known", "since"))
    until(lambda: {"known", "since"} <= ray.cluster_resources().keys(), "both are there")
    holder: Any = ray.remote(num_cpus=0, resources={"known": 1})(Holder).remote()
    ray.get(holder.ready.remote())
    cluster.drain_node(known)  # where nothing runs any more, Ray ends the node at once
    there = until(
        lambda: (found := cluster_inventory.nodes()) and any(n.draining for n in found) and found, "one drains"
    )
    cluster.drain_node(since)
    said: list[str] = []
    node_checks.check_nodes(there, RunConfig(task=TaskOptions(task="synthetic")), said.append)
    assert sorted(text.partition(there[0].address)[2] for text in said) == [
        " has left meanwhile; the others take part",
        " is draining; it gets no workers",
    ]
    ray.kill(holder)


def test_a_node_that_dies_during_the_check_does_not_end_the_launch(
    cluster: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {node.id for node in cluster_inventory.nodes()}
    cluster.add_node(num_cpus=1)
    (dying,) = until(lambda: [node for node in cluster_inventory.nodes() if node.id not in before], "it is there")

    def take_the_node_along(task: object) -> None:
        for process in (os.getppid(), os.getpid()):  # its raylet first
            os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(node_checks, "check_node", take_the_node_along)
    answers = node_checks.ask_nodes([dying], None, frozenset(), 60.0)
    assert answers == {dying.id: GONE}
