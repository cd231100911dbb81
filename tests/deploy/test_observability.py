"""Prometheus's and Grafana's files: what they name exists, every rule fires and keeps quiet, every panel parses.

What Prometheus itself has to say is asked of the real one (Debian's `prometheus` package) where it is installed.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.monitoring.metrics.families import families
from tests.cluster.monitoring.metrics.histories import shard_status, shared_snapshot
from tests.deploy.files import DEPLOY, documents

OBSERVABILITY = DEPLOY / "observability"
(RULES,) = documents(OBSERVABILITY / "alerts.yml")
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in OBSERVABILITY.glob("grafana/dashboards/*.json")}
PANELS = [pytest.param(p, id=f"{name}: {p['title']}") for name, d in DASHBOARDS.items() for p in d["panels"]]
STORES = {"policy": [shard_status(0)], "weights": [shard_status(0)]}
EXPORTED = {s.name for f in families("demo", shared_snapshot(), STORES) for s in f.samples}

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="needs promtool (apt-get install prometheus) to check what Prometheus reads",
)


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("dashboards", OBSERVABILITY / "dashboards.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboards"] = module  # where its dataclass looks for its annotations
    spec.loader.exec_module(module)
    return module


def named(expression: str) -> set[str]:
    return set(re.findall(r"nascluster_\w+", expression))


def family(name: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", name)


def lost(ours: Any, read: Any, at: str = "") -> list[str]:
    """Where what was read lacks what we wrote, or has another value."""
    if isinstance(ours, dict) and isinstance(read, dict):
        missing = [f"{at}.{key}" for key in ours if key not in read]
        return missing + [line for key in ours if key in read for line in lost(ours[key], read[key], f"{at}.{key}")]
    if isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        return [line for i, pair in enumerate(zip(ours, read, strict=True)) for line in lost(*pair, f"{at}[{i}]")]
    return [] if ours == read else [at]


def ask(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_grafanas_own_model_of_a_dashboard_has_a_place_for_all_that_is_written(name: str) -> None:
    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARDS[name])))
    # Grafana writes a query variable's definition, too, and shows it in its list; the model leaves it out.
    assert [line for line in lost(DASHBOARDS[name], read) if not line.endswith(".definition")] == []


def test_what_grafana_does_not_know_is_found() -> None:
    register_default_plugins()
    panel = {"type": "timeseries", "title": "a", "fieldConfig": {"defaults": {"units": "s"}, "overrides": []}}
    ours = {"title": "demo", "panels": [panel]}
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(ours)))
    assert lost(ours, read) == [".panels[0].fieldConfig.defaults.units"]


def test_the_dashboards_are_what_their_source_says() -> None:
    there = {path.name: path.read_text() for path in OBSERVABILITY.glob("grafana/dashboards/*")}
    assert there == generator().files(), "run `python deploy/observability/dashboards.py`"


def test_the_four_dashboards_let_one_choose_the_run_and_the_datasource() -> None:
    assert {d["title"] for d in DASHBOARDS.values()} == {"Search", "Parameter server", "Shared weights", "Workers"}
    for board in DASHBOARDS.values():
        figures = ["figure"] if board["title"] == "Search" else []  # of which there is a panel each
        assert [v["name"] for v in board["templating"]["list"]] == ["datasource", "run", *figures]
        assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
        assert any("Ray" in link["title"] for link in board["links"])


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_of_the_chosen_runs(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        metrics = named(target["expr"])
        assert metrics and metrics <= EXPORTED
        assert target["expr"].count('{run=~"$run"') == len(re.findall(r"nascluster_\w+", target["expr"]))


def test_panels_do_not_lie_on_each_other() -> None:
    for board in DASHBOARDS.values():
        cells = [
            (x, y)
            for place in (p["gridPos"] for p in board["panels"])
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert named(rule["expr"]) <= EXPORTED
    assert rule["for"]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description", "runbook"} == set(rule["annotations"])


def test_every_exported_metric_is_used() -> None:
    expressions = [t["expr"] for board in DASHBOARDS.values() for p in board["panels"] for t in p["targets"]]
    used = {family(name) for text in [*expressions, *(r["expr"] for r in ALERTS.values())] for name in named(text)}
    assert {family(name) for name in EXPORTED} - used == set()


def test_everything_listens_on_loopback_and_finds_its_files() -> None:
    (compose,) = documents(OBSERVABILITY / "docker-compose.yml")
    prometheus, grafana = compose["services"]["prometheus"], compose["services"]["grafana"]
    assert "--web.listen-address=127.0.0.1:9090" in prometheus["command"]
    assert grafana["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert all(service["network_mode"] == "host" and "ports" not in service for service in compose["services"].values())
    for service in (prometheus, grafana):
        sources = [volume.split(":")[0] for volume in service["volumes"] if isinstance(volume, str)]
        assert all((OBSERVABILITY / source).exists() for source in sources if source.startswith("."))
    (provider,) = documents(OBSERVABILITY / "grafana/provisioning/dashboards/nascluster.yml")
    assert f"./grafana/dashboards:{provider['providers'][0]['options']['path']}:ro" in grafana["volumes"]
    (source,) = documents(OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yml")
    assert source["datasources"][0]["url"] == "http://127.0.0.1:9090"


@promtool
def test_prometheus_takes_its_configuration_and_its_rules() -> None:
    assert "SUCCESS" in ask("promtool", "check", "config", OBSERVABILITY / "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in ask("promtool", "check", "rules", OBSERVABILITY / "alerts.yml")


@promtool
def test_every_panel_s_expression_parses(tmp_path: Path) -> None:
    expressions = [t["expr"] for board in DASHBOARDS.values() for p in board["panels"] for t in p["targets"]]
    rules = [
        {
            "record": f"panel:{i}",
            "expr": e.replace("$__rate_interval", "1m").replace("$run", ".*").replace("$figure", ".*"),
        }
        for i, e in enumerate(expressions)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in ask("promtool", "check", "rules", file)


RUN = 'run="demo"'
LONG = 120
"""Minutes of each case."""


def staleness(*cumulative: str, of: str = "staleness") -> dict[str, str]:
    bounds = ("5.0", "50.0", "+Inf")
    values = zip(bounds, cumulative, strict=True)
    return {f'nascluster_{of}_versions_bucket{{{RUN},le="{le}"}}': series for le, series in values}


def series(**values: str) -> dict[str, str]:
    return {f"nascluster_{name}{{{RUN}}}": text for name, text in values.items()}


def entropy(values: str) -> dict[str, str]:
    """Return a searcher's figure of the policy's entropy."""
    return {f'nascluster_searcher_figure{{{RUN},figure="entropy",unit="nats"}}': values}


def skip_share(values: str) -> dict[str, str]:
    """Return a searcher's figure of the share of skip connections."""
    return {f'nascluster_searcher_figure{{{RUN},figure="skip_share",unit=""}}': values}


