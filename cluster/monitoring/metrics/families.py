"""Prometheus metric families of a snapshot: a pure function. Defines every metric's name, unit and meaning."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from cluster.monitoring.metrics.histogram import Histogram
from cluster.monitoring.metrics.snapshot import WINDOW, MetricsSnapshot, SupernetCounts
from cluster.search.records import StoreName
from ps.status import ShardStatus

Shards = Sequence[ShardStatus | None]
"""The shards' statuses, in the order of their indices; `None` for a shard that does not answer."""

_GAUGES: tuple[tuple[str, str, Callable[[MetricsSnapshot], float | None]], ...] = (
    ("ledger_readable", "1 if the ledger can be read, else 0.", lambda f: f.readable),
    ("ledger_beat_age_seconds", "Age of the last heartbeat in the ledger.", lambda f: f.heartbeat_age_s),
    ("run_start_timestamp_seconds", "Unix time of this start of the run.", lambda f: f.started_at),
    ("run_seconds", "How long the run has run, without pauses.", lambda f: f.seconds),
    (
        "last_child_timestamp_seconds",
        "Unix time of the last child's end, or of this start if later.",
        lambda f: f.last_child_at,
    ),
    ("children_max", "Children after which the search ends.", lambda f: f.children_max),
    ("children_running", "Children being trained.", lambda f: f.running),
    ("children_waiting", "Children sampled and waiting for a worker.", lambda f: f.waiting),
    ("replicas", "Controller replicas.", lambda f: f.replicas),
    ("workers", "Workers of the run.", lambda f: f.workers),
    ("workers_busy", "Workers that are training a child.", lambda f: f.busy),
    ("reward_recent", f"Mean reward of the last {WINDOW} children.", lambda f: f.recent_reward),
    ("reward_best", "Highest reward so far.", lambda f: f.best_reward),
    (
        "architectures_distinct_ratio",
        f"Fraction of distinct architectures among the last {WINDOW} children.",
        lambda f: f.distinct_ratio,
    ),
    ("architecture_nodes", f"Mean number of nodes, without joins, of the last {WINDOW} children.", lambda f: f.depth),
)

_COUNTERS: tuple[tuple[str, str, Callable[[MetricsSnapshot], float]], ...] = (
    ("children_sampled", "Children sampled and recorded.", lambda f: f.sampled),
    ("children_finished", "Children that ended with a metric.", lambda f: f.finished),
    ("children_stopped", "Children that were stopped early; they finished.", lambda f: f.stopped),
    ("child_seconds", "Training time of the children that finished.", lambda f: f.child_seconds),
    ("attempts_started", "Attempts started at training children.", lambda f: f.attempts),
    ("attempt_seconds", "Worker time of attempts that have ended.", lambda f: f.attempt_seconds),
    ("batches_learned", "Batches that the searcher learned from.", lambda f: f.learned),
    ("pushes", "Pushes acknowledged, with or without gradients, as recorded by the replicas.", lambda f: f.pushed),
)

_HISTOGRAMS: tuple[tuple[str, str, Callable[[MetricsSnapshot], Histogram]], ...] = (
    ("queue_wait_seconds", "Time between a child's sampling and its first attempt.", lambda f: f.queue_wait),
    ("epoch_seconds", "Mean time per epoch of each child.", lambda f: f.epoch),
    ("child_gpu_bytes", "Peak GPU memory of each child.", lambda f: f.gpu_memory),
    ("pull_seconds", "Time that a replica waited for a pull.", lambda f: f.pull),
    ("push_seconds", "Time that a replica waited for a push's acknowledgement.", lambda f: f.push),
    ("staleness_versions", "Staleness of each push on each shard, in versions.", lambda f: f.staleness),
)

_LABELLED_COUNTERS: tuple[tuple[str, str, str, Callable[[MetricsSnapshot], Mapping[str, int]]], ...] = (
    ("children_failed", "Children that ended without a metric.", "cause", lambda f: f.failed),
    ("attempts_ended", "Attempts that have ended, by verdict.", "verdict", lambda f: f.attempts_ended),
    ("attempts_failed", "Attempts that failed, including preempted ones.", "cause", lambda f: f.attempts_failed),
)

_SUPERNET_GAUGES: tuple[tuple[str, str, Callable[[SupernetCounts], float | None]], ...] = (
    ("supernet_loss", f"Mean training loss of the last {WINDOW} children that made steps.", lambda c: c.loss),
    (
        "supernet_accuracy",
        f"Mean training accuracy of the last {WINDOW} children that made steps.",
        lambda c: c.accuracy,
    ),
    (
        "supernet_path_metric",
        f"Mean validation accuracy, or perplexity, of the last {WINDOW} paths that were scored.",
        lambda c: c.path_metric,
    ),
)

_SUPERNET_COUNTERS: tuple[tuple[str, str, Callable[[SupernetCounts], float]], ...] = (
    ("supernet_steps", "Steps of training of the shared weights.", lambda c: c.steps),
    ("weights_pulls", "Pulls of shared weights.", lambda c: c.traffic["pulls"]),
    ("weights_pulled_bytes", "Bytes of shared weights that were pulled.", lambda c: c.traffic["pulled_bytes"]),
    ("weights_pushes", "Pushes of shared weights' gradients.", lambda c: c.traffic["pushes"]),
    ("weights_pushed_bytes", "Bytes of shared weights' gradients.", lambda c: c.traffic["pushed_bytes"]),
    (
        "weights_wait_seconds",
        "Time that workers waited for pulls and pushes of shared weights.",
        lambda c: c.traffic["wait_seconds"],
    ),
)

