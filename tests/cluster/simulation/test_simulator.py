"""Simulated searches against figures that can be worked out."""

import math
import random
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from child_trainer.outcome import Budget
from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.simulation.cluster_model import REPLICA_RECOVERY_S, ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.estimate import Figures, compute_figures
from cluster.simulation.simulator import SimulationResult, simulate_search

HOUR_S = 3600.0

ALIKE = ChildSeconds("constant", HOUR_S)


def search(*, children: int, failures: FailureOptions | None = None, seed: int = 0, **topology: Any) -> RunConfig:
    return RunConfig(
        seed=seed,
        max_children=children,
        searcher="random",
        reward="accuracy",
        task=TaskOptions(task="synthetic"),
        budget=Budget(epochs=50),
        topology=Topology(**({"shards": 1} | topology)),
        failures=failures or FailureOptions(),
    )


def learning(config: RunConfig) -> RunConfig:
    return config.with_searcher("reinforce")


def run_search(config: RunConfig, model: ClusterModel) -> tuple[Figures, SimulationResult]:
    result = simulate_search(config, model)
    assert result.children == config.max_children
    return compute_figures(config, result), result


def once_trained(result: SimulationResult) -> Counter[int]:
    """Count the uninterrupted trainings of each child."""
    return Counter(s.child_id for s in result.worker_log.intervals if s.useful_s == s.ended_at - s.started_at > 0)


def naive_barrier(sigma: float, draws: int) -> float:
    """Return the utilisation of a replica of eight: each child against the slowest of the eight."""
    rng = random.Random(1)
    batches = [[rng.lognormvariate(0, sigma) for _ in range(8)] for _ in range(draws)]
    return statistics.mean(map(statistics.mean, batches)) / statistics.mean(map(max, batches))


@pytest.mark.parametrize(("sigma", "published"), [(0.25, 0.72), (0.5, 0.54), (0.8, 0.40)])
def test_utilisation_of_barriers_and_streams(sigma: float, published: float) -> None:
    times = ClusterModel(child_seconds=ChildSeconds("lognormal", HOUR_S, sigma))
    shape = {"children": 2400, "replicas": 10}
    naive = naive_barrier(sigma, 20_000)
    assert naive == pytest.approx(published, abs=0.02)
    barrier, _ = run_search(search(**shape), times)  # type: ignore[arg-type]
    stream, _ = run_search(search(**shape, batching="stream"), times)  # type: ignore[arg-type]
    assert barrier.steady_utilisation == pytest.approx(naive, abs=0.03)
    assert stream.steady_utilisation > 0.999
    assert barrier.goodput == pytest.approx(barrier.utilisation)


@pytest.mark.parametrize("rate_per_hour", [0.05, 0.3])
def test_goodput_under_preemptions_is_the_analytic_one(rate_per_hour: float) -> None:
    """Of trainings of length c that start over when they are interrupted, at the rate r: r c / (exp(r c) - 1)."""
    config = search(children=3000, replicas=15, workers=100, batching="stream")
    model = ClusterModel(child_seconds=ALIKE, preempted_per_s=rate_per_hour / HOUR_S)
    found, result = run_search(config, model)
    expected = rate_per_hour / math.expm1(rate_per_hour)
    # 120 children for 100 workers, so that there is always one that waits.
    assert found.steady_utilisation > 0.995
    assert found.steady_useful_hours / found.steady_worker_hours == pytest.approx(expected, abs=0.015)
    assert found.preemptions == pytest.approx(rate_per_hour * found.worker_hours, rel=0.15)
    assert found.attempts >= 3000 + found.preempted
    assert once_trained(result) == Counter(range(1, 3001))


