"""Simulated searches: the real replicas, pool, ledger and store on a virtual clock, against what can be worked out."""

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
from cluster.simulation.conditions import REPLICA_RECOVERY_S, Conditions
from cluster.simulation.results import Figures, figures
from cluster.simulation.search import Course, simulated
from cluster.simulation.words import ChildSeconds

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


def told(config: RunConfig, conditions: Conditions) -> tuple[Figures, Course]:
    course = simulated(config, conditions)
    assert course.children == config.max_children
    return figures(config, course), course


def once_trained(course: Course) -> Counter[int]:
    """How often each child was trained to its end in one go."""
    return Counter(s.child_id for s in course.diary.stints if s.useful_s == s.ended_at - s.began_at > 0)


def naive_barrier(sigma: float, draws: int) -> float:
    """The share of the time that a worker of a replica of eight is busy: its child against the slowest of the eight."""
    rng = random.Random(1)
    batches = [[rng.lognormvariate(0, sigma) for _ in range(8)] for _ in range(draws)]
    return statistics.mean(map(statistics.mean, batches)) / statistics.mean(map(max, batches))


@pytest.mark.parametrize(("sigma", "published"), [(0.25, 0.72), (0.5, 0.54), (0.8, 0.40)])
def test_utilisation_of_a_barrier_is_a_plain_simulations_and_of_a_stream_nearly_all(
    sigma: float, published: float
) -> None:
    times = Conditions(child_seconds=ChildSeconds("lognormal", HOUR_S, sigma))
    shape = {"children": 2400, "replicas": 10}
    naive = naive_barrier(sigma, 20_000)
    assert naive == pytest.approx(published, abs=0.02)
    barrier, _ = told(search(**shape), times)  # type: ignore[arg-type]
    stream, _ = told(search(**shape, batching="stream"), times)  # type: ignore[arg-type]
    assert barrier.steady_utilisation == pytest.approx(naive, abs=0.03)
    assert stream.steady_utilisation > 0.999
    assert barrier.goodput == pytest.approx(barrier.utilisation)


@pytest.mark.parametrize("rate_per_hour", [0.05, 0.3])
def test_what_preemptions_cost_is_the_analytic_goodput(rate_per_hour: float) -> None:
    """Of trainings of length c that start over when they are interrupted, at the rate r: r c / (exp(r c) - 1)."""
    config = search(children=3000, replicas=15, workers=100, batching="stream")
    conditions = Conditions(child_seconds=ALIKE, preempted_per_s=rate_per_hour / HOUR_S)
    found, course = told(config, conditions)
    expected = rate_per_hour / math.expm1(rate_per_hour)
    # 120 children for 100 workers, so that there is always one that waits.
    assert found.steady_utilisation > 0.995
    assert found.steady_useful_hours / found.steady_worker_hours == pytest.approx(expected, abs=0.015)
    assert found.preemptions == pytest.approx(rate_per_hour * found.worker_hours, rel=0.15)
    assert found.attempts >= 3000 + found.preempted
    assert once_trained(course) == Counter(range(1, 3001))


def test_a_machine_that_is_away_is_not_leased_and_comes_back() -> None:
    config = search(children=400, replicas=5, batching="stream")
    conditions = Conditions(child_seconds=ALIKE, preempted_per_s=0.5 / HOUR_S, replace_after_s=2 * HOUR_S)
    found, course = told(config, conditions)
    away = sum(min(back, course.ended_at) - gone for gone, back in course.diary.away) / HOUR_S
    assert found.worker_hours == pytest.approx(40 * found.seconds / HOUR_S - away)
    backs = [back - gone for gone, back in course.diary.away if back < math.inf]
    assert len(backs) > 100
    assert backs == pytest.approx([2 * HOUR_S] * len(backs))


def test_children_that_save_their_state_lose_an_epoch_at_most() -> None:
    config = search(
        children=800, replicas=15, workers=100, batching="stream", failures=FailureOptions(checkpoint_children=True)
    )
    found, course = told(config, Conditions(child_seconds=ALIKE, preempted_per_s=0.5 / HOUR_S))
    assert found.preempted > 100
    lost = [s.ended_at - s.began_at - s.useful_s for s in course.diary.stints]
    assert max(lost) <= HOUR_S / 50 + 1e-6
    assert found.useful_hours == pytest.approx(800)
    assert found.lost_hours == pytest.approx(found.preempted / 50 / 2, rel=0.2)


def test_what_a_message_takes_lengthens_a_batch_by_its_messages() -> None:
    """One replica with one child at a time, and the messages of docs/design/architecture.md in their order."""
    pull, push, training = 2, 2, 2
    ledger_for_replica = 2 * len(["open_batch", "last_batch", "completed", "admit", "finish", "completed", "learned"])
    ledger_for_pool = 2 * len(["attempts", "start", "end_attempt"])
    submit_and_outcome = 2
    messages = pull + push + training + ledger_for_replica + ledger_for_pool + submit_and_outcome
    config = learning(search(children=50, replicas=1))
    config = replace(config, topology=replace(config.topology, children=1))
    at_once, _ = told(config, Conditions(child_seconds=ALIKE))
    slow, _ = told(config, Conditions(child_seconds=ALIKE, delay_s=2.0))
    assert (slow.seconds - at_once.seconds) / 50 == pytest.approx(2.0 * messages, abs=1.0)
    assert slow.waits["ledger"] > 0


