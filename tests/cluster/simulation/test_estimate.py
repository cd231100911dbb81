"""Figures and estimates of made-up results of simulations."""

import math
from dataclasses import replace

import pytest

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.simulation.estimate import Staleness, compute_figures, estimate, summarize_staleness
from cluster.simulation.replicas import ReplicaLog
from cluster.simulation.shards import ShardLog
from cluster.simulation.simulator import SimulationResult
from cluster.simulation.worker_log import BusyInterval, WorkerLog

HOUR_S = 3600.0


def config(**topology: object) -> RunConfig:
    layout = Topology(**({"replicas": 1, "children": 2, "workers": 2} | topology))  # type: ignore[arg-type]
    return RunConfig(max_children=3, task=TaskOptions(task="synthetic"), topology=layout)


def result() -> SimulationResult:
    """Two workers and three children of 2 h; one is preempted after an hour and trained again."""
    intervals = [
        BusyInterval(1, 0, 1 * HOUR_S, 0),
        BusyInterval(2, 0, 2 * HOUR_S, 2 * HOUR_S),
        BusyInterval(1, 2 * HOUR_S, 4 * HOUR_S, 2 * HOUR_S),
        BusyInterval(3, 3 * HOUR_S, 5 * HOUR_S, 2 * HOUR_S),
    ]
    outages = [(1 * HOUR_S, 1.5 * HOUR_S), (4.5 * HOUR_S, math.inf)]
    worker_log = WorkerLog(
        intervals=intervals, outages=outages, preemptions=2, interrupted=1, last_child_started_at=3 * HOUR_S
    )
    log = ReplicaLog(staleness=[0.0, 2.0], failures=3, ended_at=5 * HOUR_S)
    log.waited_s["children"] = 4 * HOUR_S
    return SimulationResult(
        ended_at=5 * HOUR_S,
        children=3,
        failed=0,
        attempts=4,
        worker_log=worker_log,
        replicas=log,
        shards=ShardLog(failures=1, outage_s=7.0),
    )


def test_worker_hours_exclude_outages() -> None:
    found = compute_figures(config(), result())
    assert (found.children, found.seconds, found.children_per_hour) == (3, 5 * HOUR_S, pytest.approx(0.6))
    assert found.worker_hours == pytest.approx(2 * 5 - 0.5 - 0.5)
    assert (found.useful_hours, found.lost_hours) == (6.0, 1.0)
    assert found.utilisation == pytest.approx(7 / 9)
    assert found.goodput == pytest.approx(6 / 9)
    assert found.steady_worker_hours == pytest.approx(2 * 3 - 0.5)
    assert found.steady_busy_hours == pytest.approx(1 + 2 + 1)
    assert found.steady_utilisation == pytest.approx(4 / 5.5)
    assert found.steady_useful_hours == pytest.approx(2 + 1)
    assert found.waits["children"] == pytest.approx(0.8)
    assert (found.attempts, found.preemptions, found.preempted) == (4, 2, 1)
    assert (found.shard_failures, found.shards_outage_s, found.replica_failures) == (1, 7.0, 3)


@pytest.mark.parametrize(("gpus", "hours"), [(None, 9.0), (0.5, 4.5), (4, 36.0)])
def test_a_worker_costs_its_gpus(gpus: float | None, hours: float) -> None:
    assert compute_figures(config(gpus_per_child=gpus), result()).gpu_hours == pytest.approx(hours)


def test_staleness_has_mean_and_quantiles() -> None:
    assert summarize_staleness([]) is None
    assert summarize_staleness([3.0]) == Staleness(mean=3.0, p50=3.0, p95=3.0, max=3.0)
    pushes = [float(i) for i in range(100, 0, -1)]
    assert summarize_staleness(pushes) == Staleness(mean=50.5, p50=50.0, p95=95.0, max=100.0)


def test_estimates_use_the_pace_before_the_end() -> None:
    """Three hours of useful training in three hours, with 5.5 hours of workers: 2 h per extra child."""
    found = compute_figures(config(), result())
    same, more = estimate(found, 3), estimate(found, 13)
    assert (same.hours, same.gpu_hours) == (pytest.approx(5.0), pytest.approx(9.0))
    assert more.hours == pytest.approx(5.0 + 10 * 2 / 3 * 3)
    assert more.gpu_hours == pytest.approx(9.0 + 10 * 2 / 3 * 5.5)


def test_estimates_of_one_batch_scale_the_whole_search() -> None:
    found = replace(compute_figures(config(), result()), steady_seconds=1.0)
    assert found.steady_utilisation == found.utilisation
    assert estimate(found, 6).hours == pytest.approx(10.0)


def test_a_search_that_takes_no_time_has_no_pace() -> None:
    with pytest.raises(ValueError, match=r"take 0 s.* --child-seconds lognormal"):
        compute_figures(config(), replace(result(), ended_at=0.0))
