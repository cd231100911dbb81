"""Clusters of several nodes that are joined, for real: the driver's code on all of them, nodes that cannot take part,
a doctor's word on each, and a Ray job that brings its code itself."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray._private.utils import get_ray_address_file, write_ray_address

from cluster.runners.on_ray.join_cluster import join
from cluster.runners.on_ray.private_api import reload_settings
from cluster.runners.on_ray.probe_head import ClusterError
from tests.cluster.searches import Process, nascluster, run_folder, wait_until
from tests.deploy.wheels import build, context, installation
from tests.lengths import LONG
from tests.ports import free_port
from tests.ray_cluster import start_cluster

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module", autouse=True)
def token_is_asked_for() -> Iterator[None]:
    """Ray has read its settings when it was imported, and has to read them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        reload_settings()
        yield
    reload_settings()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a head, and a node with another address."""
    cluster = start_cluster(num_cpus=1, include_dashboard=False)
    cluster.add_node(num_cpus=2, node_ip_address="127.0.0.2", labels={"pool": "children"})
    yield cluster
    cluster.shutdown()


def begin_doctor(cluster: Any, *arguments: str) -> Process:
    return nascluster("doctor", *arguments, address=cluster.address)


def said(process: Process, code: int | None = 0) -> str:
    """Return the output of a process whose exit status must be `code`; `None` for any."""
    out, err = process.communicate(timeout=150)
    assert err == ""
    assert code in (None, process.returncode), out
    return out


def doctor(cluster: Any, *arguments: str, code: int | None = 0) -> str:
    return said(begin_doctor(cluster, *arguments), code)


@contextmanager
def announced(address: str) -> Iterator[None]:
    """Write the address as `ray start` does on its machine."""
    write_ray_address(address)
    yield
    Path(get_ray_address_file(None)).unlink()


def changed(folder: Path) -> Path:
    """Make a copy of the source with a change that no node has: it shows in the names of the workers."""
    source = context(folder) / "cluster" / "runners" / "on_ray" / "handles.py"
    changed = source.read_text().replace('f"worker-{slot}@', 'f"changed-worker-{slot}@')
    assert changed != source.read_text()
    source.write_text(changed)
    return folder


def check_that_the_change_was_run(name: str) -> None:
    with closing(sqlite3.connect(run_folder(name) / "ledger.sqlite")) as db:
        workers = {worker for (worker,) in db.execute("SELECT DISTINCT worker FROM attempts")}
    assert workers
    assert all(worker.startswith("changed-worker-") for worker in workers)


@pytest.mark.parametrize("form", ["checkout", pytest.param("wheel", marks=LONG)])
def test_all_nodes_run_the_drivers_own_code(form: str, cluster: Any, tmp_path: Path) -> None:
    source = changed(tmp_path / "source")
    if form == "wheel":
        python = installation(build(source, tmp_path), tmp_path / "venv")
        program, place = [str(python.with_name("nascluster"))], tmp_path
    else:
        program, place = [sys.executable, "-m", "cluster"], source
    command = ["launch", "synthetic", "--name", form, "--max-children", "8", "--workers", "3"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*program, *command], env=environment | {"RAY_ADDRESS": cluster.address}, cwd=place,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    check_that_the_change_was_run(form)


@LONG
def test_a_doctor_sees_the_nodes_and_what_waits(cluster: Any) -> None:
    flags = ["--workers", 5, "--child-seconds", 0.3, "--max-children", 500]
    process = nascluster("launch", "synthetic", "--name", "crowded", *flags, address=cluster.address)
    runs = [process]
    try:
        wait_until("crowded", "SELECT 1 FROM children WHERE completion >= 2")  # it has all places
        runs.append(nascluster("launch", "synthetic", "--name", "late", "--workers", 1, address=cluster.address))
        wait_until("late", "SELECT 1 FROM children LIMIT 1 OFFSET 7")
        asked = [begin_doctor(cluster, "crowded"), begin_doctor(cluster, "late")]
        both = said(asked[0]) + said(asked[1], code=None)
        assert both.count("it is running") == 2
        assert both.count("2 nodes checked: versions, code, ") == 2
        assert re.search("3 of the 5 requested workers are placed", both)
        assert re.search("0 of the 1 requested workers are placed", both)
        assert re.search(r"worker.* wait for resources: each needs 1 core.*, and all of it is in use", both)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    out = doctor(cluster, "crowded", code=1)
    assert "FAIL  its driver died" in out


@LONG
def test_a_doctor_tells_what_workers_wait_for_whose_node_has_left(cluster: Any) -> None:
    node = cluster.add_node(num_cpus=2, node_ip_address="127.0.0.4")
    flags = ["--workers", 5, "--child-seconds", 0.5, "--max-children", 500]
    process = nascluster("launch", "synthetic", "--name", "bereft", *flags, address=cluster.address)
    try:
        wait_until("bereft", "SELECT 1 FROM attempts")
        cluster.remove_node(node, allow_graceful=False)
        node = None
        deadline = time.monotonic() + 90
        while "3 of the 5 requested workers are placed" not in (out := doctor(cluster, "bereft", code=None)):
            assert time.monotonic() < deadline, out
        assert "it is running" in out
        assert re.search(r"2 workers \(.*\) wait for resources: each needs 1 core.*, and all of it is in use", out)
    finally:
        if node is not None:
            cluster.remove_node(node)
        process.kill()
        process.communicate()


def test_a_wrong_token_is_told_as_such_and_at_once(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "w" * 32)
    began = time.monotonic()
    out = doctor(cluster, code=1)
    assert "FAIL  it cannot be queried: the token of this process is not the cluster's  ->  set RAY_AUTH_TOKEN" in out
    process = nascluster("launch", "synthetic", "--name", "stranger", address=cluster.address)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be joined: the token of this process is not the cluster's; set RAY_AUTH_TOKEN" in err
    assert not run_folder("stranger").exists()
    assert time.monotonic() - began < 15


def test_without_a_mode_the_token_that_is_there_is_sent(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray itself asks for the token wherever it finds one, the usual shell has no RAY_AUTH_MODE."""
    monkeypatch.delenv("RAY_AUTH_MODE")
    out = doctor(cluster)
    assert "2 nodes, 3 cores, 0 GPUs; no autoscaler" in out
    assert "node 127.0.0.2: 2 cores" in out
    assert "labels pool=children" in out
    assert "2 nodes checked: versions, code, shared memory and disk are right" in out
    with announced(cluster.address):
        done = subprocess.run(
            [sys.executable, "-c", "from cluster.runners.on_ray.join_cluster import join; assert join(print)"],
            env=os.environ | {"RAY_ADDRESS": ""}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"Joining the Ray cluster at {cluster.address} ...\n", "")
    assert done.returncode == 0


