"""Grafana's four dashboards as data. `python deploy/observability/dashboards.py` rewrites the JSON files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "grafana" / "dashboards"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

WIDTH, HEIGHT, STAT_HEIGHT = 8, 8, 4
"""Of a panel, in Grafana's units: 24 make a row."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title, description: what the viewer reads.
        unit: Grafana's name of it.
        series: (expression, legend) of each.
        kind: Grafana's type of panel.
        stacked: the series are parts of a whole.
        repeat: the dashboard's variable for each of whose values there is such a panel.
    """

    title: str
    description: str
    unit: str
    series: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    stacked: bool = False
    repeat: str | None = None

    @property
    def is_stat(self) -> bool:
        """Whether it is one number."""
        return self.kind == "stat"


def stat(title: str, unit: str, expression: str, description: str) -> Panel:
    """Return a panel with a single number for each run."""
    return Panel(
        title=title, unit=unit, series=[(expression, "{{run}}")], description=description, kind="stat"
    )  # fmt: skip


def plot(title: str, unit: str, description: str, *series: tuple[str, str], stacked: bool = False) -> Panel:
    """Return a panel with curves against time."""
    return Panel(title=title, unit=unit, series=series, description=description, stacked=stacked)


def each(variable: str, panel: Panel) -> Panel:
    """Return the panel, repeated for each value of a variable of the dashboard."""
    return replace(panel, repeat=variable)


def metric(name: str, more: str = "") -> str:
    """Return the expression of a metric of the chosen runs."""
    return f'nascluster_{name}{{run=~"$run"{more}}}'


def rate(name: str, more: str = "") -> str:
    """Return the expression of a counter's growth in a second."""
    return f"rate({metric(name, more)}[$__rate_interval])"


def recent(name: str) -> str:
    """Return the growth in a second of a counter over the last 30 minutes, or since the run's start if that is less."""
    age = f"clamp_max(time() - {metric('run_start_timestamp_seconds')}, 1800)"
    return f"(sum by (run) (increase({metric(name)}[30m])) / on (run) {age})"


def share_of_workers(name: str) -> str:
    """Return a counter of seconds as a share of the workers' time lately."""
    return f"{recent(name)} / on (run) (avg_over_time({metric('workers')}[30m]) > 0)"


def quantiles(name: str) -> list[tuple[str, str]]:
    """Return the median and two high quantiles of a histogram, with their legends."""
    buckets = f"sum by (run, le) ({rate(f'{name}_bucket')})"
    return [(f"histogram_quantile({q}, {buckets})", f"p{q * 100:.0f} {{{{run}}}}") for q in (0.5, 0.95, 0.99)]


ENDED = f"({metric('children_finished_total')} + on (run) sum by (run) ({metric('children_failed_total')}))"
PACE = f"({recent('children_finished_total')} + on (run) {recent('children_failed_total')})"
FAULT, PREEMPTED = ', cause!="preempted"', ', cause="preempted"'
LEFT_S = f"({metric('children_max')} - on (run) {ENDED}) / on (run) ({PACE} > 0)"

