"""What a survey searches with, and how it is asked for."""

import pytest

from cluster.config.flags import UsageError, parse_run
from cluster.config.recipes import RECIPES, SYSTEMS
from cluster.config.run_checks import MAX_CHILDREN
from cluster.survey.plan import RETRAINING, Request, estimate, flags_of, make_plan, retraining
from cluster.survey.schedules import probe
from cluster.survey.systems import SURVEYED


def request(*systems: str, task: str = "digits", seeds: int = 2) -> Request:
    return Request(task=task, budget_s=60.0, seeds=seeds, systems=systems, data="images")


def test_every_system_of_images_has_a_place() -> None:
    searched = {surveyed.recipe for surveyed in SURVEYED.values()}
    assert searched == {name for name in RECIPES if name == "digits" or name.endswith("-digits")}
    assert all(surveyed.source for surveyed in SURVEYED.values())
    papers = {system.paper for system in SYSTEMS}
    assert all(
        surveyed.paper or any(paper.startswith(surveyed.source) for paper in papers) for surveyed in SURVEYED.values()
    )


def test_the_searches_of_the_first_seed_come_first_and_spaces_share_random_search() -> None:
    plan = make_plan(request("nasnet", "bayesian", "darts", "snas"))
    names = ["nasnet", "random-nasnet", "bayesian", "darts", "random-darts", "snas"]
    assert [cell.name for cell in plan.cells] == [f"{name}-{seed}" for seed in (1, 2) for name in names]
    assert plan.rivals == {
        "nasnet": "random-nasnet",
        "bayesian": "random-nasnet",
        "darts": "random-darts",
        "snas": "random-darts",
    }
    by_name = {cell.name: cell.recipe for cell in plan.cells}
    assert by_name["bayesian-2"].searcher == "bayesian"
    assert by_name["random-darts-1"].searcher == "random"
    assert by_name["random-darts-1"].budget.epochs == 10
    assert by_name["random-nasnet-1"].budget == by_name["nasnet-1"].budget
    assert by_name["random-nasnet-1"].max_children == MAX_CHILDREN
    assert {recipe.seed for name, recipe in by_name.items() if name.endswith("2")} == {2}


@pytest.mark.parametrize("word", SURVEYED)
def test_every_system_takes_larger_images(word: str) -> None:
    (cell, rival) = make_plan(request(word, task="fashion-mnist", seeds=1)).cells
    assert cell.recipe.task.task == ("fashion-mnist-subnetworks" if word == "seed-agem" else "fashion-mnist")
    assert cell.recipe.budget.train_fraction == 0.05
    assert cell.recipe.search_space == rival.recipe.search_space
    assert getattr(cell.recipe.search_space, "image_size", 28) == 28
    cell.recipe.make_searcher()
    assert probe(rival.recipe) is None


def test_all_winners_are_trained_alike_whatever_their_search_did() -> None:
    for name in ("metaqnn-digits", "darts-digits", "digits"):
        config = RECIPES[name]()
        assert parse_run(config, flags_of(retraining(config, 7)), name).budget == retraining(config, 7)
        assert retraining(config, 7).learning_rate == RETRAINING.learning_rate
    assert retraining(RECIPES["seed-agem-digits"](), 7).learning_rate == 1.0


def test_the_estimate_counts_what_is_left() -> None:
    plan = make_plan(Request(task="digits", budget_s=1800.0, seeds=3, systems=("nas", "darts", "snas")))
    assert estimate(plan.cells[5:], plan, 2) == (
        "3 systems and random search in 2 spaces, 3 seeds: 10 searches of 30 min 00 s of a core each, about 2 h 30 min"
        " on 2 cores, and the training of each winner for 20 epochs after it"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "cifar10"}, "unknown task of a survey 'cifar10'"),
        ({"systems": ("dart",)}, "unknown system 'dart'; there are nas,"),
        ({"systems": ("nas", "nas")}, "the system 'nas' is named twice"),
        ({"seeds": 0}, "`--seeds` must be 1 to 1,000, got 0"),
        ({"retrain_epochs": 0}, "`--retrain-epochs` must be 1 to 100,000, got 0"),
    ],
)
def test_what_cannot_be_asked(changes: dict[str, object], said: str) -> None:
    with pytest.raises((UsageError, ValueError)) as error:
        Request(**({"task": "digits", "budget_s": 60.0, "seeds": 1} | changes))  # pyright: ignore[reportArgumentType]
    assert said in str(error.value)
