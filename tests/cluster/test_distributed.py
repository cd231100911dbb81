"""Real Ray: whole searches from the command line, joined clusters, killed workers, Ctrl-C."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from child_trainer.outcome import Budget, Cause
from cluster.actors import LedgerHost, Pool, PoolEvaluator, Worker
from cluster.config import RunConfig, TaskOptions
from cluster.evaluator import Evaluator
from tests.contracts.evaluator import EvaluatorContract, assignment, gather

pytestmark = pytest.mark.timeout(180)

Process = subprocess.Popen[str]

TINY = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=1, train_fraction=0.1, batch_size=32))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A running cluster's address."""
    context: Any = ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield context.address_info["address"]
    ray.shutdown()


def nascluster(*arguments: object, address: str = "local", new_session: bool = False) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *map(str, arguments)],
        env=os.environ | {"RAY_ADDRESS": address},
        cwd=Path(__file__).parents[2],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=new_session,
    )


def finish(process: Process, code: int = 0) -> str:
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, out + err
    assert err == ""
    return out


def run_folder(name: str) -> Path:
    return Path.home() / "nascluster_runs" / name


def status(name: str) -> dict[str, Any]:
    return json.loads(finish(nascluster("status", name, "--json")))


def wait_for(name: str, finished: int) -> None:
    """Until a run has so many finished children."""
    path = run_folder(name) / "ledger.sqlite"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
            ((count,),) = db.execute("SELECT count(*) FROM children WHERE state = 'finished'").fetchall()
            db.close()
        except sqlite3.OperationalError:
            continue
        if count >= finished:
            return
    raise AssertionError(f"run {name} has not finished {finished} children in time")


@pytest.fixture(scope="module")
def pool(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    ledger = LedgerHost.remote(tmp_path_factory.mktemp("run") / "ledger.sqlite", 0, 100)
    pool: Any = Pool.remote(ledger)
    workers: list[Any] = [Worker.options(num_cpus=1).remote(TINY, index) for index in range(2)]
    for worker in workers:
        pool.enlist.remote(worker)
    yield pool
    for actor in (*workers, pool, ledger):
        ray.kill(actor)


class TestPoolOnRay(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, pool: Any) -> Evaluator:
        return PoolEvaluator(pool)


def test_a_killed_workers_child_is_an_outcome_and_the_worker_comes_back(cluster: str, tmp_path: Path) -> None:
    config = RunConfig(task=TaskOptions(task="synthetic", child_seconds=3.0), budget=Budget(epochs=1))
    ledger = LedgerHost.remote(tmp_path / "ledger.sqlite", 0, 100)
    pool: Any = Pool.remote(ledger)
    worker: Any = Worker.options(num_cpus=1).remote(config, 0)
    ray.get(pool.enlist.remote(worker))
    process = int(ray.get(worker.describe.remote()).rpartition(":")[2])
    evaluator = PoolEvaluator(pool)
    evaluator.submit(assignment(1))
    evaluator.submit(assignment(2))
    time.sleep(1.0)
    os.kill(process, signal.SIGKILL)
    outcomes = dict(gather(evaluator, 2))
    assert outcomes[1].failure is not None
    assert outcomes[1].failure.cause == Cause.CRASHED
    assert "worker-0@" in outcomes[1].failure.message
    assert outcomes[2].failure is None
    assert int(ray.get(worker.describe.remote()).rpartition(":")[2]) != process
    for actor in (worker, pool, ledger):
        ray.kill(actor)


def test_a_search_on_digits_joins_the_cluster_it_is_told_of(cluster: str) -> None:
    small = [
        "--max-children",
        10,
        "--epochs",
        2,
        "--train-fraction",
        0.3,
        "--shards",
        3,
        "--replicas",
        2,
        "--children",
        2,
    ]
    out = finish(nascluster("launch", "digits", "--name", "joined", *small, address=cluster))
    assert f"Joining the Ray cluster at {cluster}" in out
    assert "Finished after" in out
    found = status("joined")
    assert found["state"] == "finished"
    assert found["children"] == {"sampled": 10, "running": 0, "finished": 10, "failed": 0, "max": 10}
    assert found["updates"] == 5
    assert found["best"]["parameters"] > 0
    assert len(list((run_folder("joined") / "shards").glob("shard-00?.safetensors"))) == 3
    assert ray.cluster_resources()["CPU"] == 3  # it left the cluster running


def test_two_runs_side_by_side_do_not_mix(cluster: str) -> None:
    flags = ["--max-children", 12, "--workers", 1, "--child-seconds", 0.05]
    runs = [nascluster("launch", "synthetic", "--name", name, *flags, address=cluster) for name in ("left", "right")]
    for run in runs:
        finish(run)
    for name in ("left", "right"):
        assert status(name)["children"]["finished"] == 12


def test_an_impossible_number_of_gpus_is_refused_on_a_joined_cluster(cluster: str) -> None:
    process = nascluster("launch", "synthetic", "--name", "gpu", "--gpus-per-child", 1, address=cluster)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert err.startswith("nascluster: --gpus-per-child 1 needs 1 GPUs, but there are 0")
    assert not run_folder("gpu").exists()


def test_data_that_a_worker_cannot_load_ends_the_run_with_the_reason(cluster: str, tmp_path: Path) -> None:
    """The launch is resumed where the data has gone meanwhile; the check at launch is passed by."""
    from cluster.distributed import Cluster, run_distributed
    from cluster.run_folder import run_folder as folder_of

    config = RunConfig(task=TaskOptions(task="fashion-mnist", data=tmp_path / "gone"), max_children=4)
    folder = folder_of(tmp_path, "run")
    folder.create(config)
    there = Cluster(cores=3, gpus=0, workers=1, gpus_each=0, num_nodes=1)
    from contextlib import nullcontext

    with pytest.raises(Exception, match="gone"):
        run_distributed(config, folder, there, lambda _: nullcontext())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_is_done_and_resumes(number: signal.Signals) -> None:
    """On a Ray of its own, in a process group of its own, as in a terminal."""
    name = f"interrupted-{number.name.lower()}"
    flags = ["--max-children", 60, "--child-seconds", 0.2, "--workers", 2, "--children", 3]
    process = nascluster("launch", "synthetic", "--name", name, *flags, new_session=True)
    wait_for(name, finished=6)
    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
    out = finish(process, code=130)
    assert f"Go on with: nascluster resume {name}" in out
    stopped = status(name)
    assert stopped["state"] == "stopped"
    assert 6 <= stopped["children"]["finished"] < 60
    finish(nascluster("resume", name, "--on", "local"))
    resumed = status(name)
    assert (resumed["state"], resumed["children"]["finished"]) == ("finished", 60)
    db = sqlite3.connect(run_folder(name) / "ledger.sqlite")
    assert db.execute("SELECT count(*), count(DISTINCT completion) FROM children").fetchone() == (60, 60)
    db.close()
