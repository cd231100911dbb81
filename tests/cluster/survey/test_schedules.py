"""A schedule that follows the number of children is fitted to a budget."""

from dataclasses import replace

import pytest

from cluster.config.recipes import RECIPES
from cluster.config.run_checks import MAX_CHILDREN
from cluster.config.run_config import RunConfig
from cluster.survey.schedules import TRAINED, Work, cost, costs, fit_text, fitted, open_ended, probe, scaled, works
from controller.searcher import shared_weights_of

SHARED = [
    *("enas-macro-digits", "enas-micro-digits", "one-shot-digits", "smash-digits", "darts-digits", "snas-digits"),
    "proxyless-digits",
]
TRAINING = ["pnas-digits", "metaqnn-digits", "eas-digits", "eas-dense-digits", "amoebanet-digits", "hnas-digits"]
UNIT_S = {
    **{"steps": 0.02, "steps of the weights alone": 0.01, "score": 0.1, "score of the weights alone": 0.1},
    **{"score at last": 0.2, TRAINED: 1.5},
}


def recipe(name: str) -> RunConfig:
    return RECIPES[name]()


@pytest.mark.parametrize("name", [*SHARED, *TRAINING])
def test_a_probe_has_a_few_children_of_each_kind(name: str) -> None:
    config = recipe(name)
    probing = probe(config)
    assert probing is not None
    assert probing.max_children <= 10
    kinds = {work.kind for work in works(probing)}
    assert kinds == {work.kind for work in works(config)}
    assert shared_weights_of(probing.make_searcher()) == shared_weights_of(config.make_searcher())


@pytest.mark.parametrize("name", ["digits", "nasnet-digits", "seed-agem-digits", "path-eas-digits"])
def test_other_searches_have_no_schedule_and_go_on(name: str) -> None:
    config = recipe(name)
    assert probe(config) is None
    assert open_ended(config) == replace(config, max_children=MAX_CHILDREN)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("factor", [0.01, 0.5, 1.0, 3.0])
def test_the_cost_of_a_search_is_the_sum_over_its_children(name: str, factor: float) -> None:
    config = scaled(recipe(name), factor)
    assert cost(config, UNIT_S) == pytest.approx(sum(work.amount * UNIT_S[work.kind] for work in works(config)))


@pytest.mark.parametrize("name", SHARED)
def test_as_long_as_in_the_named_run_is_the_named_run(name: str) -> None:
    config = recipe(name)
    assert scaled(config, 1.0) == config
    assert fit_text(config, config) == ""


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("seconds", [10.0, 100.0, 5_000.0])
def test_a_fitted_search_is_the_longest_within_the_budget(name: str, seconds: float) -> None:
    found = fitted(recipe(name), UNIT_S, seconds)
    assert 0.6 * seconds < cost(found, UNIT_S) <= seconds
    found.make_searcher()  # its options fit the number of children
    assert fit_text(found, recipe(name))


@pytest.mark.parametrize("name", SHARED)
def test_the_shortest_search_is_a_whole_one(name: str) -> None:
    found = fitted(recipe(name), UNIT_S, 0.0)
    assert {work.kind for work in works(found)} == {work.kind for work in works(recipe(name))}


def test_schedules_of_trained_children_follow_their_number() -> None:
    seconds = 61 * UNIT_S[TRAINED]
    assert fitted(recipe("metaqnn-digits"), UNIT_S, seconds).searcher_options.schedule_models == 61
    assert fitted(recipe("pnas-digits"), UNIT_S, seconds).searcher_options.beam == 20  # 21 of one block, and two levels
    assert fitted(recipe("eas-digits"), UNIT_S, seconds).searcher_options.stage_children == (30, 30)
    assert fitted(recipe("pnas-digits"), UNIT_S, 1.0).searcher_options.beam == 1
    assert (
        fit_text(fitted(recipe("eas-digits"), UNIT_S, seconds), recipe("eas-digits")) == "stages of 30 and 30 children"
    )


def test_what_is_random_at_first_is_a_third_of_the_search_at_most() -> None:
    evolution = recipe("amoebanet-digits")
    few = fitted(evolution, UNIT_S, 15 * UNIT_S[TRAINED]).searcher_options
    assert (few.population, few.tournament) == (5, 2)
    many = fitted(evolution, UNIT_S, 1_000.0)
    assert many.searcher_options == evolution.searcher_options
    assert fit_text(many, evolution) == ""
    surrogate = recipe("nasnet-digits").with_searcher("bayesian")
    assert fitted(surrogate, UNIT_S, 12 * UNIT_S[TRAINED]).searcher_options.random_starts == 4
    assert fitted(surrogate, UNIT_S, 1_000.0).searcher_options == surrogate.searcher_options


def test_costs_are_per_unit() -> None:
    done = [(Work("steps", 10), 1.0), (Work("steps", 30), 3.0), (Work("score", 1), 0.2), (Work("score", 1), 0.4)]
    assert costs(done) == {"steps": pytest.approx(0.1), "score": pytest.approx(0.3)}