def failing(rate: int, cause: str) -> dict[str, str]:
    return {
        f'nascluster_attempts_failed_total{{{RUN},cause="{cause}"}}': f"0+{rate}x{LONG}",
        f'nascluster_attempts_ended_total{{{RUN},verdict="outcome"}}': f"0+80x{LONG}",
        f'nascluster_attempts_ended_total{{{RUN},verdict="retry"}}': f"0+20x{LONG}",
    }


def shard(**values: str) -> dict[str, str]:
    return {f'nascluster_{name}{{{RUN},shard="3"}}': text for name, text in values.items()}


FIRING = {
    "NasclusterDown": [{'up{job="nascluster",instance="127.0.0.1:8090"}': f"0x{LONG}"}],
    "NasclusterNoChildFinished": [series(children_finished_total=f"7x{LONG}", run_start_timestamp_seconds=f"0x{LONG}")],
    "NasclusterShardDown": [shard(shard_up=f"0x{LONG}")],
    "NasclusterSnapshotOld": [
        shard(shard_snapshot_age_seconds=f"0+60x{LONG}", shard_pushes_total=f"0+5x{LONG}"),
    ],
    "NasclusterWeightsShardDown": [shard(weights_shard_up=f"0x{LONG}")],
    "NasclusterWeightsSnapshotOld": [
        shard(weights_shard_snapshot_age_seconds=f"0+60x{LONG}", weights_shard_pushes_total=f"0+5x{LONG}"),
    ],
    "NasclusterStalenessHigh": [
        staleness(f"0+10x{LONG}", f"0+80x{LONG}", f"0+100x{LONG}") | series(replicas=f"10x{LONG}")
    ],
    "NasclusterWeightsStalenessHigh": [
        staleness(f"0+10x{LONG}", f"0+80x{LONG}", f"0+100x{LONG}", of="weights_staleness")
        | series(workers=f"10x{LONG}"),
    ],
    "NasclusterWorkersIdle": [
        series(workers=f"8x{LONG}", workers_busy=f"3x{LONG}", children_waiting=f"20x{LONG}"),
    ],
    "NasclusterFailures": [failing(20, "out_of_memory")],
    "NasclusterRewardCollapsed": [entropy(f"0.1x{LONG}") | series(architectures_distinct_ratio=f"0.05x{LONG}")],
    "NasclusterStrengthsCollapsed": [skip_share(f"0.2x60 0.75x{LONG - 60}")],
    "NasclusterLedgerBehind": [
        series(ledger_beat_age_seconds=f"0+60x{LONG}", ledger_readable=f"1x{LONG}"),
        series(ledger_beat_age_seconds=f"1x{LONG}", ledger_readable=f"0x{LONG}"),
    ],
}
"""Series in which an alert must fire after two hours."""