SEARCH = (
    stat("Best reward", "none", metric("reward_best"), "The highest reward of a child so far."),
    stat("Children ended", "short", ENDED, "Children that finished or failed, in all starts of the run."),
    stat("Progress", "percentunit", f"{ENDED} / on (run) {metric('children_max')}", "Of the children of the search."),
    stat("Children in an hour", "short", f"3600 * {PACE}", "Children that ended in an hour, over the last 30 minutes."),
    stat("Time left", "s", LEFT_S, "To the last child at the pace of the last 30 minutes."),
    stat(
        "Cost left",
        "h",
        f"{metric('workers')} * on (run) {LEFT_S} / 3600",
        "Worker hours to the last child: GPU hours where a worker has a GPU of its own.",
    ),
    plot(
        "Reward",
        "none",
        "Mean of the last 100 children, and the best so far.",
        (metric("reward_recent"), "mean {{run}}"),
        (metric("reward_best"), "best {{run}}"),
    ),
    plot(
        "Distinct architectures",
        "percentunit",
        "Of the last 100 children: 100 % when no two are the same network.",
        (metric("architectures_distinct_ratio"), "{{run}}"),
    ),
    plot(
        "Children now",
        "short",
        "In training, and waiting for a worker.",
        (metric("children_running"), "in training {{run}}"),
        (metric("children_waiting"), "waiting {{run}}"),
        stacked=True,
    ),
    plot(
        "Children in an hour",
        "short",
        "Sampled by the replicas, and finished by the workers; those among them that were stopped early.",
        (f"3600 * {rate('children_sampled_total')}", "sampled {{run}}"),
        (f"3600 * {rate('children_finished_total')}", "finished {{run}}"),
        (f"3600 * {rate('children_stopped_total')}", "stopped early {{run}}"),
    ),
    plot(
        "Children that failed",
        "short",
        "Given up in an hour, by cause.",
        (f"3600 * {rate('children_failed_total')}", "{{cause}} {{run}}"),
        stacked=True,
    ),
    plot(
        "Depth",
        "short",
        "Mean number of operations of the last 100 children's architectures, joins apart: of layers, in a chain.",
        (metric("architecture_nodes"), "{{run}}"),
    ),
    plot(
        "Batches learnt from",
        "short",
        "In an hour; each is one gradient of a replica.",
        (f"3600 * {rate('batches_learned_total')}", "{{run}}"),
    ),
    plot(
        "Ledger",
        "s",
        "Age of the last heartbeat, sent every second: how far the ledger is behind what there is to record.",
        (metric("ledger_beat_age_seconds"), "{{run}}"),
    ),
    each(
        "figure",
        plot(
            "$figure",
            "none",
            "A figure that the searcher gives with each update; `nascluster searchers NAME` says what it is.",
            (metric("searcher_figure", ', figure=~"$figure"'), "{{run}} {{unit}}"),
        ),
    ),
)

PARAMETER_SERVER = (
    stat("Shards up", "short", f"sum by (run) ({metric('shard_up')})", "Shards that answer."),
    stat(
        "Version skew",
        "short",
        f"max by (run) ({metric('shard_version')}) - min by (run) ({metric('shard_version')})",
        "Steps between the shard that is furthest and the one that is furthest behind.",
    ),
    stat("Parameters", "short", f"sum by (run) ({metric('shard_elements')})", "Numbers on all shards together."),
    stat("Shard starts", "short", f"max by (run) ({metric('shard_incarnation')})", "Of the shard most often started."),
    stat("Clients", "short", f"max by (run) ({metric('shard_clients')})", "Clients that a shard remembers pushes of."),
    stat(
        "Snapshots",
        "bytes",
        f"sum by (run) ({metric('shard_snapshot_bytes')})",
        "Size of the last snapshots of all shards.",
    ),
    plot(
        "Pushes",
        "ops",
        "Acked pushes as the replicas recorded them, and pulls.",
        (rate("pushes_total"), "pushes {{run}}"),
        (rate("pull_seconds_count"), "pulls {{run}}"),
    ),
    plot("Pull latency", "s", "What a replica waited for the parameters.", *quantiles("pull_seconds")),
    plot("Push latency", "s", "What a replica waited for a durable ack.", *quantiles("push_seconds")),
    plot("Staleness", "short", "Versions by which pushes were stale on a shard.", *quantiles("staleness_versions")),
    plot(
        "Versions",
        "short",
        "Optimizer steps of the shards that are first and last; they drift apart when one is away.",
        (f"max by (run) ({metric('shard_version')})", "first {{run}}"),
        (f"min by (run) ({metric('shard_version')})", "last {{run}}"),
    ),
    plot(
        "Pushes on shards",
        "ops",
        "Applied, dropped as too stale, acked again without being applied, and rejected; all shards together.",
        (f"sum by (run) ({rate('shard_pushes_total')})", "applied {{run}}"),
        (f"sum by (run) ({rate('shard_dropped_total')})", "dropped {{run}}"),
        (f"sum by (run) ({rate('shard_duplicates_total')})", "duplicate {{run}}"),
        (f"sum by (run) ({rate('shard_rejected_total')})", "rejected {{run}}"),
    ),
    plot(
        "Snapshot age",
        "s",
        "Since the last snapshot of the shard that has the oldest one. It grows while nothing is pushed.",
        (f"max by (run) ({metric('shard_snapshot_age_seconds')})", "{{run}}"),
    ),
    plot(
        "Snapshot time",
        "s",
        "What the last snapshot took to write and sync, on the slowest shard.",
        (f"max by (run) ({metric('shard_snapshot_write_seconds')})", "{{run}}"),
    ),
    plot(
        "Bytes",
        "Bps",
        "Written as snapshots, and gradients received (4 bytes a number).",
        (
            f"sum by (run) ({rate('shard_snapshots_total')} * on (run, shard) {metric('shard_snapshot_bytes')})",
            "snapshots {{run}}",
        ),
        (
            f"sum by (run) (4 * {rate('shard_pushes_total')} * on (run, shard) {metric('shard_elements')})",
            "gradients {{run}}",
        ),
    ),
)