_SHARD_GAUGES: tuple[tuple[str, str, Callable[[ShardStatus], float | None]], ...] = (
    ("version", "Optimizer steps of the shard.", lambda s: s.version),
    ("incarnation", "Number of times the shard was started.", lambda s: s.incarnation),
    ("elements", "Parameters that the shard holds.", lambda s: s.elements),
    ("clients", "Clients in the deduplication table.", lambda s: s.clients),
    (
        "snapshot_age_seconds",
        "Time since the shard's last snapshot was written.",
        lambda s: s.snapshot_age_s if s.snapshot_bytes else None,
    ),
    ("snapshot_write_seconds", "Time to write the last snapshot.", lambda s: s.snapshot_write_s),
    ("snapshot_bytes", "Size of the last snapshot.", lambda s: s.snapshot_bytes),
)

_SHARD_COUNTERS: tuple[tuple[str, str, Callable[[ShardStatus], float]], ...] = (
    ("pushes", "Pushes applied by the shard.", lambda s: s.pushes),
    ("dropped", "Pushes dropped because they were too stale.", lambda s: s.dropped),
    (
        "duplicates",
        "Duplicate pushes acknowledged without being applied again, since the shard's start.",
        lambda s: s.duplicates,
    ),
    ("rejected", "Invalid pushes rejected by the shard since its start.", lambda s: s.rejected),
    ("snapshots", "Snapshots written since the shard's start.", lambda s: s.writes),
)


def families(
    run: str, snapshot: MetricsSnapshot | None, shards: Mapping[StoreName, Shards] = MappingProxyType({})
) -> Iterator[Metric]:
    """Yield every metric of a run. A family whose value is not known yet has no samples.

    Args:
        run: the run's name, the label of every sample.
        snapshot: values counted from the ledger; `None` if it could never be read.
        shards: the statuses of each store's shards, where known. Those of shared weights have metrics of their own.
    """
    if snapshot is None:
        readable, text, _ = _GAUGES[0]
        yield _filled(GaugeMetricFamily(f"nascluster_{readable}", text, labels=("run",)), [((run,), 0)])
    else:
        yield from _ledger_families(run, snapshot)
    yield from _shard_families(run, shards.get("policy", ()), "shard", "the shard")
    if "weights" in shards:
        yield from _shard_families(run, shards["weights"], "weights_shard", "the shard of shared weights")


def _ledger_families(run: str, snapshot: MetricsSnapshot) -> Iterator[Metric]:
    for name, text, gauge_of in _GAUGES:
        yield _filled(GaugeMetricFamily(f"nascluster_{name}", text, labels=("run",)), [((run,), gauge_of(snapshot))])
    for name, text, counter_of in _COUNTERS:
        yield _filled(
            CounterMetricFamily(f"nascluster_{name}", text, labels=("run",)), [((run,), counter_of(snapshot))]
        )
    for name, text, label, counts_of in _LABELLED_COUNTERS:
        family = CounterMetricFamily(f"nascluster_{name}", text, labels=("run", label))
        yield _filled(family, [((run, key), count) for key, count in counts_of(snapshot).items()])
    for name, text, histogram_of in _HISTOGRAMS:
        histogram = histogram_of(snapshot)
        family = HistogramMetricFamily(f"nascluster_{name}", text, labels=("run",))
        family.add_metric((run,), buckets=histogram.cumulative(), sum_value=histogram.sum)
        yield family
    yield _figure_family(run, snapshot)
    if snapshot.supernet is not None:
        yield from _supernet_families(run, snapshot.supernet)


def _supernet_families(run: str, counts: SupernetCounts) -> Iterator[Metric]:
    for name, text, value_of in _SUPERNET_GAUGES:
        yield _filled(GaugeMetricFamily(f"nascluster_{name}", text, labels=("run",)), [((run,), value_of(counts))])
    for name, text, count_of in _SUPERNET_COUNTERS:
        yield _filled(CounterMetricFamily(f"nascluster_{name}", text, labels=("run",)), [((run,), count_of(counts))])
    text = "Staleness of the pushes of shared weights, in versions, the mean of each child."
    family = HistogramMetricFamily("nascluster_weights_staleness_versions", text, labels=("run",))
    family.add_metric((run,), buckets=counts.staleness.cumulative(), sum_value=counts.staleness.sum)
    yield family


def _figure_family(run: str, snapshot: MetricsSnapshot) -> Metric:
    """Return the figures that the searcher lists, after its last batch: a sample for each."""
    text = "Figures of the searcher after the last batch; `nascluster searchers NAME` lists them."
    family = GaugeMetricFamily("nascluster_searcher_figure", text, labels=("run", "figure", "unit"))
    listed = [figure for figure in snapshot.listed if figure.name in snapshot.figures]
    return _filled(family, [((run, f.name, f.unit), snapshot.figures[f.name]) for f in listed])


def _shard_families(run: str, shards: Shards, kind: str, words: str) -> Iterator[Metric]:
    labels = ("run", "shard")
    up = GaugeMetricFamily(f"nascluster_{kind}_up", f"1 if {words} answers, else 0.", labels=labels)
    yield _filled(up, [((run, str(index)), status is not None) for index, status in enumerate(shards)])
    known = [status for status in shards if status is not None]
    for name, text, gauge_of in _SHARD_GAUGES:
        family = GaugeMetricFamily(f"nascluster_{kind}_{name}", text, labels=labels)
        yield _filled(family, [((run, str(status.index)), gauge_of(status)) for status in known])
    for name, text, counter_of in _SHARD_COUNTERS:
        family = CounterMetricFamily(f"nascluster_{kind}_{name}", text, labels=labels)
        yield _filled(family, [((run, str(status.index)), counter_of(status)) for status in known])


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, samples: Sequence[tuple[Sequence[str], float | None]]
) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, float(value))
    return family