def test_a_mode_that_sends_no_token_is_named(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    out = doctor(cluster, code=1)
    assert "FAIL  it cannot be queried: it requires a token, and RAY_AUTH_MODE is disabled here, so that none" in out
    assert "->  unset RAY_AUTH_MODE or set it to token" in out


def test_a_silent_ray_of_this_machine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", "")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with announced(address):
            with pytest.raises(
                ClusterError, match=f"^a Ray runs on this machine at {address}, but .* in 3 s; .*=local"
            ):
                join(told.append, timeout_s=3.0)
            silent.close()
            assert not join(told.append)  # what a Ray has left that was killed
    assert told == []


def test_a_node_that_cannot_take_part_is_named_before_anything_is_written(cluster: Any, tmp_path: Path) -> None:
    """A node with another PyTorch, which has come by since."""
    record = tmp_path / "packages" / "torch-0.1.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    node = cluster.add_node(
        num_cpus=1, node_ip_address="127.0.0.3", env_vars={"PYTHONPATH": str(record.parent)}
    )  # fmt: skip
    try:
        process = nascluster("launch", "synthetic", "--name", "unlike", address=cluster.address)
        _, err = process.communicate(timeout=100)
        assert process.returncode == 2, err
        assert err.startswith("nascluster: node 127.0.0.3 cannot take part: has PyTorch 0.1, the driver ")
        assert not run_folder("unlike").exists()
        assert "FAIL  node 127.0.0.3: has PyTorch 0.1" in doctor(cluster, code=1)
    finally:
        cluster.remove_node(node)


@LONG
def test_a_ray_job_runs_the_code_that_it_brought(tmp_path: Path) -> None:
    """`ray job submit --working-dir . -- python -m cluster launch ...`, with a dashboard, which takes the jobs."""
    source = changed(tmp_path / "src")
    # The agent that takes jobs has one port for all of a machine's Rays, if nothing is said.
    cluster = start_cluster(
        num_cpus=2, include_dashboard=True, dashboard_port=0, dashboard_agent_listen_port=free_port()
    )
    try:
        url = f"http://{cluster.head_node.webui_url}"
        launch = [sys.executable, "-m", "cluster", "launch", "synthetic", "--name", "job", "--max-children", "8"]
        submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", url]
        submit += ["--working-dir", str(source), "--"]
        done = patiently([*submit, *launch], tmp_path)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "8 children finished" in done.stdout
    finally:
        cluster.shutdown()
    check_that_the_change_was_run("job")


def patiently(submit: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Submit, again and again while the head says that it is not ready for jobs yet."""
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            submit, env=os.environ | {"RAY_ADDRESS": ""}, cwd=folder,
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)
