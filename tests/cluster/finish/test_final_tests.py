"""The looks of finished networks at the test images: one each, recorded before it is printed."""

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

from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.tasks.catalogue import load_test
from child_trainer.tasks.image import ImageTask
from cluster.finish import final_test
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
from tests.cluster.finish.searches import SEARCH, copied, finish, recorded_tests, without_tests
from tests.command_line import nascluster


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
    with pytest.raises(ValueError, match=r"cannot be recorded in .*disk is full\), so that it is not shown"):
        look_once(ledger, folder, network, ImageJudge(config))
    ledger.close()
    assert recorded_tests(tmp_path) == []


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
