"""Whole searches in this process whose children are stopped early: one seed, one ledger, also after a kill."""

import json
import shutil
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError

from child_trainer.outcome import Budget, Outcome, Stopped, TrainingSoFar
from child_trainer.training.task import Progress
from cluster.cli.main import run as nascluster
from cluster.compare.one_search import search as compared
from cluster.compare.plan import Limit
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.monitoring.status import read_status
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.runners.early_stopping import early_stopping
from cluster.runners.evaluation.plan import configured
from cluster.runners.on_ray.handles import CALL_TIMEOUT_S
from cluster.runners.on_ray.judging import PoolJudge, RemoteJudging
from cluster.search.evaluator import Assignment
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.compact import OUTCOME_COLUMNS, whole_outcome
from cluster.storage.ledger.queries.metrics import ended_children
from cluster.storage.ledger.reader import reading
from controller.searcher import ChildRecord
from controller.spaces.convolutional import ConvolutionalSpace
from controller.stopping.options import StoppingOptions
from controller.stopping.stopper import KnownCurve
from tests.cluster.runners.killed_runs import copies, copying
from tests.cluster.runners.test_local import ledger, search

EPOCHS = 4
DIGITS = replace(
    RECIPES["digits"](),
    local=True,
    max_children=14,
    topology=Topology(replicas=1, shards=1, children=2),
    budget=Budget(epochs=EPOCHS, batch_size=32, train_fraction=0.15),
    space_options=ConvolutionalSpace(num_filters=(4, 8, 16), initial_depth=2, depth_step=0, max_depth=2),
)
HALVING = StoppingOptions(early_stop="halving", stop_min_epochs=1, halving_factor=2)
CURVE = StoppingOptions(early_stop="curve", stop_min_epochs=1, stop_min_children=10, stop_delta=0.3)
RANDOM = replace(DIGITS.with_searcher("random"), stopping=HALVING)


def outcomes(storage: Path, name: str = "run") -> Mapping[int, Outcome]:
    """Return each child's outcome, without its seconds."""
    db = sqlite3.connect(storage / name / "ledger.sqlite")
    rows = db.execute(f"SELECT id, {OUTCOME_COLUMNS} FROM children").fetchall()
    db.close()
    return {child: replace(Outcome.from_json(whole_outcome(*row)), seconds=0.0) for child, *row in rows}


def everything(storage: Path, name: str = "run") -> list[Any]:
    """Return the children and the batches of a run, with the outcomes."""
    found = ledger(storage, name)
    return [found["children"], found["batches"], outcomes(storage, name)]


def assert_stopped_well(config: RunConfig, storage: Path, name: str = "run") -> None:
    """Each child was trained to its end, or up to the epoch at which it was stopped; some of each kind."""
    found = outcomes(storage, name)
    assert len(found) == config.max_children
    stopped = {child: outcome.stopped for child, outcome in found.items() if outcome.stopped}
    assert 0 < len(stopped) < len(found)
    for child, outcome in found.items():
        epoch = stopped[child].epoch if child in stopped else EPOCHS
        assert len(outcome.curve) == epoch
        assert outcome.metric == max(outcome.curve)
        assert outcome.failure is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the storage path of a random search that was not disturbed."""
    storage = tmp_path_factory.mktemp("whole")
    search(RANDOM, storage)
    return storage


@pytest.mark.parametrize("stopping", [CURVE, HALVING], ids=["curve", "halving"])
def test_a_search_that_is_killed_and_resumed_has_the_ledger_of_one_that_was_not(
    stopping: StoppingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied as SIGKILL would have left it; no child that is done is stopped, or begun, a second time."""
    monkeypatch.setattr("controller.stopping.curve_model.DRAWS", 20)
    config = replace(DIGITS, stopping=stopping)
    with copying(tmp_path, {12}):
        search(config, tmp_path / "0")
    assert_stopped_well(config, tmp_path / "0")
    assert copies(tmp_path).keys() == {0, 12}
    search(config, tmp_path / "12")
    assert everything(tmp_path / "12") == everything(tmp_path / "0")


def test_a_child_whose_driver_dies_between_two_epochs_is_judged_anew_and_alike(whole: Path, tmp_path: Path) -> None:
    epochs, finished = list[float](), Progress.finished_epoch

    def interrupted(self: Progress, metric: float) -> bool:
        epochs.append(metric)
        if len(epochs) == 15:
            raise KeyboardInterrupt
        return finished(self, metric)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "finished_epoch", interrupted)
        assert search(RANDOM, tmp_path).state == "stopped"
    assert search(RANDOM, tmp_path).state == "finished"
    assert everything(tmp_path) == everything(whole)


def test_two_replicas_in_a_stream(tmp_path: Path) -> None:
    topology = Topology(replicas=2, shards=2, children=2, batching="stream")
    config = replace(DIGITS, topology=topology, stopping=HALVING)
    for name in ("run", "again"):
        assert search(config, tmp_path, name).state == "finished"
    assert_stopped_well(config, tmp_path)
    assert everything(tmp_path) == everything(tmp_path, "again")