def test_a_preempted_machine_is_not_leased_until_it_is_replaced() -> None:
    config = search(children=400, replicas=5, batching="stream")
    model = ClusterModel(child_seconds=ALIKE, preempted_per_s=0.5 / HOUR_S, replace_after_s=2 * HOUR_S)
    found, result = run_search(config, model)
    away = sum(min(back, result.ended_at) - gone for gone, back in result.worker_log.outages) / HOUR_S
    assert found.worker_hours == pytest.approx(40 * found.seconds / HOUR_S - away)
    backs = [back - gone for gone, back in result.worker_log.outages if back < math.inf]
    assert len(backs) > 100
    assert backs == pytest.approx([2 * HOUR_S] * len(backs))


def test_children_with_checkpoints_lose_an_epoch_at_most() -> None:
    config = search(
        children=800, replicas=15, workers=100, batching="stream", failures=FailureOptions(checkpoint_children=True)
    )
    found, result = run_search(config, ClusterModel(child_seconds=ALIKE, preempted_per_s=0.5 / HOUR_S))
    assert found.preempted > 100
    lost = [s.ended_at - s.started_at - s.useful_s for s in result.worker_log.intervals]
    assert max(lost) <= HOUR_S / 50 + 1e-6
    assert found.useful_hours == pytest.approx(800)
    assert found.lost_hours == pytest.approx(found.preempted / 50 / 2, rel=0.2)


def test_delays_lengthen_a_batch_by_its_number_of_messages() -> None:
    """One replica with one child at a time, and the messages of docs/design/architecture.md in their order."""
    pull, push, training = 2, 2, 2
    ledger_for_replica = 2 * len(["learned and admit", "finish_all and completed"])
    ledger_for_pool = 2 * len(["start"])  # no replica waits for the record of a good attempt's end
    submit_and_outcome = 2
    messages = pull + push + training + ledger_for_replica + ledger_for_pool + submit_and_outcome
    config = learning(search(children=50, replicas=1))
    config = replace(config, topology=replace(config.topology, children=1))
    at_once, _ = run_search(config, ClusterModel(child_seconds=ALIKE))
    slow, _ = run_search(config, ClusterModel(child_seconds=ALIKE, delay_s=2.0))
    assert (slow.seconds - at_once.seconds) / 50 == pytest.approx(2.0 * messages, abs=1.0)
    assert slow.waits["ledger"] > 0


def test_pulls_and_pushes_wait_for_a_shard_that_failed() -> None:
    """One replica with one child at a time: the search takes longer by just its waits."""
    config = learning(search(children=100, replicas=1, shards=4))
    config = replace(config, topology=replace(config.topology, children=1))
    times = ChildSeconds("constant", 60.0)
    found, result = run_search(config, ClusterModel(child_seconds=times, shard_mtbf_s=2000.0, shard_recovery_s=100.0))
    waited = result.replicas.waited_s
    assert found.shard_failures == pytest.approx(found.seconds / (2000.0 / 4), rel=0.4)
    assert waited["failed shards"] > 100.0
    assert waited["failed shards"] <= found.shards_outage_s
    assert found.seconds == pytest.approx(100 * 60.0 + waited["failed shards"] + waited["shards"])


def test_the_shards_share_their_work_and_queue_it() -> None:
    """All replicas push at once: the last waits for the work of all."""
    config = learning(search(children=20, replicas=20))
    config = replace(config, topology=replace(config.topology, children=1))
    one, _ = run_search(config, ClusterModel(child_seconds=ALIKE, push_s=30.0))
    config = replace(config, topology=replace(config.topology, shards=10))
    ten, _ = run_search(config, ClusterModel(child_seconds=ALIKE, push_s=30.0))
    assert one.seconds - HOUR_S == pytest.approx(10 * (ten.seconds - HOUR_S))
    assert one.seconds - HOUR_S >= 20 * 30.0


def test_failed_replicas_resume_and_no_child_is_trained_twice() -> None:
    config = learning(search(children=400, replicas=5))
    model = ClusterModel(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.5), replica_mtbf_s=HOUR_S)
    found, result = run_search(config, model)
    assert found.replica_failures == pytest.approx(5 * found.seconds / HOUR_S, rel=0.3)
    assert once_trained(result) == Counter(range(1, 401))
    assert found.attempts == 400
    assert found.pushes == 50
    assert result.replicas.waited_s["own failures"] == pytest.approx(
        found.replica_failures * REPLICA_RECOVERY_S, rel=0.05
    )