def _of_weights(panel: Panel) -> Panel:
    """Return the same panel for the shards of the weights that children share."""
    series = [
        (expression.replace("nascluster_shard_", "nascluster_weights_shard_"), legend)
        for expression, legend in panel.series
    ]
    return replace(panel, series=series)


SUPERNET = (
    stat("Steps", "short", metric("supernet_steps_total"), "Steps of training of the shared weights."),
    stat(
        "Score of paths",
        "none",
        metric("supernet_path_metric"),
        "Mean validation accuracy, or perplexity, of the last 100 paths that were scored.",
    ),
    plot(
        "Training loss",
        "none",
        "Of the supernet, the mean of the last 100 children that made steps.",
        (metric("supernet_loss"), "{{run}}"),
    ),
    plot(
        "Training accuracy",
        "percentunit",
        "Of the last 100 children that made steps, on what they trained on.",
        (metric("supernet_accuracy"), "{{run}}"),
    ),
    plot(
        "Score of paths",
        "none",
        "Validation accuracy, or perplexity, of the last 100 paths that were scored.",
        (metric("supernet_path_metric"), "{{run}}"),
    ),
    plot(
        "Calls of workers",
        "ops",
        "Pulls and pushes of shared weights, as the children that ended tell.",
        (rate("weights_pulls_total"), "pulls {{run}}"),
        (rate("weights_pushes_total"), "pushes {{run}}"),
    ),
    plot(
        "Bytes of workers",
        "Bps",
        "Of the tensors pulled and of the gradients pushed, as the children that ended tell.",
        (rate("weights_pulled_bytes_total"), "pulled {{run}}"),
        (rate("weights_pushed_bytes_total"), "pushed {{run}}"),
    ),
    plot(
        "Waiting for the weights",
        "percentunit",
        "Share of the workers' time in pulls and pushes: the larger, the more another shard would help.",
        (share_of_workers("weights_wait_seconds_total"), "{{run}}"),
    ),
    plot(
        "Staleness of steps",
        "short",
        "Versions by which the pushes of a child's steps were stale, the mean of each child.",
        *quantiles("weights_staleness_versions"),
    ),
    plot(
        "Bytes of snapshots",
        "Bps",
        "Written by all shards of the shared weights.",
        (
            f"sum by (run) ({rate('weights_shard_snapshots_total')} * on (run, shard)"
            f" {metric('weights_shard_snapshot_bytes')})",
            "{{run}}",
        ),
    ),
)

SHARED_WEIGHTS = SUPERNET + tuple(
    _of_weights(panel)
    for panel in PARAMETER_SERVER
    if all("nascluster_shard_" in expression for expression, _ in panel.series)
    and panel.title != "Bytes"  # of gradients it knows all elements of a shard, and a step may move few of them
)

