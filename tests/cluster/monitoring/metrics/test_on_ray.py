"""The metrics of a run whose parts are actors: the shards answer over gRPC, and no start takes a count back."""

import json
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.cluster.searches import Process, finish, nascluster, run_folder

pytestmark = pytest.mark.xdist_group("ray")

SHARDS_UP = ['nascluster_shard_up{run="measured",shard="0"}', 'nascluster_shard_up{run="measured",shard="1"}']
FINISHED = 'nascluster_children_finished_total{run="measured"}'
PUSHES = 'nascluster_shard_pushes_total{run="measured",shard="1"}'


def scrape(announced: Path) -> dict[str, float]:
    ((target,),) = [group["targets"] for group in json.loads(announced.read_text())]
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as reply:
        lines = [line for line in reply.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def measured_until(run: Process, **least: float) -> dict[str, float]:
    """The metrics, once each of these is at least so large."""
    announced = run_folder("measured") / "metrics_sd.json"
    wanted = {"finished": FINISHED, "pushes": PUSHES}
    deadline = time.monotonic() + 90
    while True:
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()
        found = scrape(announced) if announced.exists() else {}
        if all(found.get(wanted[name], -1) >= value for name, value in least.items()):
            return found
        time.sleep(0.2)


def test_shards_answer_and_a_resume_takes_nothing_back(shared_ray: str) -> None:
    flags = ["--max-children", 10_000, "--child-seconds", 0.1, "--workers", 2]
    run = nascluster("launch", "synthetic", "--name", "measured", *flags, "--metrics-port", 0, address=shared_ray)
    before = measured_until(run, finished=8, pushes=2)
    assert [before[name] for name in SHARDS_UP] == [1, 1]
    assert before['nascluster_workers{run="measured"}'] == 2
    assert before['nascluster_shard_snapshot_bytes{run="measured",shard="0"}'] > 0
    assert before['nascluster_ledger_beat_age_seconds{run="measured"}'] < 10
    run.send_signal(signal.SIGINT)
    assert "Metrics for Prometheus at http://127.0.0.1:" in finish(run, code=130)
    assert not (run_folder("measured") / "metrics_sd.json").exists()

    run = nascluster("resume", "measured", "--on", "local", "--metrics-port", 0)
    after = measured_until(run, finished=before[FINISHED] + 2, pushes=before[PUSHES])
    lost = [
        name for name in before if name.split("{")[0].endswith(("_total", "_bucket")) and after[name] < before[name]
    ]
    since_the_start = ("nascluster_shard_duplicates", "nascluster_shard_rejected", "nascluster_shard_snapshots")
    assert [name for name in lost if not name.startswith(since_the_start)] == []
    run.send_signal(signal.SIGINT)
    finish(run, code=130)