def test_a_push_whose_replica_died_before_the_reply_counts_once() -> None:
    """It hears of each push a minute later, and dies in one of three of these minutes."""
    config = learning(search(children=480, replicas=5))
    times = ChildSeconds("constant", 60.0)
    found, _ = run_search(config, ClusterModel(child_seconds=times, delay_s=60.0, replica_mtbf_s=1.2 * HOUR_S))
    assert found.replica_failures > 20
    assert found.pushes == 60


def test_children_over_their_timeout_are_ended_in_time() -> None:
    config = search(children=200, replicas=5, failures=FailureOptions(child_timeout="2h"))
    found, result = run_search(config, ClusterModel(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.8)))
    longest = max(s.ended_at - s.started_at for s in result.worker_log.intervals)
    assert 2 * HOUR_S < longest <= 2 * HOUR_S + 2.0
    late = [s for s in result.worker_log.intervals if not s.useful_s]
    assert found.lost_hours == pytest.approx(2 * len(late), rel=0.01)
    assert len(late) == pytest.approx(200 * 0.19, abs=15)  # P(exp(0.8 z) > 2)
    assert found.attempts == 200
    assert found.failed == len(late)


def test_checkpoints_of_a_failed_child_are_not_useful() -> None:
    """It takes five hours, saves each epoch, may be preempted, and times out after two hours at one worker."""
    failures = FailureOptions(checkpoint_children=True, child_timeout="2h")
    config = search(children=8, replicas=1, failures=failures)
    found, _ = run_search(
        config, ClusterModel(child_seconds=ChildSeconds("constant", 5 * HOUR_S), preempted_per_s=0.1 / HOUR_S)
    )
    assert found.failed == 8
    assert found.useful_hours == 0.0
    assert found.lost_hours > 8 * 2


def test_staleness_is_that_of_replicas_that_take_turns() -> None:
    """With children that are nearly alike, each of K replicas pushes after the K - 1 others, but in the first round."""
    config = learning(search(children=8 * 10 * 20, replicas=10))
    found, _ = run_search(config, ClusterModel(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.1)))
    assert found.staleness is not None
    assert found.pushes == 200
    assert found.staleness.mean == pytest.approx(9.0 - 9 * 10 / 2 / 200, abs=0.3)
    nothing, _ = run_search(search(children=80, replicas=10), ClusterModel(child_seconds=ALIKE))
    assert (nothing.staleness, nothing.pushes) == (None, 0)


@pytest.mark.parametrize("options", [{"consistency": "sync"}, {"consistency": "ssp", "staleness_bound": 1}], ids=str)
def test_replicas_wait_for_each_other_in_virtual_time(options: dict[str, Any]) -> None:
    config = learning(search(children=320, replicas=4, **options))
    found, _ = run_search(config, ClusterModel(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.8)))
    assert found.waits["other replicas"] > 0.05
    assert found.pushes == 40


@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_one_seed_gives_one_result_whatever_is_lost(batching: Any) -> None:
    model = ClusterModel(
        child_seconds=ChildSeconds("lognormal", HOUR_S, 0.5),
        delay_s=0.02,
        preempted_per_s=0.2 / HOUR_S,
        shard_mtbf_s=20 * HOUR_S,
        replica_mtbf_s=5 * HOUR_S,
    )
    config = learning(search(children=300, replicas=4, shards=3, batching=batching))
    result = simulate_search(config, model)
    again = simulate_search(config, model)
    other = simulate_search(replace(config, seed=1), model)
    assert result == again
    assert result != other
    assert once_trained(result) == Counter(range(1, 301))
    assert min(result.worker_log.preemptions, result.replicas.failures, result.shards.failures) > 0