WORKERS = (
    stat("Workers", "short", metric("workers"), "Workers that the run has."),
    stat(
        "Busy",
        "percentunit",
        f"{metric('workers_busy')} / on (run) ({metric('workers')} > 0)",
        "Workers that train a child, of all.",
    ),
    stat(
        "Goodput",
        "percentunit",
        share_of_workers("child_seconds_total"),
        "Training time of children that finished, of the workers' time, over the last 30 minutes.",
    ),
    stat("Replicas", "short", metric("replicas"), "Controller replicas that hand children to the workers."),
    stat("Run time", "s", metric("run_seconds"), "How long the run has run, pauses apart."),
    stat(
        "Last child",
        "s",
        f"time() - {metric('last_child_timestamp_seconds')}",
        "Since the last child ended, finished or failed.",
    ),
    plot(
        "Workers busy",
        "short",
        "Workers that train a child, and all there are.",
        (metric("workers_busy"), "busy {{run}}"),
        (metric("workers"), "all {{run}}"),
    ),
    plot(
        "Goodput",
        "percentunit",
        "Of the workers' time: training of children that finished, and attempts that have ended, whatever came of them."
        " Long children come in steps.",
        (
            share_of_workers("child_seconds_total"),
            "useful {{run}}",
        ),
        (
            share_of_workers("attempt_seconds_total"),
            "attempts {{run}}",
        ),
    ),
    plot("Queue wait", "s", "From when a child was sampled to its first attempt.", *quantiles("queue_wait_seconds")),
    plot(
        "Attempts begun",
        "short",
        "In an hour.",
        (f"3600 * {rate('attempts_started_total')}", "{{run}}"),
    ),
    plot(
        "Attempts ended",
        "short",
        "In an hour, by what that meant: an outcome, another try, lost with its worker or its run, or never begun.",
        (f"3600 * {rate('attempts_ended_total')}", "{{verdict}} {{run}}"),
        stacked=True,
    ),
    plot(
        "Attempts that failed",
        "short",
        "In an hour, by cause, preemptions apart.",
        (f"3600 * {rate('attempts_failed_total', FAULT)}", "{{cause}} {{run}}"),
        stacked=True,
    ),
    plot(
        "Preemptions",
        "short",
        "Attempts in an hour whose machine was taken away; their children are trained again.",
        (f"3600 * {rate('attempts_failed_total', PREEMPTED)}", "{{run}}"),
    ),
    plot("Seconds of an epoch", "s", "The mean of each child that trained one.", *quantiles("epoch_seconds")),
    plot(
        "GPU memory of a child",
        "bytes",
        "The most that was in use at one time, of children on GPUs; what a node's GPUs hold now is on Ray's dashboard.",
        *quantiles("child_gpu_bytes"),
    ),
)

DASHBOARDS = {
    "search": ("Search", SEARCH),
    "parameter-server": ("Parameter server", PARAMETER_SERVER),
    "shared-weights": ("Shared weights", SHARED_WEIGHTS),
    "workers": ("Workers", WORKERS),
}


def dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """Return Grafana's JSON of one dashboard: single numbers in one row, plots three to a row below."""
    stats, plots = [p for p in panels if p.is_stat], [p for p in panels if not p.is_stat]
    width = 24 // len(stats)
    placed = [(p, {"x": i * width, "y": 0, "w": width, "h": STAT_HEIGHT}) for i, p in enumerate(stats)]
    for i, p in enumerate(plots):
        row, column = divmod(i, 24 // WIDTH)
        placed.append((p, {"x": column * WIDTH, "y": STAT_HEIGHT + row * HEIGHT, "w": WIDTH, "h": HEIGHT}))
    return {
        "uid": f"nascluster-{name}",
        "title": title,
        "tags": ["nascluster"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {"type": "dashboards", "title": "nascluster", "tags": ["nascluster"], "asDropdown": False, "keepTime": True,
             "includeVars": True},
            {"type": "link", "title": "Ray (nodes, GPUs)", "url": "http://127.0.0.1:8265", "targetBlank": True,
             "tooltip": "Ray's own dashboard, where the run has a Ray with one"},
        ],
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
            {"name": "run", "label": "Run", "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
             "query": {"query": "label_values(nascluster_run_seconds, run)", "refId": "run"},
             "definition": "label_values(nascluster_run_seconds, run)",
             "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}},
            *([_figures()] if any(panel.repeat for panel in panels) else []),
        ]},
        "panels": [_panel(number, panel, place) for number, (panel, place) in enumerate(placed, start=1)],
    }  # fmt: skip


def _figures() -> dict[str, Any]:
    """Return the variable whose values are the figures of the chosen runs' searchers."""
    query = 'label_values(nascluster_searcher_figure{run=~"$run"}, figure)'
    return {
        "name": "figure", "label": "Figure", "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
        "query": {"query": query, "refId": "figure"}, "definition": query,
        "multi": True, "includeAll": True, "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        **({"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 24 // WIDTH} if panel.repeat else {}),
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(panel.series)
        ],
    }


def files() -> dict[str, str]:
    """Return the content of each file by its name."""
    return {
        f"{name}.json": json.dumps(dashboard(name, title, panels), indent=2) + "\n"
        for name, (title, panels) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in files().items():
        (FOLDER / file).write_text(text)
