"""`nascluster finish` on small searches of digits: what is trained, how, and what happens in between."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.tasks.image import ImageTask
from cluster.monitoring.status import read_used
from cluster.runners import trainer
from cluster.storage.object_store.working_copy import working_copy
from cluster.storage.run_folder import RunFolder
from tests.cluster.finish.searches import (
    SEARCH,
    Interrupted,
    change,
    count,
    finish,
    recorded_tests,
    rows,
)
from tests.command_line import nascluster


def test_each_network_is_trained_with_the_settings_that_were_best_for_it(finished: Path) -> None:
    tried = rows(finished, "search-grid", "SELECT tokens, metric FROM children ORDER BY metric DESC, id")
    assert sorted(json.loads(tokens) for tokens, _ in tried) == [[i, j, 0, 0] for i in (0, 1) for j in (0, 1)]
    first = {json.loads(tokens)[0]: (json.loads(tokens), metric) for tokens, metric in reversed(tried)}
    best = sorted(first.values(), key=lambda item: -item[1])
    grid = RunFolder(finished / "search-grid").read_config().search_space
    final = RunFolder(finished / "search-final").read_config()
    assert final.search_space.networks == tuple(grid.decode(tokens) for tokens, _ in best)
    assert [
        json.loads(row[0]) for row in rows(finished, "search-final", "SELECT tokens FROM children ORDER BY id")
    ] == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ]


def test_the_regime_is_that_of_final_trainings(finished: Path) -> None:
    grid, final = (RunFolder(finished / f"search-{name}").read_config() for name in ("grid", "final"))
    assert (final.budget.epochs, final.budget.train_fraction, final.budget.regime.schedule) == (2, 1.0, "cosine")
    assert grid.budget == final.budget
    assert (grid.task.all_training, final.task.all_training) == (False, True)
    assert final.ceilings.max_hours is None
    assert final.failures.child_timeout is None
    for config, images in ((grid, 937), (final, 1437)):
        task = trainer.loaded_task(config.task, seed=0)
        assert isinstance(task, ImageTask)
        assert (len(task.training), len(task.validation)) == (images, 500)


def test_without_a_grid_the_order_is_that_of_the_search(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    assert finish(tmp_path, "--seeds", 1, "--epochs", 1, "--batch-size", 128) == 0
    found = rows(tmp_path, "search", "SELECT architecture_id FROM children ORDER BY reward DESC, id")
    assert rows(tmp_path, "search-final", "SELECT architecture_id FROM children ORDER BY id") == found
    assert not (tmp_path / "search-grid").exists()
    assert len(recorded_tests(tmp_path)) == 3  # `--top` is 5 where there are as many


def test_several_grids_are_joined_and_a_final_run_without_them_is_seen_first(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    short = ("--top", 1, "--seeds", 1, "--epochs", 1, "--batch-size", 128)
    grids = ("--grid", "learning-rate=.1,.02", "--epochs", 1, "--grid=momentum=.9,.8")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", Interrupted(trainer.train, at=(2,)))
        assert finish(tmp_path, *short, *grids) == 130
    settings = RunFolder(tmp_path / "search-grid").read_config().space_options.settings
    assert settings == ("learning-rate=.1,.02", "momentum=.9,.8")
    capfd.readouterr()
    assert finish(tmp_path, *short) == 0
    assert "`--grid` is left out: what the run 'search-grid' has found of settings is not used" in (
        " ".join(capfd.readouterr().err.split())
    )
    trained = count(tmp_path, "search-grid")
    assert finish(tmp_path, *short, *grids) == 2
    assert "the run 'search-final' has begun without this grid search" in capfd.readouterr().err
    assert count(tmp_path, "search-grid") == trained == [(1,)]


def test_a_grid_keeps_the_order_of_a_search_with_other_objectives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    targets = ("--objective", "parameters=min", "--target", "parameters=1k", "--target-weights", "-1", "-1")
    assert nascluster(*SEARCH, *targets, "--storage-path", tmp_path) == 0
    words = ("--top", 2, "--seeds", 1, "--epochs", 1, "--batch-size", 128, "--grid", "momentum=.9")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", Interrupted(trainer.train, at=(3,)))
        assert finish(tmp_path, *words) == 130
    change(tmp_path, "search-grid", "UPDATE children SET metric = 1e-3, reward = 1e-3 WHERE tokens LIKE '[0,%'")
    capfd.readouterr()
    assert finish(tmp_path, *words) == 0
    assert "The order is that of the rewards of the search." in capfd.readouterr().out
    found = rows(tmp_path, "search", "SELECT architecture_id FROM children ORDER BY reward DESC, id LIMIT 2")
    networks = RunFolder(tmp_path / "search-final").read_config().search_space.networks
    assert [(replace(network, hyperparameters=()).id,) for network in networks] == found


def test_a_finish_that_has_begun_ends_with_its_networks_when_the_search_has_changed(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    words = ("--top", 2, "--seeds", 1, "--epochs", 1, "--batch-size", 128)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", Interrupted(trainer.train, at=(2,)))
        assert finish(tmp_path, *words) == 130
    (first,), _, (last,) = rows(tmp_path, "search", "SELECT id FROM children ORDER BY reward DESC, id")
    change(tmp_path, "search", f"UPDATE children SET reward = 1, metric = 1 WHERE id = {last}")
    capfd.readouterr()
    assert finish(tmp_path, *words) == 0
    said = capfd.readouterr()
    assert "the networks stay those that were begun with" in " ".join(said.err.split())
    assert f"child {first} of search" in said.out
    assert f"child {last} of search" not in said.out
    change(tmp_path, "search", f"DELETE FROM children WHERE id = {first}")
    assert finish(tmp_path, *words) == 2
    message = capfd.readouterr().err
    assert "other networks than those that are now the best of the search, which has changed since" in message
    assert "nascluster remove" not in message


def test_a_stage_that_has_ended_at_a_ceiling_goes_on_with_a_higher_one(
    searched: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    words = ("--seeds", 1, "--epochs", 1, "--batch-size", 128)
    assert finish(tmp_path, *words, "--max-hours", 1e-9) == 1
    assert "0 of 3 trainings of the run 'search-final' have ended, at its ceiling: the same command with a" in (
        capfd.readouterr().err
    )
    assert finish(tmp_path, *words, "--max-hours", 1e-9) == 1
    assert finish(tmp_path, *words, "--max-hours", 1) == 0
    assert len(recorded_tests(tmp_path)) == 3


def test_a_search_in_an_object_store_is_finished_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The tests are in the store before they are printed: without this machine's copies nothing is lost."""
    place = f"file://{tmp_path}/store"
    assert nascluster(*SEARCH, "--storage-path", place) == 0
    words = ("finish", "search", "--storage-path", place, "--top", 1, "--seeds", 1, "--epochs", 1, "--json")
    capfd.readouterr()
    assert nascluster(*words) == 0
    told = capfd.readouterr().out
    shutil.rmtree(working_copy(place, "search-final").path.parent)
    assert nascluster(*words) == 0
    assert capfd.readouterr().out == told
    assert json.loads(told)["networks"][0]["test"]["mean"] > 0


def test_a_grid_search_uses_of_the_ceiling_and_the_final_trainings_have_what_is_left(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    words = ("--top", 1, "--seeds", 1, "--epochs", 1, "--batch-size", 128, "--grid", "momentum=.9", "--max-hours")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", Interrupted(trainer.train, at=(2,)))
        assert finish(tmp_path, *words, 10) == 130  # the grid search has ended, and the second run has begun
    change(tmp_path, "search-grid", "UPDATE run SET value = 10800.0 WHERE key = 'seconds_before'")
    used = read_used(RunFolder(tmp_path / "search-grid"), 0.0).hours
    assert 3 <= used < 3.1
    capfd.readouterr()
    assert finish(tmp_path, *words, 3) == 1
    said = capfd.readouterr().err
    assert "the run 'search-grid' has used 3" in said
    assert "of 3 hours, and nothing is left for the final trainings: the same command with a higher `--max-hours`" in (
        said
    )
    assert finish(tmp_path, *words, 5) == 0
    assert RunFolder(tmp_path / "search-final").read_config().ceilings.max_hours == 5 - used
    assert finish(tmp_path, *words, 3) == 0  # it tells what is recorded