def test_readers_tell_which_children_were_stopped_and_why(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, found = run_folder(whole, "run"), outcomes(whole)
    stopped = {child: outcome.stopped for child, outcome in found.items() if outcome.stopped}
    saved = sum(EPOCHS - one.epoch for one in stopped.values())
    status = read_status(folder, 0.0)
    assert status.to_json()["stopped"] == {"children": len(stopped), "epochs_saved": saved}
    assert f"{len(stopped)} children early, {saved} epochs saved" in page(read_facts(folder, 0.0))
    for words in (["status", "run"], ["children", "run"], ["children", "run", "--json"]):
        assert nascluster([*words, "--storage-path", str(whole)]) == 0
    shown = capfd.readouterr().out
    assert f"{len(stopped)} children early, {saved} epochs saved" in shown
    children = json.loads(shown[shown.index('{"run"') :])["children"]
    for child in children:
        why = stopped.get(child["child"])
        assert (child["stopped"], child["stop_reason"]) == ((why.epoch, why.reason) if why else (None, None))
        assert why is None or f"stopped early at epoch {why.epoch}: {why.reason}" in shown


def test_the_best_child_tells_that_it_was_stopped(whole: Path, tmp_path: Path) -> None:
    """One child of a ledger is all that is left, and it was stopped."""
    shutil.copytree(whole, tmp_path / "left")
    child, outcome = next((child, one) for child, one in outcomes(whole).items() if one.stopped)
    db = sqlite3.connect(tmp_path / "left" / "run" / "ledger.sqlite")
    db.execute("UPDATE children SET reward = 0 WHERE id <> ?", (child,))
    db.commit()
    db.close()
    folder = run_folder(tmp_path / "left", "run")
    best, text = read_status(folder, 0.0).best, page(read_facts(folder, 0.0))
    assert best is not None
    assert best.stopped == outcome.stopped
    assert best.to_json()["stopped"]["epoch"] == len(outcome.curve)
    assert f"stopped early at epoch {len(outcome.curve)}" in text


def test_all_count_the_children_that_were_stopped_in_one_way(whole: Path, tmp_path: Path) -> None:
    """A child that took the outcome of another one was not trained, and so not stopped."""
    shutil.copytree(whole, tmp_path / "left")
    stopped = [child for child, one in outcomes(whole).items() if one.stopped]
    db = sqlite3.connect(tmp_path / "left" / "run" / "ledger.sqlite")
    db.execute("UPDATE children SET same_as = ? WHERE id = ?", (stopped[0], stopped[-1]))
    db.commit()
    db.close()
    folder = run_folder(tmp_path / "left", "run")
    status = read_status(folder, 0.0)
    with reading(folder) as ledger:
        counted = sum(child.stopped for child in ended_children(ledger, 0))
    assert status.stopped is not None
    assert status.stopped.children == counted == len(stopped) - 1


def test_an_evaluation_as_in_such_a_search_trains_to_the_last_epoch() -> None:
    like = replace(RANDOM, stopping=StoppingOptions(early_stop="median"))
    assert configured(["--name", "more"], "feedforward", None, like).stopping == StoppingOptions()


def test_a_late_attempt_at_a_child_that_has_ended_changes_nothing() -> None:
    stopping = early_stopping(RANDOM)
    assert stopping is not None
    curves = {1: (0.5, 0.6), 2: (0.4, 0.5)}
    outcomes = {
        child: Outcome(curve=curve, seconds=1, parameters=9, flops=9, seed=0) for child, curve in curves.items()
    }
    records = [ChildRecord(id=child, tokens=(), architecture_id="", outcome=one) for child, one in outcomes.items()]
    late = stopping.in_training(1, 5, TrainingSoFar(curve=(0.1,)))
    stopping.remember(late)
    stopping.read(records)
    stopping.remember(late)
    assert stopping.judge(late) is None
    answer = stopping.judge(stopping.in_training(3, 5, TrainingSoFar(curve=(0.3,))))
    assert answer is not None
    assert "number 3 of 3" in answer.reason


def test_a_worker_tells_until_which_epoch_a_child_was_decided_on() -> None:
    asked = list[tuple[int, int, int]]()

    def ask(assignment: Assignment, so_far: TrainingSoFar, decided_until: int) -> Stopped | None:
        asked.append((assignment.child_id, len(so_far.curve), decided_until))
        if asked[-1][:2] in ((1, 2), (1, 3), (2, 2)):
            raise GetTimeoutError("late")
        return None

    judge = PoolJudge(ask)
    for child, epoch in ((1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 2), (2, 1), (2, 2), (3, 3)):
        judge(Assignment(child_id=child, architecture=None, seed=0), TrainingSoFar(curve=(0.5,) * epoch))
    assert asked == [(1, 1, 0), (1, 2, 1), (1, 3, 1), (1, 4, 1), (1, 5, 4), (2, 2, 1), (2, 1, 0), (2, 2, 1), (3, 3, 2)]


def test_a_question_whose_worker_has_given_up_is_not_decided() -> None:
    stopping = early_stopping(RANDOM)
    assert stopping is not None
    judging, ended = RemoteJudging(stopping), Outcome(curve=(0.9,) * EPOCHS, seconds=1, parameters=9, flops=9, seed=0)
    others = [ChildRecord(id=number, tokens=(), architecture_id="", outcome=ended) for number in (1, 2)]
    child = KnownCurve(child_id=3, values=(0.1,), ended=False)
    assert judging._decide(time.monotonic() - 2 * CALL_TIMEOUT_S, child, others) is None
    assert judging._decide(time.monotonic(), child, ()) is not None


def test_a_comparison_stops_the_children_that_a_run_stops(whole: Path) -> None:
    found = compared(RANDOM, Limit(children=RANDOM.max_children), lambda: False)
    assert found is not None
    assert list(found.metrics) == [outcome.metric for outcome in outcomes(whole).values()]
