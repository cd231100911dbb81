"""Names, labels and numbers of what Prometheus is given."""

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cluster.monitoring.metrics.families import families
from cluster.monitoring.metrics.histogram import Histogram
from controller.catalogue import Figure
from tests.cluster.monitoring.metrics.histories import full_snapshot, shard_status, shared_snapshot

FULL_SIZE = [*families("demo", full_snapshot(), {"policy": [shard_status(i) for i in range(20)]})]


def test_the_paper_s_size_stays_below_2000_series_and_no_child_has_a_label() -> None:
    samples = [sample for family in FULL_SIZE for sample in family.samples]
    assert 200 < len(samples) < 2000
    assert {label for sample in samples for label in sample.labels} == {
        *("run", "shard", "cause", "verdict", "le", "figure", "unit")
    }
    assert all(sample.labels["run"] == "demo" for sample in samples)


def test_every_family_has_a_meaning_and_a_sample() -> None:
    assert all(family.documentation.endswith(".") and family.samples for family in FULL_SIZE)
    names = [family.name for family in FULL_SIZE]
    assert len(set(names)) == len(names)
    assert all(name.startswith("nascluster_") for name in names)


def test_what_is_not_known_has_no_sample() -> None:
    snapshot = replace(full_snapshot(), best_reward=None, figures={})
    found = {family.name: family.samples for family in families("demo", snapshot, {"policy": [None, shard_status(1)]})}
    assert not found["nascluster_reward_best"]
    assert not found["nascluster_searcher_figure"]
    assert [(s.labels["shard"], s.value) for s in found["nascluster_shard_up"]] == [("0", 0), ("1", 1)]
    assert [s.labels["shard"] for s in found["nascluster_shard_version"]] == ["1"]


def test_whatever_a_searcher_lists_is_a_sample_with_its_unit() -> None:
    listed = (Figure(name="heat", words="Temperature", unit="K"), Figure(name="not_yet", words="Nothing yet"))
    snapshot = replace(full_snapshot(), listed=listed, figures={"heat": 300.0, "unlisted": 1.0})
    (found,) = [family.samples for family in families("demo", snapshot) if family.name == "nascluster_searcher_figure"]
    assert [(s.labels["figure"], s.labels["unit"], s.value) for s in found] == [("heat", "K", 300.0)]


def test_a_shard_that_writes_nothing_has_no_snapshot_to_be_old() -> None:
    found = {
        f.name: f.samples for f in families("demo", full_snapshot(), {"policy": [shard_status(0, snapshot_bytes=0)]})
    }
    assert not found["nascluster_shard_snapshot_age_seconds"]


def test_prometheus_s_own_parser_reads_it_back() -> None:
    class Fixed:
        def collect(self):
            return FULL_SIZE

    registry = CollectorRegistry()
    registry.register(Fixed())  # pyright: ignore[reportArgumentType]
    read = list(text_string_to_metric_families(generate_latest(registry).decode()))
    ours = {s.name: s.value for f in FULL_SIZE for s in f.samples if not s.labels.keys() - {"run"}}
    theirs = {s.name: s.value for f in read for s in f.samples if not s.labels.keys() - {"run"}}
    assert theirs == ours


def test_a_histogram_counts_its_bounds_in_and_no_time_backwards() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 99.0, -3.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert histogram.sum == 101.5
    copy = histogram.copy()
    histogram.observe(1.0)
    assert copy.cumulative()[-1] == ("+Inf", 4)


def test_shared_weights_have_metrics_of_their_own() -> None:
    stores = {"policy": [shard_status(0)], "weights": [shard_status(0), None]}
    found = {family.name: family.samples for family in families("demo", shared_snapshot(), stores)}  # type: ignore[arg-type]
    assert [sample.value for sample in found["nascluster_shard_up"]] == [1]
    assert [sample.value for sample in found["nascluster_weights_shard_up"]] == [1, 0]
    ours = {name.removeprefix("nascluster_weights_") for name in found if name.startswith("nascluster_weights_shard_")}
    assert ours == {name.removeprefix("nascluster_") for name in found if name.startswith("nascluster_shard_")}
    assert {name: found[name][0].value for name in found if "supernet" in name} == {
        "nascluster_supernet_steps": 500,
        "nascluster_supernet_loss": 1.5,
        "nascluster_supernet_accuracy": 0.5,
        "nascluster_supernet_path_metric": 0.4,
    }
    assert all(found[f"nascluster_weights_{name}"][0].value == 10 for name in ("pulls", "pushed_bytes", "wait_seconds"))
    assert found["nascluster_weights_staleness_versions"]
    assert not [family.name for family in FULL_SIZE if "weights" in family.name or "supernet" in family.name]


def test_a_ledger_that_could_never_be_read_hides_no_shard() -> None:
    found = {family.name: family.samples for family in families("demo", None, {"policy": [shard_status(0)]})}
    assert [sample.value for sample in found["nascluster_ledger_readable"]] == [0]
    assert [sample.value for sample in found["nascluster_shard_up"]] == [1]
