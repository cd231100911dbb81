"""What a launch says a search would take, before any child has ended."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Budget
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.language import LanguageTask
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.runners.cost_estimate import announce, estimate
from cluster.storage.find_run import run_folder
from tests.real_data import real

DAY_S = 86_400


def seconds(config: RunConfig, *, gpu: bool = False) -> float:
    found = estimate(config, gpu=gpu)
    assert found is not None
    return found.seconds


def test_the_papers_searches_take_days_a_child_on_a_core_and_less_on_a_gpu() -> None:
    for recipe in ("zoph2017-cifar10", "zoph2017-ptb"):
        config = RECIPES[recipe]()
        assert 0.1 * DAY_S < seconds(config) < 30 * DAY_S, recipe
        assert seconds(config, gpu=True) < seconds(config) / 10


def test_it_is_of_the_right_size_for_a_search_of_minutes() -> None:
    """A child of `make demo` takes some two seconds on a core."""
    assert 0.5 < seconds(RECIPES["digits"]()) < 10
    assert 1 < seconds(RECIPES["text-rnn"]()) < 30


def test_it_scales_with_the_budget_and_ends_with_the_timeout() -> None:
    config = RECIPES["cifar10"]()
    whole = seconds(replace(config, budget=Budget(epochs=10)))
    assert seconds(replace(config, budget=Budget(epochs=5, train_fraction=0.5))) == pytest.approx(whole / 4)
    assert seconds(replace(config, failures=FailureOptions(child_timeout="60s"))) == 60
    assert seconds(replace(config, budget=Budget(max_seconds=30.0))) == 30


def test_children_that_pretend_take_what_they_are_told_to_and_tables_take_nothing() -> None:
    options = SyntheticOptions(child_seconds=7.0)
    assert seconds(RunConfig(task=TaskOptions(task="synthetic", options=options))) == 7
    for recipe in ("synthetic", "nasbench201", "rehearsal"):
        assert estimate(RECIPES[recipe](), gpu=False) is None


def test_a_long_search_is_announced_and_kept_for_readers(tmp_path: Path) -> None:
    folder, told = run_folder(tmp_path, "demo"), []
    config = RECIPES["zoph2017-cifar10"]()
    folder.create(config)
    announce(config, folder, 2, told.append, gpu=False)
    (text,) = told
    assert "the search takes about" in text
    assert "years on 2 workers: 12,800 children of about" in text
    assert "--max-children, --epochs" in text
    assert json.loads(folder.estimate.read_text())["child_seconds"] == seconds(config)


def test_a_short_search_is_not_announced(tmp_path: Path) -> None:
    folder, told = run_folder(tmp_path, "demo"), []
    config = RECIPES["digits"]()
    folder.create(config)
    announce(config, folder, 2, told.append, gpu=False)
    assert told == []
    assert folder.estimate.exists()


def test_the_catalogue_knows_how_much_a_task_trains_on() -> None:
    digits, text = load_task("digits"), load_task("text")
    assert isinstance(digits, ImageTask)
    assert isinstance(text, LanguageTask)
    assert TaskOptions(task="digits").entry.examples == len(digits.training.labels)
    assert TaskOptions(task="text").entry.examples == pytest.approx(len(text.training), rel=0.05)
    fashion = load_task("fashion-mnist", data=real("fashion-mnist"))
    assert isinstance(fashion, ImageTask)
    assert TaskOptions(task="fashion-mnist").entry.examples == len(fashion.training.labels)
