"""From facts to Prometheus's metric families: a pure function. Names, units and meaning of every metric are here."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from cluster.monitoring.metrics.histogram import Histogram
from cluster.monitoring.metrics.snapshot import WINDOW, Facts
from ps.status import ShardStatus

Shards = Sequence[ShardStatus | None]
"""What the shards say, in their order; `None` for one that does not answer."""

_GAUGES: tuple[tuple[str, str, Callable[[Facts], float | None]], ...] = (
    ("ledger_readable", "1 if the ledger could be read just now, else 0.", lambda f: f.readable),
    ("ledger_beat_age_seconds", "Age of the last sign of life in the ledger.", lambda f: f.beat_age_s),
    ("run_start_timestamp_seconds", "Unix time of this start of the run.", lambda f: f.started_at),
    ("run_seconds", "How long the run has run, pauses apart.", lambda f: f.seconds),
    ("last_child_timestamp_seconds", "Unix time of the last child's end, or of the start.", lambda f: f.last_child_at),
    ("children_max", "Children after which the search ends.", lambda f: f.children_max),
    ("children_running", "Children in training now.", lambda f: f.running),
    ("children_waiting", "Children that were sampled and wait for a worker.", lambda f: f.waiting),
    ("replicas", "Controller replicas.", lambda f: f.replicas),
    ("workers", "Workers that the run has.", lambda f: f.workers),
    ("workers_busy", "Workers that train a child now.", lambda f: min(f.running, f.workers)),
    ("reward_recent", f"Mean reward of the last {WINDOW} children.", lambda f: f.recent_reward),
    ("reward_best", "Highest reward so far.", lambda f: f.best_reward),
    (
        "architectures_distinct_ratio",
        f"Distinct architectures among the last {WINDOW} children.",
        lambda f: f.distinct_ratio,
    ),
    ("architecture_nodes", f"Mean number of nodes, joins apart, of the last {WINDOW} children.", lambda f: f.depth),
)

_COUNTERS: tuple[tuple[str, str, Callable[[Facts], float]], ...] = (
    ("children_sampled", "Children recorded.", lambda f: f.sampled),
    ("children_finished", "Children that ended with a metric.", lambda f: f.finished),
    ("child_seconds", "Training time of the children that finished.", lambda f: f.child_seconds),
    ("attempts_started", "Attempts at children.", lambda f: f.attempts),
    ("attempt_seconds", "Time of workers in attempts that have ended.", lambda f: f.attempt_seconds),
    ("batches_learned", "Batches that the searcher learnt from.", lambda f: f.learned),
    ("pushes", "Pushes acked, as the replicas recorded them.", lambda f: f.pushed),
)

_HISTOGRAMS: tuple[tuple[str, str, Callable[[Facts], Histogram]], ...] = (
    ("queue_wait_seconds", "From when a child was sampled to its first attempt.", lambda f: f.queue_wait),
    ("epoch_seconds", "Time of an epoch, the mean of each child.", lambda f: f.epoch),
    ("child_gpu_bytes", "Most memory of its GPU that a child had in use.", lambda f: f.gpu_memory),
    ("pull_seconds", "What a replica waited for a pull.", lambda f: f.pull),
    ("push_seconds", "What a replica waited for a push's ack.", lambda f: f.push),
    ("staleness_versions", "Versions by which a push was stale on a shard.", lambda f: f.staleness),
)

_BY: tuple[tuple[str, str, str, Callable[[Facts], Mapping[str, int]]], ...] = (
    ("children_failed", "Children that ended without a metric.", "cause", lambda f: f.failed),
    ("attempts_ended", "Attempts that have ended, by what that meant.", "verdict", lambda f: f.attempts_ended),
    ("attempts_failed", "Attempts that failed, preempted ones too.", "cause", lambda f: f.attempts_failed),
)

_SHARD_GAUGES: tuple[tuple[str, str, Callable[[ShardStatus], float | None]], ...] = (
    ("shard_version", "Optimizer steps that the shard has taken.", lambda s: s.version),
    ("shard_incarnation", "Starts of the shard.", lambda s: s.incarnation),
    ("shard_elements", "Numbers that the shard holds.", lambda s: s.elements),
    ("shard_clients", "Clients in the deduplication table.", lambda s: s.clients),
    (
        "shard_snapshot_age_seconds",
        "Time since the shard's last snapshot was written.",
        lambda s: s.snapshot_age_s if s.snapshot_bytes else None,
    ),
    ("shard_snapshot_write_seconds", "What the last snapshot took to write.", lambda s: s.snapshot_write_s),
    ("shard_snapshot_bytes", "Size of the last snapshot.", lambda s: s.snapshot_bytes),
)

_SHARD_COUNTERS: tuple[tuple[str, str, Callable[[ShardStatus], float]], ...] = (
    ("shard_pushes", "Pushes that the shard has applied.", lambda s: s.pushes),
    ("shard_dropped", "Pushes that were too stale.", lambda s: s.dropped),
    ("shard_duplicates", "Pushes acked again, not applied again; since the shard's start.", lambda s: s.duplicates),
    ("shard_rejected", "Bad pushes that reached the shard; since its start.", lambda s: s.rejected),
    ("shard_snapshots", "Snapshots written; since the shard's start.", lambda s: s.writes),
)


def families(run: str, facts: Facts, shards: Shards = ()) -> Iterator[Metric]:
    """Every metric of a run. A family whose value is not known yet has no samples.

    Args:
        run: the run's name, the label of every sample.
        facts: what the ledger says.
        shards: what the shards say, where it is known.
    """
    for name, text, gauge_of in _GAUGES:
        yield _filled(GaugeMetricFamily(f"nascluster_{name}", text, labels=("run",)), [((run,), gauge_of(facts))])
    for name, text, counter_of in _COUNTERS:
        yield _filled(CounterMetricFamily(f"nascluster_{name}", text, labels=("run",)), [((run,), counter_of(facts))])
    for name, text, label, by in _BY:
        family = CounterMetricFamily(f"nascluster_{name}", text, labels=("run", label))
        yield _filled(family, [((run, key), count) for key, count in by(facts).items()])
    for name, text, histogram_of in _HISTOGRAMS:
        histogram = histogram_of(facts)
        family = HistogramMetricFamily(f"nascluster_{name}", text, labels=("run",))
        family.add_metric((run,), buckets=histogram.cumulative(), sum_value=histogram.sum)
        yield family
    yield _figure_family(run, facts)
    yield from _shard_families(run, shards)


def _figure_family(run: str, facts: Facts) -> Metric:
    """Return what the searcher lists of its last batch, whatever that is: a sample for each figure."""
    text = "Figures of the searcher, as of the last batch; `nascluster searchers NAME` lists them."
    family = GaugeMetricFamily("nascluster_searcher_figure", text, labels=("run", "figure", "unit"))
    listed = [figure for figure in facts.listed if figure.name in facts.figures]
    return _filled(family, [((run, f.name, f.unit), facts.figures[f.name]) for f in listed])


def _shard_families(run: str, shards: Shards) -> Iterator[Metric]:
    labels = ("run", "shard")
    up = GaugeMetricFamily("nascluster_shard_up", "1 if the shard answers, else 0.", labels=labels)
    yield _filled(up, [((run, str(index)), status is not None) for index, status in enumerate(shards)])
    known = [status for status in shards if status is not None]
    for name, text, gauge_of in _SHARD_GAUGES:
        family = GaugeMetricFamily(f"nascluster_{name}", text, labels=labels)
        yield _filled(family, [((run, str(status.index)), gauge_of(status)) for status in known])
    for name, text, counter_of in _SHARD_COUNTERS:
        family = CounterMetricFamily(f"nascluster_{name}", text, labels=labels)
        yield _filled(family, [((run, str(status.index)), counter_of(status)) for status in known])


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, samples: Sequence[tuple[Sequence[str], float | None]]
) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, float(value))
    return family
