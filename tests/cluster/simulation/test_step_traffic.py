"""What steps exchange with the shards, and what that takes them."""

import math

import pytest

from cluster.config.flags import parse_run
from cluster.config.recipes import find_recipe
from cluster.config.run_config import RunConfig
from cluster.runners.shared_weights import make_network
from cluster.simulation.step_traffic import step_traffic
from cluster.simulation.steps_model import (
    CLIENT_CALL_S,
    DURABLE_PUSH_CALL_S,
    PULL_BYTE_S,
    PULL_CALL_S,
    PUSH_BYTE_S,
    PUSH_CALL_S,
    StepsModel,
    StepTraffic,
)
from controller.searcher import shared_weights_of

MB = 1_000_000
TRAFFIC = StepTraffic(
    pulls=2, pushes=1, pulled_bytes=4 * MB, pushed_bytes=2 * MB, strengths_pulls=2, strengths_pushes=1
)


def run(recipe: str, *flags: str) -> RunConfig:
    return parse_run(find_recipe(recipe)(), list(flags), recipe)


def whole_bytes(config: RunConfig) -> int:
    shared = shared_weights_of(config.make_searcher())
    assert shared is not None
    return 4 * sum(math.prod(shape) for shape in make_network(config, shared).shapes.values())


def test_a_step_of_darts_pulls_all_weights_once_and_pushes_them_once() -> None:
    """Its strengths learn by the first half-step, its weights by the second, from the same ones (spec §12.3)."""
    config = run("darts-digits")
    whole = whole_bytes(config)
    assert step_traffic(config) == StepTraffic(
        pulls=1, pushes=1, pulled_bytes=whole, pushed_bytes=whole, strengths_pulls=2, strengths_pushes=1
    )


def test_the_supernet_of_darts_on_cifar10_has_the_published_size() -> None:
    traffic = step_traffic(run("darts-cifar10"))
    assert traffic is not None
    assert traffic.pushed_bytes == 4 * 1_930_618  # T12.1


def test_a_step_of_enas_exchanges_one_path() -> None:
    config = run("enas-macro-digits")
    traffic = step_traffic(config)
    assert traffic is not None
    assert (traffic.pulls, traffic.pushes, traffic.strengths_pulls, traffic.strengths_pushes) == (1, 1, 0, 0)
    assert traffic.pulled_bytes == traffic.pushed_bytes
    assert 0.1 < traffic.pushed_bytes / whole_bytes(config) < 0.7


def test_proxylessnas_moves_strengths_at_some_of_its_steps() -> None:
    """After a warm-up of 6 epochs of 16, at every second of its steps."""
    traffic = step_traffic(run("proxyless-digits"))
    assert traffic is not None
    assert traffic.pushes == 1
    assert traffic.strengths_pushes == pytest.approx(0.5 * 10 / 16, abs=0.05)
    assert traffic.pulls == 1 + traffic.strengths_pushes


def test_a_search_without_shared_weights_has_no_steps() -> None:
    assert step_traffic(run("digits")) is None


def model(shards: int = 1, compute_s: float = 0.1) -> StepsModel:
    return StepsModel(compute_s=compute_s, traffic=TRAFFIC, shards=shards, policy_shards=1)


def test_a_call_goes_to_every_shard_and_its_bytes_are_divided() -> None:
    calls, moved = 2 * PULL_CALL_S + PUSH_CALL_S, 4 * MB * PULL_BYTE_S + 2 * MB * PUSH_BYTE_S
    assert model(1).weights_demand_s == pytest.approx(calls + moved)
    assert model(10).weights_demand_s == pytest.approx(calls + moved / 10)
    assert model(10).alone_s - model(1).alone_s == pytest.approx(3 * 9 * CLIENT_CALL_S)
    assert model().policy_demand_s == pytest.approx(2 * PULL_CALL_S + DURABLE_PUSH_CALL_S)


def test_the_busiest_shard_bounds_the_steps_of_any_number_of_workers() -> None:
    one = model(compute_s=0.01)
    assert one.max_rate == 1 / one.weights_demand_s
    assert 1000 / one.step_seconds(1000)[-1] == pytest.approx(one.max_rate, rel=1e-3)
    many = model(shards=100, compute_s=0.01)
    assert many.max_rate == 1 / many.policy_demand_s  # then the strengths are what limits
    assert one.step_seconds(1)[0] == pytest.approx(one.alone_s + one.weights_demand_s + one.policy_demand_s)
