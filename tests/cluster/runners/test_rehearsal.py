"""The paper's layout in small, on real Ray: workers that share a process, all children at once, and their death."""

import json
import os
import signal

import pytest

from cluster.runners.on_ray.handles import process_number
from tests.chaos.invariants import check
from tests.cluster.searches import actor_process, finish, nascluster, run_folder, select, wait_for, wait_until
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

SIZES = ["--replicas", "4", "--shards", "3", "--children", "4", "--max-children", "48", "--child-seconds", "1"]

AT_ONCE = """
SELECT max((SELECT count(*) FROM attempts AS b WHERE b.started_at <= a.started_at AND b.ended_at > a.started_at))
FROM attempts AS a
"""


def test_workers_that_share_a_process_train_all_children_at_once_and_outlive_its_death(cluster: str) -> None:
    run = nascluster("launch", "rehearsal", "--name", "rehearsal", *SIZES, address=cluster)
    wait_for("rehearsal", 16)
    workers = [place for (place,) in select("rehearsal", "SELECT DISTINCT worker FROM attempts")]
    processes = {process_number(place) for place in workers}
    assert len(workers) == 16
    assert len(processes) == 1
    os.kill(processes.pop(), signal.SIGKILL)
    out = finish(run)
    assert "48 children finished, 0 failed" in out
    assert select("rehearsal", AT_ONCE) == [(16,)]
    report = check(run_folder("rehearsal"))
    assert (report.children, report.pushes, report.lost, report.duplicated, report.repeated) == (48, 12, 0, 0, 0)
    assert report.attempts > report.children
    latencies = select("rehearsal", "SELECT pull_seconds, push_seconds FROM batches")
    assert all(0 < seconds < 60 for row in latencies for seconds in row)


@LONG
def test_a_process_of_many_workers_ends_on_sigterm_with_its_children_given_back(cluster: str) -> None:
    arguments = ["--name", "told", *SIZES, "--checkpoint-children"]
    run = nascluster("launch", "rehearsal", *arguments, address=cluster)
    wait_until("told", "SELECT 1 FROM attempts WHERE ended_at IS NULL LIMIT 1 OFFSET 8")
    (place,) = select("told", "SELECT worker FROM attempts LIMIT 1")[0]
    os.kill(process_number(place), signal.SIGTERM)
    assert "48 children finished, 0 failed" in finish(run)
    # The first of them that are idle have the process ended, which may be before the last has saved its state.
    assert ("preempted",) in select("told", "SELECT cause FROM attempts")
    assert check(run_folder("told")).repeated == 0


@LONG
def test_streaming_replicas_keep_the_workers_busy_whatever_the_children_take_and_outlive_their_death(
    cluster: str,
) -> None:
    """Eight workers, whose children take a second at the median and up to some seven; with barriers half would be idle.

    The replicas' host is killed on the way, whose replicas go on from what is recorded of their children.
    """
    sizes = ["--replicas", "2", "--shards", "2", "--children", "4", "--max-children", "90", "--epochs", "1"]
    times = ["--child-seconds", "1", "--child-spread", "0.8", "--importance-clip", "1"]
    run = nascluster("launch", "rehearsal", "--name", "stream", "--batching", "stream", *sizes, *times, address=cluster)
    wait_for("stream", 70)
    os.kill(actor_process("stream", "ReplicaHost"), signal.SIGKILL)
    assert "90 children finished, 0 failed" in finish(run)
    report = check(run_folder("stream"))
    assert (report.children, report.attempts, report.lost, report.duplicated, report.repeated) == (90, 90, 0, 0, 0)
    assert select("stream", "SELECT count(*) FROM batches WHERE json_extract(figures, '$.importance_weight') > 0") == [
        (report.pushes,)
    ]
    # From the eighth start, when all workers are up, until the host's death, nearly all the time is spent in training.
    ((begun,),) = select("stream", "SELECT started_at FROM attempts ORDER BY started_at LIMIT 1 OFFSET 7")
    ((killed,),) = select("stream", "SELECT ended_at FROM children WHERE completion = 70")
    attempts = select("stream", "SELECT started_at, seconds FROM attempts JOIN children ON id = child")
    busy = sum(max(0.0, min(killed, at + took) - max(begun, at)) for at, took in attempts)
    assert busy > 0.75 * 8 * (killed - begun)
    slowest = select("stream", "SELECT max(seconds) FROM children")[0][0]
    assert slowest > 3


def test_what_needs_a_process_each_is_refused() -> None:
    for option in ("--child-timeout 5s", "--recycle-after 3", "--child-faults crashed=0.1", "--gpus-per-child 0.5"):
        run = nascluster("launch", "rehearsal", *option.split())
        out, err = run.communicate(timeout=60)
        name = option.split()[0][2:].replace("-", "_")
        assert (run.returncode, out) == (2, "")
        assert (
            f"`workers_per_process` must be 1 with a `{name}`, which needs one process for each worker, got 400" in err
        )
    finish(nascluster("recipes"))
    assert json.loads(finish(nascluster("status", "rehearsal", "--json")))["workers"] == 16
