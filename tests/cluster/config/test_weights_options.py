import pytest

from cluster.config.weights_options import WeightsOptions
from ps.consistency import Consistency


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60.0), ("0", 0.0), ("0s", 0.0), ("2m", 120.0)])
def test_the_interval_of_snapshots_may_be_0(text: str, seconds: float) -> None:
    assert WeightsOptions(weights_snapshot=text).snapshot_interval_s == seconds


@pytest.mark.parametrize("text", ["", "-1s", "soon", "inf"])
def test_another_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`weights_snapshot` must be 0 or a time such as 2h, 90m or 600s, got"):
        WeightsOptions(weights_snapshot=text)


def test_the_shards_are_as_consistent_as_the_options_say() -> None:
    members = ("replica-0.0", "replica-0.1")
    assert WeightsOptions().store_consistency(members) == Consistency()
    assert WeightsOptions(weights_on_stale="scale").store_consistency(members) == Consistency(stale="scale")
    drop = WeightsOptions(weights_on_stale="drop", weights_max_staleness=3)
    assert drop.store_consistency(members) == Consistency(stale="drop", max_staleness=3)
    ssp = WeightsOptions(weights_consistency="ssp", weights_staleness_bound=2)
    assert ssp.store_consistency(members) == Consistency(mode="ssp", bound=2, members=members)
    causal = WeightsOptions(weights_consistency="causal", weights_deferred="all")
    assert causal.store_consistency(members) == Consistency()
    sync = WeightsOptions(weights_consistency="sync")
    assert sync.store_consistency(members) == Consistency(mode="sync", members=members)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights_shards": 0}, "`weights_shards` must be at least 1, got 0"),
        ({"weights_shards": 100_001}, "`weights_shards` must be at most 100,000"),
        ({"weights_on_stale": "drop"}, "`weights_max_staleness` must be given with `weights_on_stale` drop"),
        ({"weights_staleness_bound": 2}, "`weights_staleness_bound` must be 0 unless `weights_consistency` is ssp"),
        ({"weights_deferred": "all"}, "`weights_deferred` must be common unless `weights_consistency` is causal"),
        (
            {"weights_consistency": "causal", "weights_on_stale": "scale"},
            "`weights_on_stale` must be apply where `weights_consistency` is causal",
        ),
        ({"weights_staleness_bound": -1}, "`weights_staleness_bound` must be 0 or more, got -1"),
        ({"weights_max_staleness": 2}, "`weights_max_staleness` must be given with `weights_on_stale` drop"),
        ({"weights_on_stale": "drop", "weights_max_staleness": -1}, "`weights_max_staleness` must be 0 or more"),
    ],
)
def test_an_impossible_option_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightsOptions(**values)  # type: ignore[arg-type]
