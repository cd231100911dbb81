"""Real Rays of several nodes on this machine, with labels and GPUs that they only say they have."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.invariants import check
from tests.chaos.machines import Machines, first_value, start_command
from tests.cluster.searches import run_folder
from tests.lengths import LONG
from tests.waiting import until

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(300),
    LONG,
]

SMALL = ["--shards", "4", "--replicas", "2", "--children", "4", "--epochs", "5"]


@pytest.fixture
def machines() -> Iterator[Machines]:
    """Start a head without cores, on which the drivers run."""
    machines = Machines(nodes=0, cores=0)
    yield machines
    machines.close()


def launch(machines: Machines, name: str, *flags: object) -> "subprocess.Popen[bytes]":
    words = ["launch", "synthetic", "--name", name, *SMALL, *map(str, flags)]
    return start_command(words, machines.environment, subprocess.PIPE)


def finished(process: "subprocess.Popen[bytes]") -> str:
    out, _ = process.communicate(timeout=150)
    text = out.decode()
    assert process.returncode == 0, text
    return text


def ledger(name: str) -> Path:
    return run_folder(name) / "ledger.sqlite"


def ended(name: str, number: int) -> Any:
    return first_value(ledger(name), "SELECT 1 WHERE (SELECT max(completion) FROM children) >= ?", number)


def workers(name: str) -> int:
    """As the ledger says, and with it the status."""
    return first_value(ledger(name), "SELECT value FROM run WHERE key = 'workers'")


def test_two_runs_keep_to_the_pools_and_to_themselves(machines: Machines) -> None:
    stable = {machines.add_node(num_cpus=4, labels={"nascluster/pool": "stable"}) for _ in range(2)}
    gpus = machines.add_node(num_cpus=4, num_gpus=1, labels={"nascluster/pool": "children"})
    flags = ["--gpus-per-child", 0.25, "--workers", 2, "--max-children", 240, "--child-seconds", 0.3]
    runs = {name: launch(machines, name, *flags) for name in ("left", "right")}
    # Both share the GPU, and nobody trains on the stable nodes, whose cores are free.
    both = "the workers of both runs are on the GPU's node"
    until(lambda: machines.homes("Worker") == {gpus: 4}, both, timeout_s=150)  # two launches at once on few cores
    until(lambda: set(machines.homes("ShardHost")) == stable, "shards are on the stable nodes")
    until(lambda: set(machines.homes("ReplicaHost")) == stable, "and so are replicas")
    for name, process in runs.items():
        text = finished(process)
        assert "Placed shards on " in text
        report = check(run_folder(name))
        assert (report.children, report.lost, report.duplicated) == (240, 0, 0)


def test_nodes_that_come_are_used_and_nodes_that_go_lose_nothing(machines: Machines) -> None:
    first = machines.add_node(num_gpus=2)
    flags = ["--gpus-per-child", 1, "--workers", 4, "--max-children", 160, "--child-seconds", 0.5]
    process = launch(machines, "moving", *flags)
    until(lambda: ended("moving", 4), "the search is under way with what it has")
    assert (machines.homes("Worker"), workers("moving")) == ({first: 2}, 2)

    second = machines.add_node(num_gpus=2)
    until(lambda: machines.homes("Worker") == {first: 2, second: 2}, "the node that has come is used")
    until(lambda: workers("moving") == 4, "the ledger counts its workers")
    places = "SELECT count(DISTINCT slot) FROM attempts WHERE verdict = 'outcome'"
    until(lambda: first_value(ledger("moving"), places) == 4, "all four have trained a child")

    for gone, left in ((first, 2), (second, 0)):
        machines.kill_node(gone)
        until(lambda left=left: workers("moving") == left, "the ledger counts those that are left")
    third = machines.add_node(num_gpus=2)
    until(lambda: machines.homes("Worker") == {third: 2}, "workers that had no node go on")
    text = finished(process)
    assert "2 of 4 workers wait for GPUs: the cluster has 2; they start when there is room" in text
    assert "has joined; 4 workers now" in text
    assert "has left with 2 workers: their children are trained elsewhere; 2 workers now" in text
    assert "has left with 2 workers: their children are trained elsewhere; the search waits for a node" in text
    report = check(run_folder("moving"))
    assert (report.children, report.lost, report.duplicated) == (160, 0, 0)


def test_a_node_that_cannot_train_takes_no_worker_from_those_that_can(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "torch-0.1.dist-info").mkdir()
    (tmp_path / "torch-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    machines.add_node(num_gpus=1)
    flags = ["--gpus-per-child", 1, "--workers", 3, "--max-children", 200, "--child-seconds", 0.5]
    process = launch(machines, "unfit", *flags)
    until(lambda: ended("unfit", 4), "the search is under way with what it has")
    machines.add_node({"PYTHONPATH": str(tmp_path)}, num_gpus=2)
    lost = "SELECT value FROM run WHERE key = 'workers' AND value = 3"
    until(lambda: first_value(ledger("unfit"), lost), "the ledger counts on the node that has come")
    time.sleep(5)  # the workers that waited for room come to it and fail
    good = machines.add_node(num_gpus=2)
    until(lambda: machines.homes("Worker")[good] == 2, "they are started again, on the node that can train")
    text = finished(process)
    assert text.count("A worker is lost: ") == 2
    assert "PyTorch" in text and "0.1" in text
    report = check(run_folder("unfit"))
    assert (report.children, report.lost, report.duplicated) == (200, 0, 0)


def test_a_shard_moves_from_a_node_that_goes(machines: Machines) -> None:
    going = machines.add_node(num_cpus=1, labels={"nascluster/pool": "stable"})
    staying = machines.add_node(num_cpus=1, labels={"nascluster/pool": "stable"})
    machines.add_node(num_cpus=2, labels={"nascluster/pool": "children"})
    process = launch(machines, "shards", "--max-children", 100, "--child-seconds", 0.2)
    until(lambda: ended("shards", 8), "the search is under way")
    assert set(machines.homes("ShardHost")) == {going, staying}
    machines.kill_node(going)
    until(lambda: machines.homes("ShardHost") == {staying: 2}, "its shards are on the other stable node")
    finished(process)
    report = check(run_folder("shards"))
    assert (report.children, report.lost, report.duplicated) == (100, 0, 0)


def test_a_launch_on_a_busy_cluster_counts_the_workers_that_it_has(machines: Machines) -> None:
    machines.add_node(num_gpus=2)
    flags = ["--gpus-per-child", 1, "--child-seconds", 0.5]
    first = launch(machines, "first", *flags, "--max-children", 1000)
    until(lambda: ended("first", 2), "the first has the GPUs")
    second = launch(machines, "second", *flags, "--max-children", 24)
    until(lambda: first_value(ledger("second"), "SELECT 1 FROM children"), "the second has begun")
    assert workers("second") == 0
    first.terminate()
    first.communicate(timeout=60)
    until(lambda: workers("second") == 2, "it has got the GPUs")
    text = finished(second)
    assert "0 of 8 workers have a place" in text
    assert "2 of 2 workers wait for GPUs: the cluster has 2, and others use all but 0; they start when there" in text
