"""A real Prometheus, with the configuration that we ship, reads two live runs: one has weights that children share."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.searches import nascluster
from tests.deploy.test_observability import DASHBOARDS, EXPORTED, OBSERVABILITY
from tests.ports import free_port

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus (apt-get install prometheus) to scrape a run"
)

WITHIN_S = 60

Query = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of runs that go on as long as they are needed; the children of one fail now and then."""
    storage = tmp_path_factory.mktemp("runs")
    common = ["--local", "--storage-path", storage, "--metrics-port", 0, "--max-children", 100_000]
    searches = [
        nascluster(
            "launch", "synthetic", "--name", "live", *common, "--child-seconds", 0.05, "--child-faults", "diverged=0.2",
            "--importance-clip", 1,
        ),
        nascluster(
            "launch", "digits", "--name", "shared", *common, "--searcher", "enas", "--search-epochs", 5_000,
            "--steps-per-epoch", 8, "--steps-per-child", 8, "--policy-children", 2, "--space", "enas-macro",
            "--layers", 3, "--filters", 4, "--weights-snapshot", "1s",
        ),
    ]  # fmt: skip
    yield storage
    for search in searches:
        search.terminate()
    for search in searches:
        out, err = search.communicate(timeout=60)
        assert (search.returncode, err) == (130, ""), out
    assert not list((storage / ".metrics").glob("*.json"))


@pytest.fixture(scope="module")
def query(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(OBSERVABILITY / "alerts.yml", folder)
    shipped = (OBSERVABILITY / "prometheus.yml").read_text()
    config = shipped.replace("scrape_interval: 10s", "scrape_interval: 1s").replace("30s", "1s")
    (folder / "prometheus.yml").write_text(config)
    (folder / "runs").symlink_to(runs / ".metrics")
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip

    def ask(expression: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except urllib.error.URLError:  # it is being started
            return []

    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as prometheus:
        yield ask
        prometheus.terminate()


def until_all(query: Query, expressions: set[str]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while expressions := {e for e in expressions if not query(e)}:
        assert time.monotonic() < deadline, f"no data in {WITHIN_S} s for {sorted(expressions)}"
        time.sleep(0.5)


def test_the_run_is_found_and_up(query: Query) -> None:
    until_all(query, {'count(up{job="nascluster"} == 1) == 2'})
    assert len(query('up{job="nascluster"}')) == 2


def test_every_metric_has_data_of_the_run(query: Query) -> None:
    until_all(query, {f'{name}{{run=~"live|shared"}}' for name in EXPORTED})


def test_every_panel_shows_something(query: Query) -> None:
    expressions = {t["expr"] for board in DASHBOARDS.values() for p in board["panels"] for t in p["targets"]}
    until_all(
        query,
        {
            e.replace("$__rate_interval", "10s").replace("$run", "live|shared").replace("$figure", ".*")
            for e in expressions
        },
    )


def test_what_it_counts_is_what_the_run_does(query: Query) -> None:
    until_all(query, {"nascluster_children_finished_total > 20", "nascluster_children_failed_total > 0"})
    until_all(query, {f'nascluster_shard_version{{shard="{shard}"}} > 0' for shard in (0, 1)})
    of_live = '{run="live"}'
    (share,) = query(
        f"sum(nascluster_children_failed_total{of_live}) / sum(nascluster_attempts_started_total{of_live})"
    )
    assert 0 < float(share["value"][1]) < 0.9


def test_no_alert_of_a_run_that_is_down_or_behind(query: Query) -> None:
    until_all(query, {'up{job="nascluster"} == 1'})
    assert query('ALERTS{alertname!="NasclusterFailures"}') == []
