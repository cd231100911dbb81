"""`nascluster doctor`: each situation has one finding, with a remedy."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli import main as cli
from cluster.doctor.cluster_findings import cluster_findings, demand_findings, node_findings
from cluster.doctor.credential_findings import credentials
from cluster.doctor.finding import Finding, as_json, exit_status, text
from cluster.doctor.run_findings import actor_findings, run_findings
from cluster.placement.cluster_state import ClusterFacts, Demand
from cluster.placement.node_check import NodeReport
from cluster.placement.versions import Versions
from cluster.runners.on_ray.probe_head import Refusal, explain, probe_head
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from cluster.storage.session import Session
from tests.cluster.doctor.cluster_facts import ATTEMPT, CLUSTER, NODES, actor, cluster, run

HERE = Versions(python="3.11", ray="2.60.0", torch="2.13.0", code="aaa")
GPU = {"GPU": 1.0}


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def only(findings: list[Finding], level: str) -> Finding:
    (found,) = [finding for finding in findings if finding.level == level]
    return found


def test_a_healthy_run_has_only_ok_findings() -> None:
    assert set(levels(run_findings(run()))) == {"OK"}


@pytest.mark.parametrize(
    ("changes", "level", "what", "do"),
    [
        ({"state": "failed", "message": "its driver died", "silence_s": 300.0}, "FAIL", "5 min 00 s old", "resume"),
        ({"state": "failed", "message": "disk full"}, "FAIL", "it has failed: disk full", "/runs/demo/error.txt"),
        ({"state": "stopped", "message": "as asked"}, "WARN", "it has stopped: as asked", "resume demo"),
        ({"silence_s": 120.0}, "FAIL", "no heartbeat for 2 min 00 s", "end the driver"),
        ({"stop_requested": True}, "WARN", "a stop was requested: no child is started any more, 1 attempt", "wait"),
        (
            {"open": (), "idle_s": 90.0},
            "FAIL",
            "2 children wait for a worker, and none is in training for 1 min 30 s",
            "workers",
        ),
        ({"requested_workers": 8}, "WARN", "2 of the 8 requested workers are placed", "add nodes"),
        (
            {"seconds_left": 3.2e9, "time_left": "about 101 years left", "max_children": 12_800},
            "WARN",
            "about 101 years left",
            "launch with fewer children or epochs",
        ),
        ({"causes": {"crashed": 3}}, "WARN", "failed attempts: 3 crashed", "failures demo"),
        (
            {"causes": {"crashed": 9}, "recent_failed": (8, 8), "last_failure": "child 9, crashed: boom"},
            "FAIL",
            "the last 8 children all failed; the last: child 9, crashed: boom",
            "failures demo",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_run_has_a_line(changes: dict[str, object], level: str, what: str, do: str) -> None:
    found = only(run_findings(run(**changes)), level)
    assert what in found.what
    assert do in found.do


def test_a_search_that_ends_in_time_says_when() -> None:
    found = run_findings(run(seconds_left=7200.0, time_left="about 2 h 00 min left"))
    assert set(levels(found)) == {"OK"}
    assert any(finding.what.startswith("about 2 h 00 min left: ") for finding in found)


def test_a_hung_child_is_distinguished_from_a_slow_task() -> None:
    hung = ATTEMPT.__class__(child_id=9, number=1, worker="worker-3@10.0.0.2/ab:99", seconds=900.0)
    found = only(run_findings(run(open=(hung, ATTEMPT))), "WARN")
    assert "child 9 has been in training for 15 min 00 s on worker-3@10.0.0.2/ab:99; others took 4 s" in found.what
    assert "--child-timeout" in found.do
    assert set(levels(run_findings(run(open=(replace(hung, fused=16),))))) == {"OK"}  # as one, in the time of all
    assert set(levels(run_findings(run(open=(hung,), typical_s=None)))) == {"OK"}  # all may take as long
    assert levels(run_findings(run(open=(hung,) * 9))).count("WARN") == 4


def test_workers_too_large_for_every_node_are_reported_with_their_needs() -> None:
    waiting = [actor(f"worker-{i}", "PENDING_CREATION", needs={"GPU": 4.0}) for i in range(3)]
    found = only(actor_findings(run(), waiting, CLUSTER), "FAIL")
    assert found.what == (
        "3 workers (worker-0, worker-1, worker-2) wait for resources: each needs 4 GPUs,"
        " and the largest node has 2 GPUs"
    )
    assert "--gpus-per-child" in found.do
    grows = only(actor_findings(run(), waiting, cluster(autoscaler=True)), "WARN")
    assert "autoscaler" in grows.do
    busy = [actor("worker-0", "PENDING_CREATION", needs=GPU)]
    assert "all of it is in use" in only(actor_findings(run(), busy, CLUSTER), "WARN").what
    elsewhere = [actor("worker-0", "PENDING_CREATION", needs=GPU, labels={"pool": "!stable"})]
    assert (
        "each needs 1 GPU on a node with pool=!stable" in only(actor_findings(run(), elsewhere, CLUSTER), "WARN").what
    )


def test_a_run_without_workers_is_reported() -> None:
    up = [actor("ledger"), actor("pool")]
    found = only(actor_findings(run(workers=0), up, CLUSTER), "FAIL")
    assert found.what == "no worker has been started: no node has room for one"
    waiting = [*up, actor("worker-0", "PENDING_CREATION", needs=GPU)]
    for output in (actor_findings(run(workers=0), waiting, CLUSTER), actor_findings(run(workers=1), up, CLUSTER)):
        assert found not in output


def test_a_worker_of_a_lost_node_waits_for_resources() -> None:
    gone = [actor(f"worker-{i}", "RESTARTING", restarts=1, address="", needs={"GPU": 4.0}) for i in range(2)]
    found = only(actor_findings(run(), [*gone, actor("pool")], CLUSTER), "FAIL")
    assert found.what.startswith(
        "2 workers (worker-0, worker-1) wait for resources: each needs 4 GPUs, and the largest"
    )
    back = [actor("worker-0", "RESTARTING", restarts=1, needs=GPU)]
    assert "is restarting, for the first time" in only(actor_findings(run(), back, CLUSTER), "WARN").what


def test_dead_actors_are_reported_unless_ended_on_purpose() -> None:
    reason = "cluster.placement.node_check.NodeError: node 10.0.0.2 cannot train: `--data` /d is not a folder"
    dead = [actor(f"worker-{i}", "DEAD", reason=reason) for i in range(2)]
    replaced = actor("ReplicaHost", "DEAD", reason="The actor is dead because it was killed by `ray.kill`.")
    found = actor_findings(run(), [*dead, replaced, actor("pool")], CLUSTER)
    assert only(found, "FAIL").what == f"2 workers (worker-0, worker-1) cannot be started: {reason}"
    assert only(found, "OK").what == "1 actor up: pool"
    assert only(actor_findings(run(), [], CLUSTER), "FAIL").what == "Ray knows no actors of this run"
    assert actor_findings(run(state="stopped"), [], CLUSTER) == []


def test_each_node_of_a_cluster_is_reported() -> None:
    found = cluster_findings(CLUSTER, "2.60.0", "3.11.7")
    assert set(levels(found)) == {"OK"}
    output = "\n".join(map(str, found))
    assert "2 nodes, 12 cores, 2 GPUs; no autoscaler" in output
    assert "node 10.0.0.2: 8 cores, 2 GPUs (A10G), 32.0 GB memory, labels pool=children" in output
    assert "Ray refuses" in only(cluster_findings(CLUSTER, "2.48.0", "3.11.7"), "FAIL").do
    assert "10.0.0.9" in only(cluster_findings(cluster(dead=("10.0.0.9",)), "2.60.0", "3.11.7"), "WARN").what


def test_unmet_demands_are_reported() -> None:
    assert demand_findings(CLUSTER) == []
    found = demand_findings(cluster(demands=(Demand(needs={"GPU": 8.0, "CPU": 1.0}, count=2),)))
    assert only(found, "FAIL").what == (
        "2 of Ray's tasks or actors wait for resources: each needs 8 GPUs and 1 core,"
        " and the largest node has 2 GPUs and 8 cores"
    )


def test_problems_of_nodes_are_reported() -> None:
    well = NodeReport(versions=HERE, problem="", shm_free=2**40, disk_free=2**40)
    assert levels(node_findings(NODES, {"1": well, "2": well}, HERE, True)) == ["OK"]
    assert levels(node_findings(NODES, {"1": well, "2": "has left meanwhile"}, HERE, True)) == ["WARN"]
    bad = NodeReport(versions=HERE, problem="no data", shm_free=64 * 2**20, disk_free=2**20)
    found = node_findings(NODES, {"1": "does not answer", "2": bad}, HERE, True)
    assert [str(f).split("  ->")[0] for f in found] == [
        "FAIL  node 10.0.0.1 does not answer",
        "FAIL  node 10.0.0.2: no data",
        "WARN  node 10.0.0.2 has 64 MB free in /dev/shm",
        "WARN  node 10.0.0.2 has 1 MB free where Ray keeps its files",
    ]


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        ({}, {}, [("OK", "generates one"), ("OK", "TLS is off")]),
        ({"RAY_AUTH_MODE": "token"}, {}, [("FAIL", "there is no token"), ("OK", "")]),
        ({"RAY_AUTH_MODE": "token"}, {".ray/auth_token": "t"}, [("OK", "/.ray/auth_token, fingerprint "), ("OK", "")]),
        ({"RAY_AUTH_TOKEN": "t", "RAY_AUTH_TOKEN_PATH": "gone"}, {}, [("OK", "from RAY_AUTH_TOKEN"), ("OK", "")]),
        ({"RAY_AUTH_TOKEN": " "}, {}, [("FAIL", "got only blanks"), ("OK", "")]),
        (
            {"RAY_AUTH_TOKEN_PATH": "gone"},
            {".ray/auth_token": "t"},
            [("FAIL", "RAY_AUTH_TOKEN_PATH must name a file"), ("OK", "")],
        ),
        ({"RAY_AUTH_MODE": "tokens"}, {}, [("FAIL", "'tokens'"), ("OK", "")]),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "t"}, {}, [("WARN", "is ignored"), ("OK", "")]),
        ({"RAY_USE_TLS": "1"}, {}, [("OK", ""), ("FAIL", "RAY_TLS_SERVER_CERT must name a PEM file")]),
        ({"RAY_TLS_CA_CERT": "ca"}, {}, [("OK", ""), ("WARN", "nothing is encrypted")]),
    ],
)
def test_tokens_and_certificates(
    tmp_path: Path, environment: dict[str, str], files: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = credentials(environment | {"HOME": str(tmp_path)})
    assert levels(found) == [level for level, _ in expected]
    for finding, (_, words) in zip(found, expected, strict=True):
        assert words in finding.what


def test_findings_are_one_line_each_and_set_the_exit_status() -> None:
    sections = [("Here", [Finding("OK", "fine"), Finding("WARN", "odd", "look")])]
    assert text(sections) == "Here\n  OK    fine\n  WARN  odd  ->  look\n\nNo problem found; 1 warning."
    assert exit_status(sections) == 0
    worse = [*sections, ("There", [Finding("FAIL", "broken", "mend it")])]
    assert text(worse).endswith("  FAIL  broken  ->  mend it\n\n1 problem: broken  ->  mend it")
    assert exit_status(worse) == 1
    output = json.loads(as_json(worse))
    assert output["well"] is False
    assert output["findings"][-1] == {"section": "There", "level": "FAIL", "what": "broken", "do": "mend it"}


def test_facts_survive_json() -> None:
    facts = cluster(actors=(actor("pool", needs=GPU),), demands=(Demand(needs=GPU, count=2),), dead=("10.0.0.9",))
    assert ClusterFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_errors_of_the_probe_process_are_explained() -> None:
    refused = explain("AuthenticationError: RPC error: InvalidAuthToken: ...", "", {})
    assert "RAY_AUTH_TOKEN_PATH" in refused.do
    assert refused.reason == "it requires a token, and there is none here"
    refused = explain("AuthenticationError: RPC error: InvalidAuthToken: ...", "", {"RAY_AUTH_MODE": "disabled"})
    assert refused.reason == "it requires a token, and RAY_AUTH_MODE is disabled here, so that none is sent"
    assert refused.do == "unset RAY_AUTH_MODE or set it to token"
    crash = "Check failed: Token authentication is enabled but Ray couldn't find an authentication token. ..."
    assert explain("", crash, {"RAY_AUTH_MODE": "token"}).reason == "RAY_AUTH_MODE is token, but there is no token here"
    assert explain("RpcError: out of luck\n", "", {}).reason == "RpcError: out of luck"


def test_an_unreachable_address_times_out() -> None:
    began = time.monotonic()
    answer = probe_head("127.0.0.1:1", 3.0)
    assert isinstance(answer, Refusal)
    assert answer.reason == "it does not answer in 3 s"
    assert time.monotonic() - began < 10


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    return tmp_path


def doctor(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.run(["doctor", *arguments])
    out, err = capfd.readouterr()
    assert err == ""
    return code, out


def test_without_a_run_and_without_ray_no_problem_is_found(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capfd)
    assert code == 0, out
    assert "a launch starts its own Ray" in out


def test_an_unreachable_ray_address_is_a_problem(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, out = doctor(capfd)
    assert code == 1
    assert "FAIL  RAY_ADDRESS is '127.0.0.1:1', but no Ray cluster answers there" in out


def launch(*flags: str) -> RunFolder:
    arguments = ["launch", "synthetic", "--name", "demo", "--local", "--max-children", "8", *flags]
    assert cli.run(arguments) in (0, 1)
    return run_folder("~/nascluster_runs", "demo")


def test_a_finished_local_run_is_well_and_needs_no_ray(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launch()
    capfd.readouterr()
    code, out = doctor(capfd, "demo")
    assert code == 0, out
    assert "  OK    it has finished\n" in out
    assert "  OK    children: 8 finished, 0 failed, 0 wait, 0 to go of 8\n" in out
    assert "needs no Ray" in out


def test_a_run_of_failures_reports_their_causes(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launch("--child-faults", "diverged=1")
    capfd.readouterr()
    code, out = doctor(capfd, "demo", "--json")
    assert code == 1
    (bad,) = [f for f in json.loads(out)["findings"] if f["level"] == "FAIL"]
    assert bad["what"].startswith("the last 8 children all failed; the last: child")
    assert bad["do"] == "`nascluster failures demo`"


def test_a_killed_driver_is_reported_with_the_way_to_resume(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["launch", "synthetic", "--name", "demo", "--local", "--child-seconds", "3"]
    root = Path(__file__).parents[3]
    driver = subprocess.Popen([sys.executable, "-m", "cluster", *command], cwd=root, stdout=subprocess.DEVNULL)
    try:
        wait_for_a_child(home / "nascluster_runs/demo/ledger.sqlite")
        code, out = doctor(capfd, "demo")
        assert code == 0, out
        assert "it is running" in out
        assert "in training for longest: child" in out
    finally:
        driver.kill()
        driver.wait()
    code, out = doctor(capfd, "demo")
    assert code == 1
    assert "FAIL  its driver died" in out
    assert out.rstrip().endswith("->  `nascluster resume demo`")


def wait_for_a_child(path: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists():
            db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
            try:
                ended, running = db.execute(
                    "SELECT count(ended_at), count(*) - count(ended_at) FROM attempts"
                ).fetchone()
                if ended and running:
                    return
            except sqlite3.OperationalError:
                pass  # it is being made
            finally:
                db.close()
        time.sleep(0.1)
    raise AssertionError("no child has ended while another was in training")


def test_a_hung_driver_is_distinguished_from_a_dead_one(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = launch()
    now = time.time()
    ledger = Ledger(folder.ledger, 0, 8, clock=lambda: now - 300)
    ledger.begin(workers=1)
    ledger.close()
    capfd.readouterr()
    with folder.held():
        code, out = doctor(capfd, "demo")
    assert code == 1
    assert "FAIL  its driver is alive but has sent no heartbeat for 5 min" in out


def test_a_run_driven_by_another_machine_is_not_judged_by_this_ones_ray(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = launch()
    config = json.loads(folder.config.read_text())
    folder.config.write_text(json.dumps(config | {"local": False}))
    ledger = Ledger(folder.ledger, 0, 8)
    ledger.begin(workers=1)
    ledger.close()
    capfd.readouterr()
    with folder.held():
        code, out = doctor(capfd, "demo")
        assert code == 0, out
        assert "WARN  only the driver's machine knows the address of the run's Ray" in out
        Session(address="127.0.0.1:1", job="01000000").write(folder)
        code, out = doctor(capfd, "demo")
        assert code == 1
        assert "only the driver's machine knows" not in out
        assert "Ray at 127.0.0.1:1, where the run is" in out


def test_missing_data_is_reported(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = launch()
    config = json.loads(folder.config.read_text())
    config["task"] |= {"task": "fashion-mnist", "data": str(home / "gone")}
    folder.config.write_text(json.dumps(config))
    capfd.readouterr()
    code, out = doctor(capfd, "demo")
    assert code == 1
    assert f"FAIL  `--data` {home}/gone is not a folder" in out


@pytest.mark.parametrize("data", ["gone", "file://{home}/store"])
def test_doctor_downloads_nothing(home: Path, capfd: pytest.CaptureFixture[str], data: str) -> None:
    folder = launch()
    (home / "store").mkdir()
    (home / "store" / "image").write_text("data")
    config = json.loads(folder.config.read_text())
    download = "://" not in data
    config["task"] |= {"task": "fashion-mnist", "download": download}
    config["task"]["data"] = str(home / data) if download else data.format(home=home)
    folder.config.write_text(json.dumps(config))
    before = {path for path in home.rglob("*") if "nascluster_runs" not in path.parts}
    capfd.readouterr()
    code, out = doctor(capfd, "demo")
    assert code == int(download)
    assert ("is not a folder" in out) == download
    assert {path for path in home.rglob("*") if "nascluster_runs" not in path.parts} == before


def test_an_unknown_run_is_bad_input(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "nobody"]) == 2
    assert "no run named 'nobody'" in capfd.readouterr().err


def test_the_address_of_a_runs_ray_is_stored_in_its_folder(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "demo")
    os.mkdir(folder.path)
    assert Session.read(folder) is None
    session = Session(address="10.0.0.1:6379", job="01000000")
    session.write(folder)
    assert Session.read(folder) == session
    folder.session.write_text("{")
    assert Session.read(folder) is None
