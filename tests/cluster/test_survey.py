"""What is read of a cluster, and what is asked of it."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import _raylet
from ray._private import services
from ray._private.utils import write_ray_address
from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from cluster import survey
from cluster.config import Topology
from cluster.credentials import sending_token
from cluster.doctor.facts import ClusterFacts
from cluster.doctor.knock import knock
from cluster.fleet import asking
from cluster.placement import Needs, Node, Sight
from cluster.plan import plan
from tests.chaos.machines import Machines


def test_a_folder_is_seen_where_its_locks_are(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert not survey.sees(file)
    with file.open("x") as held:
        assert not survey.sees(file)  # a copy, or a file system whose locks stay on their node
        fcntl.flock(held, fcntl.LOCK_EX)
        assert survey.sees(file)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A node of each kind beside the head."""
    machines = Machines(nodes=0, cores=0)
    machines.add_node(num_cpus=2, labels={"nascluster/pool": "stable"})
    machines.add_node(
        num_gpus=2, labels={"nascluster/pool": "children"}, resources={"accelerator_type:A100": 1}, memory=10**9
    )
    with machines.joined():
        yield
    machines.close()


def test_nodes_are_read_with_what_they_have(cluster: None) -> None:
    here, *others = survey.nodes()
    assert here.driver
    (stable,) = [node for node in others if node.labels.get("nascluster/pool") == "stable"]
    (gpus,) = [node for node in others if node.labels.get("nascluster/pool") == "children"]
    assert (stable.cores, stable.gpus, stable.gpu_kind, stable.driver) == (2, 0, None, False)
    assert (gpus.cores, gpus.gpus, gpus.gpu_kind, gpus.memory) == (0, 2, "A100", 10**9)
    assert stable.address == ray.util.get_node_ip_address()
    assert not survey.has_autoscaler()


def test_a_cluster_without_tokens_answers_whoever_sends_one(cluster: None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    assert sending_token(environment)["RAY_AUTH_MODE"] == "token"
    answer = knock(ray.get_runtime_context().gcs_address, environment=environment)
    assert isinstance(answer, ClusterFacts), answer
    assert len(answer.nodes) == 3


def test_a_ray_that_a_program_started_for_itself_is_joined_only_when_told_to(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    services.find_gcs_addresses.cache_clear()
    assert survey.running_here() is None
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert survey.running_here() is not None
    monkeypatch.delenv("RAY_ADDRESS")
    (tmp_path / "ray").mkdir()
    write_ray_address("192.0.2.7:6379")  # as `ray start` does, on every node
    assert survey.running_here() == "192.0.2.7:6379"


def test_the_second_autoscaler_is_found_where_ray_says_that_it_runs(cluster: None) -> None:
    key, namespace = _raylet.GCS_AUTOSCALER_V2_ENABLED_KEY, _raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    before = _internal_kv_get(key, namespace=namespace)
    _internal_kv_put(key, b"1", overwrite=True, namespace=namespace)
    assert survey.has_autoscaler()
    _internal_kv_put(key, before, overwrite=True, namespace=namespace)
    assert not survey.has_autoscaler()


def test_the_stable_nodes_are_asked_whether_they_see_the_folder(cluster: None, tmp_path: Path) -> None:
    here, *others = survey.nodes()
    lost = Node(id="e" * 56, address="10.0.0.9", cores=1)
    seen = survey.sight(tmp_path, [here, *others, lost])
    assert seen == Sight(str(tmp_path), frozenset(node.id for node in others if node.stable))
    assert list(tmp_path.iterdir()) == []


def test_nodes_are_asked_for_and_are_not_any_more_however_it_ends(cluster: None) -> None:
    there = [Node(id="a", address="10.0.0.1", cores=8, driver=True)]
    needs, topology = Needs(gpus=0.5, off_stable=True), Topology(replicas=1, children=3)
    wanting = plan(there, topology, needs, sight=Sight("/runs/a"), can_grow=True)

    def asked() -> bytes | None:
        return _internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL)

    with pytest.raises(KeyboardInterrupt), asking(wanting, needs):
        assert asked() == b'[{"GPU": 0.5}, {"GPU": 0.5}, {"GPU": 0.5}]'
        raise KeyboardInterrupt
    assert asked() == b"[]"
