"""The expected losses of a simulation against its actual ones."""

import math
import random
import statistics
from dataclasses import replace

import pytest

from child_trainer.outcome import Budget
from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.estimate import compute_figures
from cluster.simulation.limits import expected_losses, expected_worker_seconds
from cluster.simulation.simulator import simulate_search

HOUR_S = 3600.0

EPOCHS = 10


def search(*, checkpoints: bool = False, timeout: str | None = None, children: int = 400) -> RunConfig:
    return RunConfig(
        max_children=children,
        searcher="random",
        reward="accuracy",
        task=TaskOptions(task="synthetic"),
        budget=Budget(epochs=EPOCHS),
        topology=Topology(replicas=10, shards=1, children=4, batching="stream"),
        failures=FailureOptions(checkpoint_children=checkpoints, child_timeout=timeout),
    )


def preempted(times: ChildSeconds, per_hour: float) -> ClusterModel:
    return ClusterModel(child_seconds=times, preempted_per_s=per_hour / HOUR_S, replace_after_s=60.0)


@pytest.mark.parametrize("parts", [1, 10])
@pytest.mark.parametrize("per_hour", [0.1, 2.0, 4.0])
def test_a_part_that_is_interrupted_starts_over(per_hour: float, parts: int) -> None:
    """Compare the formula with a simulation of one child."""
    rng, rate = random.Random(1), per_hour / HOUR_S

    def taken() -> float:
        seconds = 0.0
        for _ in range(parts):
            while (until := rng.expovariate(rate)) < HOUR_S / parts:
                seconds += until
            seconds += HOUR_S / parts
        return seconds

    mean = statistics.fmean(taken() for _ in range(4000))
    assert expected_worker_seconds(HOUR_S, rate, parts) == pytest.approx(mean, rel=0.05)


def test_extreme_rates_of_interruption() -> None:
    assert expected_worker_seconds(HOUR_S, 0.0) == HOUR_S
    assert expected_worker_seconds(HOUR_S, 1.0) == math.inf


@pytest.mark.parametrize(
    ("config", "per_hour"),
    [
        (search(), 0.5),
        (search(), 3.0),
        (search(children=80), 4.0),
        (search(checkpoints=True), 4.0),
        (search(timeout="20m"), 4.0),
    ],
    ids=["seldom", "often", "very often", "with checkpoints", "timeout"],
)
def test_expected_losses_bound_actual_losses_within_a_factor(config: RunConfig, per_hour: float) -> None:
    model = preempted(ChildSeconds("constant", HOUR_S), per_hour)
    found = compute_figures(config, simulate_search(config, model))
    foreseen = expected_losses(config, model, [HOUR_S])
    assert found.preemptions > 50
    assert found.preemptions < foreseen < 8 * found.preemptions


def test_one_long_child_raises_the_expected_losses() -> None:
    model = preempted(ChildSeconds("constant", HOUR_S), 1.0)
    alike = expected_losses(search(), model, [HOUR_S] * 400)
    one = expected_losses(search(), model, [HOUR_S] * 399 + [10 * HOUR_S])
    assert one > alike + 0.9 * math.expm1(10.0) * 40


def test_losses_of_shards_and_replicas_grow_with_the_duration() -> None:
    shards = ClusterModel(child_seconds=None, shard_mtbf_s=HOUR_S)
    both = replace(shards, replica_mtbf_s=HOUR_S)
    slow = replace(both, preempted_per_s=1 / HOUR_S, replace_after_s=9 * HOUR_S)
    alone = expected_losses(search(), shards, [HOUR_S])
    assert alone == pytest.approx(3 * (10 + 1))
    assert expected_losses(search(), both, [HOUR_S]) == pytest.approx(alone * (1 + 10))
    # Ten times as long for want of workers, and longer again as children start over.
    workers, again = 40, math.expm1(1.0)
    assert expected_losses(search(), slow, [HOUR_S]) == pytest.approx(again * alone * ((1 + 10) * 10 + workers))
