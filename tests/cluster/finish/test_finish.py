"""`nascluster finish` on small searches of digits: grid search, final trainings, one look at the test images each."""

import json
import shlex
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from child_trainer.__main__ import main as train_by_hand
from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.tasks.catalogue import load_test
from child_trainer.tasks.image import ImageTask
from cluster.export.formats import facts_in
from cluster.finish import final_test
from cluster.finish import finish as finishing
from cluster.finish.final_test import AlreadyTested, look_once
from cluster.finish.judges import ImageJudge
from cluster.pool.child_weights import WeightsFolder, load_weights, weights_file
from cluster.runners import trainer
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.final_tests import final_tests, finished_networks
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store import mirror_thread
from cluster.storage.object_store.mirror import Mirror
from cluster.storage.object_store.working_copy import working_copy
from cluster.storage.run_folder import RunFolder
from tests.command_line import nascluster
from tests.extending.files import FILES

SEARCH = (
    *("launch", "digits", "--local", "--searcher", "random", "--replicas", "1", "--children", "3", "--epochs", "1"),
    *("--train-fraction", "0.2", "--num-filters", "4", "6", "8", "--max-children", "3", "--seed", "2"),
    *("--max-hours", "1", "--child-timeout", "60s", "--name", "search"),
)

WORDS = (
    *("--top", "2", "--seeds", "2", "--epochs", "2", "--batch-size", "128"),
    *("--grid", "learning-rate=.1,.02", "norm-epsilon=1e-3"),
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `search`."""
    place = tmp_path_factory.mktemp("runs")
    assert nascluster(*SEARCH, "--storage-path", place) == 0
    return place


@pytest.fixture(scope="module")
def finished(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that folder, where the search is finished, after an interruption in each of its stages."""
    place = tmp_path_factory.mktemp("finished")
    shutil.copytree(searched, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        interrupted = Interrupted(trainer.train, at=(3, 8))
        patch.setattr(trainer, "train", interrupted)
        assert finish(place) == 130
        assert count(place, "search-grid") == [(2,)]
        assert finish(place) == 130
        assert (count(place, "search-grid"), count(place, "search-final")) == ([(4,)], [(2,)])
        record = Interrupted(Ledger.record_test, at=(2,))
        patch.setattr(Ledger, "record_test", lambda *words: record(*words))  # noqa: PLW0108  (a method)
        assert finish(place) == 130
        assert len(recorded_tests(place)) == 1
        assert finish(place) == 0
        assert interrupted.calls == 10  # eight trainings, of which two were interrupted
    return place


class Interrupted:
    """A function whose calls of these numbers are interrupted, as by Ctrl-C."""

    def __init__(self, function: Callable[..., Any], at: tuple[int, ...]) -> None:
        self._function, self._at, self.calls = function, at, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls in self._at:
            raise KeyboardInterrupt
        return self._function(*arguments, **options)


def finish(place: Path, *words: object) -> int:
    return nascluster("finish", "search", "--storage-path", place, *(words or WORDS))


def rows(place: Path, name: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / name / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


def count(place: Path, name: str) -> list[tuple[Any, ...]]:
    return rows(place, name, "SELECT count(*) FROM children WHERE state = 'finished'")


def recorded_tests(place: Path) -> list[float]:
    with reading(RunFolder(place / "search-final")) as db:
        return [test.metric for test in final_tests(db).values()]


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


def test_the_test_accuracy_is_that_of_the_weights_that_are_kept(finished: Path) -> None:
    folder = RunFolder(finished / "search-final")
    with reading(folder) as db:
        networks, tests = finished_networks(db), final_tests(db)
    assert sorted(tests) == [network.child_id for network in networks] == [1, 2, 3, 4]
    task = trainer.loaded_task(folder.read_config().task, seed=0)
    assert isinstance(task, ImageTask)
    for network in networks:
        assert network.weights is not None
        kept = weights_file(folder.child_weights, network.child_id, network.weights)
        weights = TrainedWeights.from_bytes(kept.read_bytes())
        assert dict(weights.architecture.hyperparameters)["norm_epsilon"] == 1e-3
        assert ImageJudge(folder.read_config())(weights) == tests[network.child_id].metric
        assert (tests[network.child_id].weights, tests[network.child_id].examples) == (weights.checksum, 360)
    assert len(load_test("digits")) == 360


def test_the_first_network_is_exported_once(finished: Path) -> None:
    """It is the first of the table: chosen by neither test images nor those that it has seen."""
    (file,) = (finished / "search-final" / "exports").glob("*.pt2")
    written = file.stat().st_mtime_ns
    assert finish(finished) == 0
    assert file.stat().st_mtime_ns == written
    text = Path(f"{file}.README.md").read_text()
    assert "Child 1 of the run search-final" in text
    # An export that names no child takes the same one.
    words = ("export", "search-final", "--format", "safetensors", "--storage-path", finished)
    assert nascluster(*words) == 0
    assert (file.parent / "child-1.safetensors").exists()
    assert f"| test accuracy | {recorded_tests(finished)[0]:.4f} |" in text
    assert "| validation accuracy | none: these images were trained on |" in text


def test_a_second_look_is_refused(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    folder = RunFolder(tmp_path / "search-final")
    config, before = folder.read_config(), recorded_tests(tmp_path)
    with reading(folder) as db:
        network = finished_networks(db)[1]

    class Forbidden(ImageJudge):
        def __call__(self, weights: TrainedWeights) -> float:
            raise AssertionError("it must not look")

    ledger = Ledger(folder.ledger, config.seed, config.max_children)
    for _ in range(2):
        with pytest.raises(AlreadyTested, match=r"child 2 of the run 'search-final' was tested at .* and reached 0\."):
            look_once(ledger, folder, network, Forbidden(config))
    ledger.close()
    assert finish(tmp_path) == 0  # it tells what is recorded
    assert f"{before[1]:.4f}" in capfd.readouterr().out
    assert recorded_tests(tmp_path) == before


def test_a_test_is_recorded_before_it_is_told(finished: Path, tmp_path: Path) -> None:
    """Where the record cannot be written, the metric leaves `look_once` in no way."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    folder = RunFolder(tmp_path / "search-final")
    with closing(sqlite3.connect(folder.ledger)) as db, db:
        db.execute("DELETE FROM run WHERE key LIKE 'test of child %'")
        db.execute("CREATE TRIGGER full BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    config = folder.read_config()
    ledger = Ledger(folder.ledger, config.seed, config.max_children)
    with reading(folder) as db:
        network = finished_networks(db)[0]
    with pytest.raises(ValueError, match=r"cannot be recorded in .*disk is full\), so that it is not told"):
        look_once(ledger, folder, network, ImageJudge(config))
    ledger.close()
    assert recorded_tests(tmp_path) == []


def test_what_it_prints(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert finish(finished) == 0
    text = capfd.readouterr().out
    assert "Networks of the run search, trained on all training data for 2 epochs (run search-final)" in text
    exported = finished / "search-final" / "exports" / "child-1.pt2"
    assert f"The first is in {exported}, which loads without nascluster" in text
    assert f"To export it in another format: nascluster export search-final --storage-path {finished} 1" in text
    assert finish(finished, *WORDS, "--json") == 0
    data = json.loads(capfd.readouterr().out)
    assert (data["test_images"], data["child"], data["left_out"], data["file"]) == (360, 1, [], str(exported))
    trained = [one for network in data["networks"] for one in network["trainings"]]
    assert [one["test"] for one in trained] == recorded_tests(finished)
    assert data["networks"][0]["validation"] >= data["networks"][1]["validation"]
    for command in ("status", "children", "report"):
        assert nascluster(command, "search-final", "--storage-path", finished) == 0
    capfd.readouterr()
    assert nascluster("best", "search-final", "--storage-path", finished) == 0
    told = capfd.readouterr().out
    assert "It has trained on the validation images, too" in told
    assert "test accuracy 0." in told
    assert "--all-training" in told


def test_a_finished_network_is_exported_with_its_test_accuracy(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.safetensors"
    words = ("export", "search-final", 1, "--format", "safetensors", "--out", file, "--storage-path", finished)
    assert nascluster(*words) == 0
    text = Path(capfd.readouterr().out.splitlines()[-1]).read_text()
    assert f"| test accuracy | {recorded_tests(finished)[0]:.4f} |" in text
    assert "| validation accuracy | none: these images were trained on |" in text


def test_the_command_that_best_prints_trains_the_same_network_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On the validation images, too, and with the settings that the grid search has chosen."""
    capfd.readouterr()
    assert nascluster("best", "search-final", "--storage-path", finished) == 0
    command = next(line for line in capfd.readouterr().out.splitlines() if "python -m child_trainer" in line)
    assert nascluster("best", "search-final", "--storage-path", finished, "--json") == 0
    best = capfd.readouterr().out
    (tmp_path / "best.json").write_text(best)
    monkeypatch.chdir(tmp_path)
    assert train_by_hand([*shlex.split(command)[3:], "--json"]) == 0
    again = json.loads(capfd.readouterr().out)
    child = json.loads(best)["child_id"]
    curves = rows(finished, "search-final", f"SELECT json_extract(outcome, '$.curve') FROM children WHERE id = {child}")
    assert curves == [(json.dumps(again["curve"], separators=(",", ":")),)]


def test_without_a_grid_the_order_is_that_of_the_search(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    assert finish(tmp_path, "--seeds", 1, "--epochs", 1, "--batch-size", 128) == 0
    found = rows(tmp_path, "search", "SELECT architecture_id FROM children ORDER BY reward DESC, id")
    assert rows(tmp_path, "search-final", "SELECT architecture_id FROM children ORDER BY id") == found
    assert not (tmp_path / "search-grid").exists()
    assert len(recorded_tests(tmp_path)) == 3  # `--top` is 5 where there are as many


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "0"), "`--top` must be at least 1, got 0"),
        (("--top", "4"), "the run 'search' has 3 different architectures with a reward: `--top` must be at most 3"),
        (("--seeds", "0"), "`--seeds` must be at least 1, got 0"),
        (("--grid",), "`--grid` needs settings to try, such as learning-rate=.2,.1,.05"),
        (("--grid", "warmth=1"), "`--grid`: there is no setting 'warmth'"),
        (("--grid", "learning-rate=.1", "learning-rate=.2"), "`--grid`: `settings` must be different ones"),
        (("--grid", "cutout=2,8"), "`--grid`: cutout cannot be 8: `cutout` must be below 8, the side of the task's"),
        (
            ("--grid", "warmup-epochs=6"),
            "`--grid`: warmup-epochs cannot be 6: `warmup_epochs` must be at most `epochs`",
        ),
        (
            ("--grid", "decay=.1,.2"),
            "`--grid`: decay changes no training here: the schedule cosine has no such setting",
        ),
        (("--grid", "decay-every=1,2", "decay-at=.5"), "decay-every changes no training here: the schedule steps has"),
        (("--grid", "rmsprop-decay=.8,.9"), "the optimizer sgd has no such setting, only rmsprop"),
        (("--grid", "path-keep=.8,.9"), "it concerns networks with the operation drop_path"),
        (("--grid", "auxiliary-weight=.2,.4"), "it concerns networks with an auxiliary head"),
        (("--grid", "momentum=.9,.8", "--optimizer", "adam"), "only sgd and rmsprop"),
        (
            ("--grid", "momentum=.9", "--top", "1", "--grid", "momentum=.8"),
            "must be different ones, got momentum twice",
        ),
        (("--epochs", "0"), "`epochs` must be at least 1, got 0"),
        (("--task", "cifar10"), "`task` of the final trainings follows from the run 'search': leave it out"),
        (("--searcher", "random"), "`searcher` of the final trainings follows from the run 'search': leave it out"),
        (("--early-stop", "median"), "`finish` trains each network to its last epoch: leave it out"),
        (("--nonsense", "3"), "Unrecognized options: --nonsense"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    searched: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    capfd.readouterr()
    assert finish(searched, *words) == 2
    said = capfd.readouterr()
    assert message in said.err
    assert not said.out
    assert [path.name for path in searched.iterdir()] == ["search"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "1", *WORDS[2:]), "the run 'search-grid' has begun with other networks or settings"),
        (
            ("--top", "2", "--seeds", "3", *WORDS[4:]),
            "the run 'search-final' has begun with other networks or settings",
        ),
        ((*WORDS, "--epochs", "3"), "the run 'search-grid' has begun with another budget: give the same flags"),
        ((*WORDS[:8], "--grid", "momentum=.9,.8"), "the run 'search-grid' has begun with other networks or settings"),
        (WORDS[:8], "the run 'search-final' has begun with other networks or settings"),
    ],
)
def test_what_has_begun_is_not_changed(
    finished: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    capfd.readouterr()
    assert finish(finished, *words) == 2
    assert message in capfd.readouterr().err


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


def change(place: Path, name: str, statement: str) -> None:
    with closing(sqlite3.connect(place / name / "ledger.sqlite")) as db, db:
        db.execute(statement)


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


def test_runs_that_cannot_be_finished(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert finish(tmp_path) == 2
    assert "no run named 'search'" in capfd.readouterr().err
    words = ("launch", "synthetic", "--local", "--searcher", "random", "--max-children", "2", "--name", "search")
    assert nascluster(*words, "--storage-path", tmp_path) == 0
    assert finish(tmp_path) == 2
    assert "the task 'synthetic' of the run 'search' is none that has them" in capfd.readouterr().err


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
    """The tests are in the store before they are told: without this machine's copies nothing is lost."""
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


def test_lost_weights_are_said(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with closing(sqlite3.connect(tmp_path / "search-final" / "ledger.sqlite")) as db, db:
        db.execute("DELETE FROM run WHERE key IN ('test of child 3', 'test of child 4')")
    for file in (tmp_path / "search-final" / "child-weights").glob("child-00000003-*"):
        file.unlink()
    capfd.readouterr()
    assert finish(tmp_path) == 1
    told = capfd.readouterr().out
    assert "child 3 of the run 'search-final' cannot be tested: the file of its weights is missing" in told
    assert "3: not tested, 4: 0." in told  # it keeps no other network from its test
    assert len(recorded_tests(tmp_path)) == 3


def test_a_grid_of_failures_chooses_nothing(searched: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    words = ("--top", 1, "--epochs", 1, "--grid", "learning-rate=1e30", "--on-failure", "diverged=drop")
    assert finish(tmp_path, *words) == 2
    assert "every training of the run 'search-grid' has failed" in capfd.readouterr().err
    assert finishing.FINAL == "-final"
    assert not (tmp_path / "search-final").exists()


def copied(finished: Path, place: Path) -> RunFolder:
    """Copy the finished search into a folder, and return its run of final trainings."""
    shutil.copytree(finished, place, dirs_exist_ok=True)
    return RunFolder(place / "search-final")


def without_tests(folder: RunFolder) -> RunFolder:
    """Forget the looks at the test images; return the folder."""
    with closing(sqlite3.connect(folder.ledger)) as db, db:
        db.execute("DELETE FROM run WHERE key LIKE 'test of child %'")
    return folder


def test_a_file_of_other_weights_or_without_the_test_is_written_again(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    file = folder.path / "exports" / "child-1.pt2"
    right = Path(f"{file}.README.md").read_text()
    (others,) = folder.child_weights.glob("child-00000002-*")  # the same network, trained with another seed
    export = ("export", "search-final", 1, "--storage-path", tmp_path)
    assert nascluster(*export, "--weights", others) == 0
    assert "of a training by hand" in Path(f"{file}.README.md").read_text()
    assert finish(tmp_path) == 0
    assert Path(f"{file}.README.md").read_text() == right
    assert facts_in(file)["weights"] in right
    without_tests(folder)
    assert nascluster(*export) == 0
    assert "| test accuracy | not looked at |" in Path(f"{file}.README.md").read_text()
    assert finish(tmp_path) == 0
    assert Path(f"{file}.README.md").read_text() == right
    file.write_bytes(file.read_bytes()[:-100])
    assert finish(tmp_path) == 0
    assert facts_in(file) is not None


def test_nothing_is_told_before_the_object_store_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The store is down when a stage, and then the tests, are written for the last time, and Ctrl-C ends the wait."""
    place = f"file://{tmp_path}/store"
    assert nascluster(*SEARCH, "--storage-path", place) == 0
    words = ("finish", "search", "--storage-path", place, "--top", 1, "--seeds", 1, "--epochs", 1, "--json")
    down: list[bool] = []

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    def refused(mirror: Mirror, written: Callable[..., Any] = Mirror.round) -> None:
        if down:
            raise OSError("the store is down")
        written(mirror)

    def then_down(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            down.append(True)
            return method(*arguments)

        return call

    monkeypatch.setattr(Mirror, "round", refused)
    monkeypatch.setattr(mirror_thread, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
    for method, message in (
        ("end", "the trainings of the run 'search-final' have ended, but"),
        ("record_test", "the tests of the run 'search-final' are on this machine only"),
    ):
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, method, then_down(getattr(Ledger, method)))
            assert nascluster(*words) == 2
        said = capfd.readouterr()
        assert message in said.err
        assert not said.out
        down.clear()
    assert nascluster(*words) == 0
    told = capfd.readouterr().out
    shutil.rmtree(working_copy(place, "search-final").path.parent)
    assert nascluster(*words) == 0
    assert capfd.readouterr().out == told


def test_a_network_whose_outputs_are_not_finite_has_looked(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = without_tests(copied(finished, tmp_path))

    def broken(folder: WeightsFolder, child_id: int, checksum: str) -> TrainedWeights:
        weights = load_weights(folder, child_id, checksum)
        if child_id > 1:
            return weights
        tensors = {name: t * float("nan") if t.is_floating_point() else t for name, t in weights.tensors.items()}
        return replace(weights, tensors=tensors)

    monkeypatch.setattr(final_test, "load_weights", broken)
    capfd.readouterr()
    for _ in range(2):  # the second one tells what is recorded
        assert finish(tmp_path) == 1
        told = capfd.readouterr().out
        assert "child 1 of the run 'search-final' has looked at the test images, and reached nothing: the" in told
        assert "1: the network's outputs are not finite, 2: 0." in told
        assert "Child 2, the first tested one, is in" in told
    with reading(folder) as db:
        tests = final_tests(db)
    assert (sorted(tests), tests[1].metric) == ([1, 2, 3, 4], None)
    assert nascluster("export", "search-final", 1, "--storage-path", tmp_path) == 0
    file = folder.path / "exports" / "child-1.pt2.README.md"
    assert "| test accuracy | none: the network's outputs are not finite |" in file.read_text()


LACKING = [
    (("", ""), "is none that has them"),
    (("", "def load_test(name, data, options, *, device):\n    return 3\n"), "must return test images, `Images(...)`"),
    (("    inherits = False\n", "load_test = load\n"), "its trainings keep no weights, as its attribute `inherits`"),
    (("    on_all_training = None\n", "load_test = load\n"), "it has no function `on_all_training`"),
]


@pytest.mark.parametrize(("parts", "message"), LACKING)
def test_what_a_task_of_ones_own_lacks_is_said_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    parts: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    members, function = parts
    text = FILES["my_task.py"].replace("return ImageTask(", "return Other(")
    text = text.replace(
        "\n\ndef frugal", f"\n\nclass Other(ImageTask):\n    pass\n{members}\n\n{function}\n\ndef frugal"
    )
    Path("other.py").write_text(text)
    words = (*SEARCH[3:9], *SEARCH[11:13], "--max-children", "1", "--name", "search", "--space", "convolutional")
    runs = tmp_path / "runs"
    assert nascluster("launch", "digits", "--task", "other.py:STRIPES", "--local", *words, "--storage-path", runs) == 0
    capfd.readouterr()
    assert finish(runs, "--epochs", 1) == 2
    assert message in capfd.readouterr().err
    assert [path.name for path in runs.iterdir()] == ["search"]
