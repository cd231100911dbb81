"""Simulated searches on shared weights, against figures that can be worked out."""

import random
from dataclasses import replace
from typing import Any

import pytest

from child_trainer.supernets.jobs import Steps
from cluster.config.flags import parse_run
from cluster.config.recipes import find_recipe
from cluster.config.run_config import RunConfig
from cluster.runners.build import initial_values, make_parameters
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.estimate import Figures, compute_figures
from cluster.simulation.report import SimulationReport, lines
from cluster.simulation.simulator import fake_searcher, simulate_search
from cluster.simulation.steps_model import StepTraffic
from cluster.simulation.variants import variants
from controller.searcher import Searcher, View

HARDLY_ANYTHING = StepTraffic(pulls=0, pushes=0, pulled_bytes=1, pushed_bytes=0)

MODEL = ClusterModel(child_seconds=ChildSeconds("constant", 7.0), push_s=0.0, compute_s=1.0, traffic=HARDLY_ANYTHING)
"""A step takes a second, a score seven, and what replicas pull and push nothing."""

MANY = ("--max-children", 2000)

EPOCHS = 10
"""Of `darts-digits`, each of 30 steps in two children, and a score."""


def run(recipe: str = "darts-digits", *flags: object) -> RunConfig:
    return parse_run(find_recipe(recipe)(), list(map(str, flags)), recipe)


def simulated(config: RunConfig, model: ClusterModel = MODEL) -> Figures:
    return compute_figures(config, simulate_search(config, model), model.steps(config))


def jobs(searcher: Searcher, config: RunConfig, children: int) -> list[int]:
    """Return the steps of each child of an undisturbed search, 0 for a score, until it ends."""
    parameters = initial_values(make_parameters(config, config.make_searcher()))
    found: list[int] = []
    for completed in range(children):
        rng = random.Random(completed)
        view = View(parameters=parameters, completed=completed, history=tuple, pending=tuple, rng=rng)
        asked = searcher.ask(1, view)
        if not asked:
            break
        job = asked[0].job
        found.append(job.count if isinstance(job, Steps) else 0)
    return found


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("darts-digits", ()),
        ("snas-digits", ("--steps-per-child", 13, "--max-children", 60)),
        ("proxyless-digits", ()),
        ("enas-macro-digits", ("--search-epochs", 2, "--policy-children", 3, "--steps-per-epoch", 45)),
        ("one-shot-digits", ("--supernet-steps", 130)),
        ("smash-digits", ("--supernet-steps", 130)),
    ],
)
def test_the_stand_in_proposes_the_jobs_of_the_searcher_in_their_order(recipe: str, flags: tuple[Any, ...]) -> None:
    config = run(recipe, *flags)
    real = jobs(config.make_searcher(), config, 70)
    assert 0 in real and any(real)
    assert jobs(fake_searcher(config), config, 70) == real


def test_one_worker_takes_the_time_of_all_steps_and_scores() -> None:
    figures = simulated(run())
    assert figures.seconds == pytest.approx(EPOCHS * (30 + 7))
    assert figures.steps is not None
    assert (figures.steps.steps, figures.steps.per_second, figures.steps.seconds) == pytest.approx((300, 1.0, 1.0))
    assert (figures.steps.computing_share, figures.steps.shards_share) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_two_workers_share_the_steps_of_an_epoch_and_wait_for_its_score() -> None:
    figures = simulated(run("darts-digits", "--children", 2))
    assert figures.seconds == pytest.approx(EPOCHS * (15 + 7))
    assert figures.steps is not None
    assert figures.steps.staleness == pytest.approx(1.0)  # the other's step
    assert figures.utilisation == pytest.approx((30 + 7) / (2 * (15 + 7)))


def test_steps_that_a_preempted_worker_has_made_are_not_made_again() -> None:
    model = replace(MODEL, preempted_per_s=1 / 100, replace_after_s=5.0)
    figures = simulated(run(), model)
    assert figures.steps is not None
    assert figures.preempted > 2
    assert 300 <= figures.steps.steps < 300 + figures.preempted  # less than a step is lost with each
    assert figures.lost_hours * 3600 < figures.preempted * 7.0


def test_a_shard_that_is_busy_all_the_time_sets_the_pace() -> None:
    """A hundred steps of a second at once, each of which takes the one shard 50 ms: 20 a second are made."""
    traffic = StepTraffic(pulls=0, pushes=0, pulled_bytes=0.05 / 0.54e-9, pushed_bytes=0)
    config = run("darts-digits", "--children", 100, "--steps-per-child", 3, "--steps-per-epoch", 300, *MANY)
    figures = simulated(config, replace(MODEL, traffic=traffic))
    assert figures.steps is not None
    assert figures.steps.max_per_second == pytest.approx(20)
    assert figures.steps.per_second == pytest.approx(20, rel=0.05)
    assert figures.steps.shard_busy == pytest.approx(1.0, abs=0.05)
    more = replace(config, weights=replace(config.weights, weights_shards=8))
    faster = simulated(more, replace(MODEL, traffic=traffic))
    assert faster.steps is not None
    assert faster.steps.per_second > 3 * figures.steps.per_second


def test_more_children_than_a_ledger_records_are_told() -> None:
    config = replace(run("digits"), max_children=320)
    for seconds, told in ((1.0, True), (10.0, False)):
        model = ClusterModel(child_seconds=ChildSeconds("constant", seconds))
        config = replace(config, topology=replace(config.topology, replicas=20, children=8))
        figures = compute_figures(config, simulate_search(config, model))
        report = SimulationReport(recipe="digits", config=config, times="", figures=figures, price=None)
        assert ("ledger" in dict(lines(report))) == told


def test_more_shards_of_the_weights_are_among_what_might_help() -> None:
    flags = [variant.flags for variant in variants(run(), MODEL)]
    assert "--weights-shards 2" in flags
    assert not any("weights" in variant.flags for variant in variants(run("digits"), replace(MODEL, traffic=None)))
