"""The endpoint of a run: served on loopback, announced, and gone with the run."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli import main as cli
from cluster.config.metrics_options import MetricsOptions
from cluster.monitoring.metrics import exporter as module
from cluster.monitoring.metrics.exporter import Exporter, MetricsError, RunCollector, exporting
from cluster.storage.find_run import run_folder
from cluster.storage.run_folder import RunFolder
from ps.errors import StoreUnavailable
from ps.status import ShardStatus
from tests.cluster.monitoring.metrics.histories import CONFIG, History, shard_status
from tests.waiting import until

FREE = MetricsOptions(metrics_port=0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = run_folder(tmp_path, "demo")
    folder.create(CONFIG)
    return folder


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with exporting(FREE) as exporter:
        yield exporter


def scrape(exporter: Exporter) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{exporter.target}/metrics", timeout=10) as reply:
        lines = [line for line in reply.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_of_the_ledger_are_served_on_loopback(folder: RunFolder, exporter: Exporter) -> None:
    assert scrape(exporter) == {}
    history = History(folder.ledger)
    history.ledger.begin(workers=2)
    history.sample([(1, 1, 1)] * 3)
    with exporter.announced(folder, CONFIG):
        assert exporter.target.startswith("127.0.0.1:")
        assert scrape(exporter)['nascluster_children_sampled_total{run="demo"}'] == 3


def test_a_port_in_use_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsError, match=rf"`metrics_port` {port} of 127.0.0.1 \(Address already in use\)"):
            Exporter(MetricsOptions(metrics_port=port))


def test_it_is_announced_while_it_is_served(folder: RunFolder, tmp_path: Path) -> None:
    also = tmp_path / "ray_sd.json"
    files = [folder.path / "metrics_sd.json", tmp_path / ".metrics" / "demo.json", also]
    with exporting(MetricsOptions(metrics_port=0, metrics_file_sd=str(also))) as exporter:
        with exporter.announced(folder, CONFIG):
            for file in files:
                labels = {
                    "job": "nascluster",
                    "search": "demo",
                }  # `up` has no label `run`, and the alert names the search
                assert json.loads(file.read_text()) == [{"targets": [exporter.target], "labels": labels}]
        assert not [file for file in files if file.exists()]
    assert not list(tmp_path.glob("**/.*.json.*"))


def test_missing_metrics_file_directory_is_reported_before_serving(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match="must be in an existing folder"):
        Exporter(MetricsOptions(metrics_port=0, metrics_file_sd=str(tmp_path / "no" / "sd.json")))


def test_all_interfaces_are_announced_by_the_machine_s_name() -> None:
    with exporting(MetricsOptions(metrics_port=0, metrics_host="0.0.0.0")) as exporter:
        assert exporter.target.rpartition(":")[0] == socket.gethostname()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics_port": 70_000}, "between 0 and 65535, got 70000"),
        ({"metrics_host": ""}, "`metrics_host`"),
        ({"metrics_file_sd": "sd.txt"}, "must end in .json"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetricsOptions(**options)  # pyright: ignore[reportArgumentType]


def test_one_read_serves_all_scrapes_within_a_second(folder: RunFolder) -> None:
    now = 1000.0
    history = History(folder.ledger)
    history.ledger.begin(workers=2)
    collector = RunCollector(folder, CONFIG, lambda: now)

    def sampled() -> float:
        return next(f for f in collector.collect() if f.name == "nascluster_children_sampled").samples[0].value

    assert sampled() == 0
    history.sample([(1, 1, 1)])
    now += 0.9
    assert sampled() == 0
    now += 0.2
    assert sampled() == 1


def test_an_unreadable_ledger_is_reported_and_the_last_values_stay(folder: RunFolder) -> None:
    now = 1000.0
    collector = RunCollector(folder, CONFIG, lambda: now)
    history = History(folder.ledger)
    history.ledger.begin(workers=2)
    history.sample([(1, 1, 1)])
    history.ledger.close()

    def look() -> dict[str, float]:
        return {f.name: f.samples[0].value for f in collector.collect() if f.samples}

    assert look()["nascluster_ledger_readable"] == 1
    good = folder.ledger.read_bytes()
    folder.ledger.write_bytes(b"this is no database, for a moment")
    now += 2
    found = look()
    assert (found["nascluster_ledger_readable"], found["nascluster_children_sampled"]) == (0, 1)
    folder.ledger.write_bytes(good)
    now += 2
    assert look()["nascluster_ledger_readable"] == 1


def test_an_unavailable_shard_is_reported_as_down(
    folder: RunFolder, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_POLL_INTERVAL_S", 0.01)
    History(folder.ledger).ledger.begin(workers=1)
    away = {1}

    def ask(index: int) -> ShardStatus:
        if index in away:
            raise StoreUnavailable(f"shard {index}")
        return shard_status(index)

    def up() -> list[float]:
        return [v for name, v in scrape(exporter).items() if name.startswith("nascluster_shard_up{")]

    with exporter.announced(folder, CONFIG):
        with exporter.polling(3, ask):
            until(lambda: up() == [1, 0, 1], timeout_s=10)
            away.clear()
            until(lambda: up() == [1, 1, 1], timeout_s=10)
            with exporter.polling(1, shard_status, "weights"):
                until(lambda: any("nascluster_weights_shard_up" in name for name in scrape(exporter)), timeout_s=10)
                assert up() == [1, 1, 1]
            assert not any("nascluster_weights" in name for name in scrape(exporter))
        assert up() == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_a_port_in_use_ends_a_launch_before_anything_is_written(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.run(["launch", "synthetic", "--local", "--max-children", "8", "--metrics-port", port]) == 2
    said = capfd.readouterr()
    assert said.err.startswith(f"nascluster: metrics cannot be served on `metrics_port` {port}")
    assert said.err.count("\n") == 1
    assert list(home.iterdir()) == []


def test_a_launch_says_where_and_leaves_no_announcement(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launch = ["launch", "synthetic", "--name", "demo", "--local", "--max-children", "8"]
    assert cli.run([*launch, "--metrics-port", "0"]) == 0
    assert "Metrics for Prometheus at http://127.0.0.1:" in capfd.readouterr().out
    assert not list(home.glob("nascluster_runs/*/metrics_sd.json"))
    assert not list(home.glob("nascluster_runs/.metrics/*.json"))


def test_without_a_port_nothing_is_served(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["launch", "synthetic", "--name", "demo", "--local", "--max-children", "8"]) == 0
    assert "Metrics" not in capfd.readouterr().out
    assert not (home / "nascluster_runs/.metrics").exists()
