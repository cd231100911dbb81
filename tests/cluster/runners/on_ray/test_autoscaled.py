"""Launches on a cluster with a real autoscaler, Ray's second one: nodes come for them and go after them."""

import logging
import signal
import subprocess
from collections.abc import Iterator

import pytest
import ray

from tests.chaos.autoscaled import Autoscaled
from tests.chaos.invariants import check
from tests.chaos.machines import start_command
from tests.cluster.searches import run_folder, select
from tests.lengths import LONG
from tests.waiting import until

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(300),
    LONG,
]

CHILDREN = {"nascluster/pool": "children"}


@pytest.fixture
def cluster() -> Iterator[Autoscaled]:
    """Which this process has joined."""
    cluster = Autoscaled({"CPU": 1, "GPU": 2}, CHILDREN, most=2)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
    finally:
        ray.shutdown()
        cluster.close()


def launch(cluster: Autoscaled, name: str, *flags: object) -> "subprocess.Popen[bytes]":
    words = ["launch", "synthetic", "--name", name, "--shards", "1", "--replicas", "1", "--gpus-per-child", "1"]
    return start_command([*words, *map(str, flags)], cluster.environment, subprocess.PIPE)


def gpus() -> float:
    return ray.cluster_resources().get("GPU", 0.0)


def test_nodes_come_for_a_launch_and_go_after_it(cluster: Autoscaled) -> None:
    process = launch(cluster, "grown", "--children", 4, "--max-children", 24, "--child-seconds", 1)
    until(lambda: cluster.asked() == [({"GPU": 1.0}, 4)], "all workers' GPUs are asked for")
    until(lambda: gpus() == 4, "both nodes have come")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out.decode()
    assert "4 of 4 workers wait for GPUs: the cluster has 0" in out.decode()
    assert cluster.asked() == []
    report = check(run_folder("grown"))
    assert (report.children, report.lost, report.duplicated) == (24, 0, 0)
    until(lambda: gpus() == 0, "the nodes have gone again")


def test_a_killed_drivers_request_expires_and_the_others_stays(
    cluster: Autoscaled,
) -> None:
    slow = ["--children", 2, "--max-children", 1000, "--child-seconds", 2]
    killed, lives = launch(cluster, "killed", *slow), launch(cluster, "lives", *slow)
    both = "the GPUs of both are asked for"
    until(lambda: sorted(cluster.asked()) in ([({"GPU": 1.0}, 4)], [({"GPU": 1.0}, 2)] * 2), both)
    for name in ("killed", "lives"):
        until(lambda name=name: select(name, "SELECT 1 FROM children WHERE completion >= 2"), f"{name} trains")
    killed.kill()
    killed.communicate()
    until(lambda: cluster.asked() == [({"GPU": 1.0}, 2)], "what was asked for is what the other wants")
    assert lives.poll() is None  # its workers may be on both nodes, which stay then
    lives.send_signal(signal.SIGTERM)
    lives.communicate(timeout=60)
    assert cluster.asked() == []
    until(lambda: gpus() == 0, "the nodes have gone again")