QUIET = {
    "NasclusterDown": [{'up{job="nascluster",instance="127.0.0.1:8090"}': f"1x{LONG}"}, {'up{job="ray"}': f"0x{LONG}"}],
    "NasclusterNoChildFinished": [
        series(children_finished_total=f"0+1x{LONG}", run_start_timestamp_seconds=f"0x{LONG}"),
        # It has been resumed just now.
        series(children_finished_total=f"7x{LONG}", run_start_timestamp_seconds=f"{(LONG - 30) * 60}x{LONG}"),
    ],
    "NasclusterShardDown": [
        shard(shard_up=f"1x{LONG}"),
        shard(shard_up=f"1x{LONG - 1} 0"),
        shard(weights_shard_up=f"0x{LONG}"),
    ],
    "NasclusterSnapshotOld": [
        shard(shard_snapshot_age_seconds=f"2x{LONG}", shard_pushes_total=f"0+5x{LONG}"),
        # Nothing is pushed, so that there is nothing to write.
        shard(shard_snapshot_age_seconds=f"0+60x{LONG}", shard_pushes_total=f"5x{LONG}"),
        # An old snapshot of the shared weights is another alert.
        shard(weights_shard_snapshot_age_seconds=f"0+60x{LONG}", weights_shard_pushes_total=f"0+5x{LONG}"),
    ],
    "NasclusterWeightsShardDown": [shard(weights_shard_up=f"1x{LONG}"), shard(shard_up=f"0x{LONG}")],
    "NasclusterWeightsSnapshotOld": [
        shard(weights_shard_snapshot_age_seconds=f"60x{LONG}", weights_shard_pushes_total=f"0+5x{LONG}"),
        shard(weights_shard_snapshot_age_seconds=f"0+60x{LONG}", weights_shard_pushes_total=f"5x{LONG}"),
        shard(shard_snapshot_age_seconds=f"0+60x{LONG}", shard_pushes_total=f"0+5x{LONG}"),
    ],
    "NasclusterStalenessHigh": [
        staleness(f"0+96x{LONG}", f"0+100x{LONG}", f"0+100x{LONG}") | series(replicas=f"10x{LONG}"),
        staleness(f"0+10x{LONG}", f"0+80x{LONG}", f"0+100x{LONG}") | series(replicas=f"100x{LONG}"),
    ],
    "NasclusterWeightsStalenessHigh": [
        staleness(f"0+10x{LONG}", f"0+80x{LONG}", f"0+100x{LONG}", of="weights_staleness")
        | series(workers=f"100x{LONG}"),
        staleness(f"0+10x{LONG}", f"0+80x{LONG}", f"0+100x{LONG}") | series(workers=f"10x{LONG}"),
    ],
    "NasclusterWorkersIdle": [
        series(workers=f"8x{LONG}", workers_busy=f"7x{LONG}", children_waiting=f"20x{LONG}"),
        series(workers=f"8x{LONG}", workers_busy=f"0x{LONG}", children_waiting=f"0x{LONG}"),
    ],
    "NasclusterFailures": [failing(5, "out_of_memory"), failing(50, "preempted")],
    "NasclusterRewardCollapsed": [
        entropy(f"9x{LONG}") | series(architectures_distinct_ratio=f"0.05x{LONG}"),
        entropy(f"0.1x{LONG}") | series(architectures_distinct_ratio=f"0.9x{LONG}"),
    ],
    "NasclusterStrengthsCollapsed": [
        skip_share(f"0.4x{LONG}"),
        skip_share(f"0.2x{LONG - 5} 0.75x5"),
        entropy(f"0.9x{LONG}"),
    ],
    "NasclusterLedgerBehind": [series(ledger_beat_age_seconds=f"1x{LONG}", ledger_readable=f"1x{LONG}")],
}
"""Series in which it must not."""


def case(name: str, given: dict[str, str], *, fires: bool) -> dict[str, Any]:
    fired = f'count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}})'
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if fires else []
    return {
        "name": f"{name} {'fires' if fires else 'keeps quiet'}",
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in given.items()],
        "promql_expr_test": [{"expr": fired, "eval_time": f"{LONG}m", "exp_samples": expected}],
    }


@promtool
def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    assert FIRING.keys() == QUIET.keys() == ALERTS.keys()
    cases = [case(name, given, fires=True) for name, them in FIRING.items() for given in them]
    cases += [case(name, given, fires=False) for name, them in QUIET.items() for given in them]
    file = tmp_path / "alerts_test.yml"
    rules = [str(OBSERVABILITY / "alerts.yml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1m", "tests": cases}))
    assert "SUCCESS" in ask("promtool", "test", "rules", file)


@promtool
def test_an_alert_names_the_run_and_the_cause(tmp_path: Path) -> None:
    fires = case("NasclusterFailures", failing(20, "out_of_memory"), fires=True)
    annotations = ALERTS["NasclusterFailures"]["annotations"]
    told = {
        "summary": "20% of the attempts of demo fail: out_of_memory",
        "description": annotations["description"],
        "runbook": annotations["runbook"].replace("{{ $labels.run }}", "demo"),
    }
    labels = {"run": "demo", "cause": "out_of_memory", "severity": "warning"}
    fires["alert_rule_test"] = [
        {
            "eval_time": f"{LONG}m",
            "alertname": "NasclusterFailures",
            "exp_alerts": [{"exp_labels": labels, "exp_annotations": told}],
        }
    ]
    file = tmp_path / "alerts_test.yml"
    rules = [str(OBSERVABILITY / "alerts.yml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1m", "tests": [fires]}))
    ask("promtool", "test", "rules", file)
