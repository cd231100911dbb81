"""Real Ray: whole searches from the command line, joined clusters, killed workers, Ctrl-C."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray

from child_trainer.outcome import Cause
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.placement.capacity import WorkerResources
from cluster.runners.on_ray import cluster_inventory
from cluster.runners.on_ray.cluster_of_run import Cluster
from cluster.runners.on_ray.handles import LEDGER, POOL, PoolEvaluator
from cluster.runners.on_ray.topology import run_distributed
from cluster.search.evaluator import Evaluator
from cluster.storage.find_run import run_folder as folder_of
from tests.cluster.searches import (
    TINY,
    Rig,
    actor_process,
    end,
    finish,
    nascluster,
    open_pool,
    run_folder,
    select,
    status,
    wait_for,
)
from tests.contracts.evaluator import EvaluatorContract, assignment, gather
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]


@pytest.fixture
def pool(cluster: str, tmp_path: Path) -> Iterator[Any]:
    pool, actors = open_pool(tmp_path, TINY, workers=2)
    yield pool
    end(actors)


class TestPoolOnRay(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, pool: Any) -> Evaluator:
        return PoolEvaluator(pool)


@pytest.fixture
def rig(cluster: str, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    end(rig.actors)


def test_a_killed_workers_child_is_trained_once_more(rig: Rig) -> None:
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    process = rig.in_training(1, 1)
    os.kill(process, signal.SIGKILL)
    outcomes = dict(gather(evaluator, 1))
    assert outcomes[1].failure is None
    assert rig.ended_attempts() == [(1, 1, "retry", "crashed"), (1, 2, "outcome", None)]
    assert len({attempt.worker for attempt in ray.get(rig.ledger.attempts.remote(1))}) == 2


def test_a_child_that_kills_every_worker_is_an_outcome(rig: Rig) -> None:
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    for number in (1, 2):
        os.kill(rig.in_training(1, number), signal.SIGKILL)
    outcomes = dict(gather(evaluator, 1))
    assert outcomes[1].failure is not None
    assert outcomes[1].failure.cause == Cause.CRASHED
    assert "worker-0@" in outcomes[1].failure.message
    evaluator.submit(assignment(2))
    assert dict(gather(evaluator, 1))[2].failure is None


def test_a_child_that_is_asked_for_twice_is_trained_once(rig: Rig) -> None:
    """As when a replica's host dies, and its successor submits again what is still in training."""
    first, second = PoolEvaluator(rig.pool), PoolEvaluator(rig.pool)
    first.submit(assignment(1))
    rig.in_training(1, 1)
    del first
    second.submit(assignment(1))
    assert dict(gather(second, 1))[1].failure is None
    assert rig.ended_attempts() == [(1, 1, "outcome", None)]


def test_the_pool_dies_and_its_successor_takes_up_what_is_in_training(rig: Rig) -> None:
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    evaluator.submit(assignment(2))
    rig.in_training(1, 1)
    ray.kill(rig.pool, no_restart=False)
    outcomes = dict(gather(evaluator, 2))
    assert all(outcome.failure is None for outcome in outcomes.values())
    assert sorted(row for row in rig.ended_attempts() if row[2] not in ("lost", "void")) == [
        (1, 1, "outcome", None),
        (2, 1, "outcome", None),
    ]


def test_sigterm_gives_the_child_back_and_the_worker_is_started_afresh(rig: Rig) -> None:
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    os.kill(rig.in_training(1, 1), signal.SIGTERM)
    assert dict(gather(evaluator, 1))[1].failure is None
    assert rig.ended_attempts() == [(1, 1, "retry", "preempted"), (1, 2, "outcome", None)]
    assert len({attempt.worker for attempt in ray.get(rig.ledger.attempts.remote(1))}) == 2