def test_pulls_and_pushes_wait_for_a_shard_that_failed() -> None:
    """One replica with one child at a time: whatever it waits for, the search takes longer by just that."""
    config = learning(search(children=100, replicas=1, shards=4))
    config = replace(config, topology=replace(config.topology, children=1))
    times = ChildSeconds("constant", 60.0)
    found, course = told(config, Conditions(child_seconds=times, shard_mtbf_s=2000.0, shard_recovery_s=100.0))
    waited = course.replicas.waited_s
    assert found.shard_failures == pytest.approx(found.seconds / (2000.0 / 4), rel=0.4)
    assert waited["failed shards"] > 100.0
    assert waited["failed shards"] <= found.shards_away_s
    assert found.seconds == pytest.approx(100 * 60.0 + waited["failed shards"] + waited["shards"])


def test_the_shards_work_is_shared_and_stands_in_line() -> None:
    """All replicas push at once: the last waits for the work of all."""
    config = learning(search(children=20, replicas=20))
    config = replace(config, topology=replace(config.topology, children=1))
    one, _ = told(config, Conditions(child_seconds=ALIKE, push_s=30.0))
    config = replace(config, topology=replace(config.topology, shards=10))
    ten, _ = told(config, Conditions(child_seconds=ALIKE, push_s=30.0))
    assert one.seconds - HOUR_S == pytest.approx(10 * (ten.seconds - HOUR_S))
    assert one.seconds - HOUR_S >= 20 * 30.0


def test_replicas_that_die_go_on_and_nothing_is_trained_twice() -> None:
    config = learning(search(children=400, replicas=5))
    conditions = Conditions(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.5), replica_mtbf_s=HOUR_S)
    found, course = told(config, conditions)
    assert found.replica_failures == pytest.approx(5 * found.seconds / HOUR_S, rel=0.3)
    assert once_trained(course) == Counter(range(1, 401))
    assert found.attempts == 400
    assert found.pushes == 50
    assert course.replicas.waited_s["own failures"] == pytest.approx(
        found.replica_failures * REPLICA_RECOVERY_S, rel=0.05
    )


def test_a_push_whose_replica_died_before_it_heard_counts_once() -> None:
    """It hears of each push a minute later, and dies in one of three of these minutes."""
    config = learning(search(children=400, replicas=5))
    times = ChildSeconds("constant", 60.0)
    found, _ = told(config, Conditions(child_seconds=times, delay_s=60.0, replica_mtbf_s=2 * HOUR_S))
    assert found.replica_failures > 20
    assert found.pushes == 50


def test_children_that_take_too_long_are_ended_from_outside_in_time() -> None:
    config = search(children=200, replicas=5, failures=FailureOptions(child_timeout="2h"))
    found, course = told(config, Conditions(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.8)))
    longest = max(s.ended_at - s.began_at for s in course.diary.stints)
    assert 2 * HOUR_S < longest <= 2 * HOUR_S + 2.0
    late = [s for s in course.diary.stints if not s.useful_s]
    assert found.lost_hours == pytest.approx(2 * len(late), rel=0.01)
    assert len(late) == pytest.approx(200 * 0.19, abs=15)  # P(exp(0.8 z) > 2)
    assert found.attempts == 200
    assert found.failed == len(late)


def test_what_was_saved_of_a_child_that_is_given_up_is_of_no_use() -> None:
    """It takes five hours, saves each epoch, may be preempted, and is given up after two hours at one worker."""
    failures = FailureOptions(checkpoint_children=True, child_timeout="2h")
    config = search(children=8, replicas=1, failures=failures)
    found, _ = told(
        config, Conditions(child_seconds=ChildSeconds("constant", 5 * HOUR_S), preempted_per_s=0.1 / HOUR_S)
    )
    assert found.failed == 8
    assert found.useful_hours == 0.0
    assert found.lost_hours > 8 * 2


def test_staleness_is_that_of_replicas_that_take_turns() -> None:
    """With children that are nearly alike, each of K replicas pushes after the K - 1 others, but in the first round."""
    config = learning(search(children=8 * 10 * 20, replicas=10))
    found, _ = told(config, Conditions(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.1)))
    assert found.staleness is not None
    assert found.pushes == 200
    assert found.staleness.mean == pytest.approx(9.0 - 9 * 10 / 2 / 200, abs=0.3)
    nothing, _ = told(search(children=80, replicas=10), Conditions(child_seconds=ALIKE))
    assert (nothing.staleness, nothing.pushes) == (None, 0)


@pytest.mark.parametrize("options", [{"consistency": "sync"}, {"consistency": "ssp", "staleness_bound": 1}], ids=str)
def test_replicas_that_wait_for_one_another_do_so_in_virtual_time(options: dict[str, Any]) -> None:
    config = learning(search(children=320, replicas=4, **options))
    found, _ = told(config, Conditions(child_seconds=ChildSeconds("lognormal", HOUR_S, 0.8)))
    assert found.waits["other replicas"] > 0.05
    assert found.pushes == 40


@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_one_seed_gives_one_course_whatever_is_lost(batching: Any) -> None:
    conditions = Conditions(
        child_seconds=ChildSeconds("lognormal", HOUR_S, 0.5),
        delay_s=0.02,
        preempted_per_s=0.2 / HOUR_S,
        shard_mtbf_s=20 * HOUR_S,
        replica_mtbf_s=5 * HOUR_S,
    )
    config = learning(search(children=300, replicas=4, shards=3, batching=batching))
    course = simulated(config, conditions)
    again = simulated(config, conditions)
    other = simulated(replace(config, seed=1), conditions)
    assert course == again
    assert course != other
    assert once_trained(course) == Counter(range(1, 301))
    assert min(course.diary.preemptions, course.replicas.failures, course.shards.failures) > 0