@LONG
@pytest.mark.timeout(300)
def test_killed_actors_come_back_and_nothing_is_lost_or_done_twice(cluster: str) -> None:
    """One search, of which each actor but the workers is killed once, when it has gone on after the one before."""
    flags = ["--max-children", 120, "--child-seconds", 0.1, "--workers", 2, "--children", 3]
    process = nascluster("launch", "synthetic", "--name", "killed", *flags, address=cluster)
    for number, actor in enumerate(("ShardHost", LEDGER, "ReplicaHost", POOL), start=1):
        wait_for("killed", finished=18 * number)
        os.kill(actor_process("killed", actor), signal.SIGKILL)
    finish(process)
    after = status("killed")
    assert (after["state"], after["children"]["finished"], after["updates"]) == ("finished", 120, 40)
    # No training was repeated: an attempt that the pool had written down and not yet sent when it died never began.
    assert select("killed", "SELECT count(*) FROM attempts WHERE verdict <> 'void'") == [(120,)]


@LONG
def test_a_shard_host_that_cannot_start_again_ends_the_run_with_the_reason(cluster: str) -> None:
    name = "damaged"
    flags = ["--max-children", 500, "--child-seconds", 0.2, "--workers", 2, "--children", 3]
    process = nascluster("launch", "synthetic", "--name", name, *flags, address=cluster)
    wait_for(name, finished=9)
    ours = actor_process(name, "ShardHost")
    os.kill(ours, signal.SIGSTOP)  # so that it does not write again what is damaged now
    for pattern in ("shard-000*.safetensors", "shards-000*.journal"):
        for file in (run_folder(name) / "shards").glob(pattern):
            file.write_bytes(b"damaged")
    began = time.monotonic()
    os.kill(ours, signal.SIGKILL)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1, out + err
    assert err == ""
    assert time.monotonic() - began < 60
    after = status(name)
    assert after["state"] == "failed"
    assert "shard-000" in after["message"]


def test_a_search_on_digits_joins_the_cluster_it_is_told_of(cluster: str) -> None:
    small = ["--epochs", 1, "--train-fraction", 0.1, "--shards", 3, "--replicas", 2, "--children", 2]
    small += ["--max-children", 6, "--num-filters", 24]
    out = finish(nascluster("launch", "digits", "--name", "joined", *small, address=cluster))
    assert f"Joining the Ray cluster at {cluster}" in out
    assert "Finished after" in out
    found = status("joined")
    assert found["state"] == "finished"
    assert found["children"] == {"sampled": 6, "running": 0, "finished": 6, "failed": 0, "max": 6}
    assert found["updates"] == 3
    assert found["best"]["parameters"] > 0
    assert len(list((run_folder("joined") / "shards").glob("shard-00?.safetensors"))) == 3
    assert ray.cluster_resources()["CPU"] == 3  # it left the cluster running


@LONG
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


def test_data_that_no_worker_can_load_ends_the_run_with_the_reason(cluster: str, tmp_path: Path) -> None:
    """As when it has gone since the launch looked for it."""
    config = RunConfig(task=TaskOptions(task="fashion-mnist", data=tmp_path / "gone"), max_children=4)
    folder = folder_of(tmp_path, "run")
    folder.create(config)
    there = Cluster(nodes=cluster_inventory.nodes(), resources=WorkerResources(), joined=True, can_grow=False)
    with pytest.raises(Exception, match=r"no worker is left; the last one reported: .*gone"):
        run_distributed(config, folder, there, lambda _: nullcontext(), print)


@pytest.mark.timeout(300)
def test_an_interrupted_run_keeps_what_is_done_and_resumes() -> None:
    """Ctrl-C first, SIGTERM then. On a Ray of its own, in a process group of its own, as in a terminal."""
    name, least = "interrupted", 0
    flags = ["--max-children", 60, "--child-seconds", 0.2, "--workers", 2, "--children", 3]
    process = nascluster("launch", "synthetic", "--name", name, *flags, new_session=True)
    for send, number in ((os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)):
        wait_for(name, finished=least + 6)
        send(process.pid, number)
        out = finish(process, code=130)
        assert f"Resume with: nascluster resume {name}" in out
        stopped = status(name)
        assert stopped["state"] == "stopped"
        assert least + 6 <= stopped["children"]["finished"] < 60
        least = stopped["children"]["finished"]
        process = nascluster("resume", name, "--on", "local", new_session=True)
    finish(process)
    resumed = status(name)
    assert (resumed["state"], resumed["children"]["finished"]) == ("finished", 60)
    assert select(name, "SELECT count(*), count(DISTINCT completion) FROM children") == [(60, 60)]
