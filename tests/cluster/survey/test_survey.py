"""A slice of a survey on digits: killed in a search, and gone on with by the same command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.monitoring.status import read_status
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.queries.final_tests import final_tests
from cluster.storage.ledger.reader import reading
from cluster.survey.files import CELLS, RUNS, CellFiles
from cluster.survey.plan import Request, make_plan
from cluster.survey.run_cell import CellJob, curve, run_cell
from tests.cluster.interrupts import interrupted_when_running
from tests.command_line import nascluster
from tests.deploy.files import ROOT
from tests.waiting import until

BUDGET_S = 4.0
"""On a slow core it leaves time for a child or two, on a fast one for twenty."""

WORDS = (
    *("survey", "digits", "--systems", "metaqnn", "--budget", f"{BUDGET_S}s", "--seeds", "1", "--retrain-epochs", "1"),
    *("--processes", "1"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a survey that was killed when children of its first search had ended, and then came to its end."""
    folder = tmp_path_factory.mktemp("survey")
    command = [sys.executable, "-m", "cluster", *WORDS, "--output", str(folder)]
    killed = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    files = CellFiles(folder / CELLS, "metaqnn-1")
    until(lambda: files.marks() and files.marks()[-1].ended > 0, "the end of a child")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert files.result() is None
    (folder / "before.json").write_text(json.dumps(files.marks()[-1]))
    assert nascluster(*WORDS, "--output", folder) == 0
    return folder


def results(folder: Path) -> dict[str, Any]:
    (found,) = json.loads((folder / "results.json").read_text())["systems"]
    return found


def test_a_killed_search_goes_on_with_the_rest_of_its_budget(folder: Path) -> None:
    before, ended = json.loads((folder / "before.json").read_text())
    files = CellFiles(folder / CELLS, "metaqnn-1")
    result = files.result()
    assert result is not None
    spent = [mark.spent for mark in files.marks()]
    assert spent == sorted(spent)
    assert before in spent
    assert result.children >= ended > 0
    assert BUDGET_S <= result.spent < BUDGET_S + 1.5  # it ends within a step, and its end is recorded
    assert result.fit.startswith("schedule models ")


def test_each_winner_has_looked_at_the_test_images_once(folder: Path) -> None:
    for name in ("metaqnn-1", "random-chain-1"):
        result = CellFiles(folder / CELLS, name).result()
        assert result is not None
        assert result.accuracy is not None, result.cause
        with reading(run_folder(folder / RUNS, f"{name}-final")) as db:
            (test,) = final_tests(db).values()
        assert test.metric == result.accuracy
        assert test.examples == 360
        final = run_folder(folder / RUNS, f"{name}-final").read_config()
        assert (final.budget.epochs, final.budget.learning_rate, final.budget.regime.optimizer) == (1, 0.05, "sgd")
        assert final.seed not in (0, 1)


def test_the_survey_ends_with_a_table_and_a_page(folder: Path) -> None:
    found = results(folder)
    assert found["seeds"] == [1]
    assert found["random"]["mean"] > 0.05
    assert found["children"] >= 1
    assert "MetaQNN" in (folder / "survey.md").read_text()
    assert "<svg" in (folder / "survey.html").read_text()


def test_what_has_ended_is_not_done_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marks = {file: file.read_bytes() for file in (folder / CELLS).iterdir()}
    assert nascluster(*WORDS, "--output", folder, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["systems"] == [results(folder)]
    assert err == ""
    assert {file: file.read_bytes() for file in (folder / CELLS).iterdir()} == marks


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "3s"), "has begun with `--budget 4s`, not `--budget 3s`: give the same, or another `--output`"),
        (("--retrain-epochs", "2"), "has begun with `--retrain-epochs 1`, not `--retrain-epochs 2`"),
    ],
)
def test_another_survey_needs_another_folder(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nascluster(*WORDS, *words, "--output", folder) == 2
    assert said in capsys.readouterr().err


def test_a_search_that_is_stopped_has_no_result(tmp_path: Path) -> None:
    plan = make_plan(Request(task="digits", budget_s=60.0, seeds=1, systems=("metaqnn",)))
    (tmp_path / CELLS).mkdir()
    cell = replace(plan.cells[1], recipe=replace(plan.cells[1].recipe, max_children=1_000))
    job = CellJob(cell=cell, budget_s=60.0, epochs=1, folder=str(tmp_path))
    files, run = CellFiles(tmp_path / CELLS, cell.name), run_folder(tmp_path / RUNS, cell.name)
    run_cell(job, lambda: bool(files.marks()) and files.marks()[-1].ended > 0)
    assert files.result() is None
    status = read_status(run, time.time())
    assert status.state == "stopped"
    assert status.finished >= 1


def test_the_time_of_a_winners_training_counts_over_its_starts(folder: Path, tmp_path: Path) -> None:
    """Its first start has ended behind the training, and before the result was written."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    plan = make_plan(Request(task="digits", budget_s=BUDGET_S, seeds=1, systems=("metaqnn",), retrain_epochs=1))
    files = CellFiles(tmp_path / CELLS, "metaqnn-1")
    first = files.result()
    assert first is not None
    (tmp_path / CELLS / "metaqnn-1.json").unlink()
    run_cell(CellJob(cell=plan.cells[0], budget_s=BUDGET_S, epochs=1, folder=str(tmp_path)), lambda: False)
    second = files.result()
    assert second is not None
    assert first.accuracy == second.accuracy is not None
    assert second.retrained_s >= first.retrained_s > 0.5


def test_after_ctrl_c_there_is_a_table_and_the_search_can_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / RUNS, "nas-1")
    words = ("survey", "digits", "--systems", "nas", "--budget", "60s", "--seeds", "1", "--processes", "1")
    with interrupted_when_running(run):
        assert nascluster(*words, "--output", tmp_path) == 130
    assert "interrupted with 0 of 2 searches done" in capsys.readouterr().err
    assert "Not measured yet: NAS." in (tmp_path / "survey.md").read_text()
    assert read_status(run, time.time()).interrupted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digit",), "unknown task of a survey 'digit'"),
        (("digits", "--budget", "0"), "`budget` must be a time above 0"),
        (("digits", "--systems", "nasnett"), "did you mean 'nasnet'?"),
        (("digits", "--budget", "5s", "--systems"), "`--systems` needs systems to search with, such as nas darts"),
        (("digits", "--systems", "--json"), "`--systems` needs systems to search with"),
        (("digits", "--processes", "0"), "`processes` must be 1 to 1000, got 0"),
        (("digits", "--output", ""), "`output` must be a folder"),
        (("fashion-mnist", "--systems", "nas"), "needs `--data DIR`"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nascluster("survey", *words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_marks_survive_a_kill_within_a_line(tmp_path: Path) -> None:
    from cluster.survey.files import Mark

    files = CellFiles(tmp_path, "cell")
    files.mark(Mark(1.0, 2))
    with (tmp_path / "cell.marks").open("a") as file:
        file.write("[1.5, ")
    assert files.marks() == [Mark(1.0, 2)]
    files.mark(Mark(2.0, 3))
    assert files.marks() == [Mark(1.0, 2), Mark(2.0, 3)]


def test_a_curve_has_the_children_that_were_the_best_so_far() -> None:
    from cluster.survey.files import Mark

    class Child:
        def __init__(self, state: str, metric: float | None) -> None:
            self.state, self.metric = state, metric

    children: Any = [
        *(Child("finished", 0.5), Child("failed", None), Child("finished", 0.4), Child("finished", 0.6)),
        Child("finished", 0.9),
    ]
    marks = [Mark(1.0, 0), Mark(2.0, 1), Mark(3.0, 3), Mark(4.0, 4)]
    assert curve(children, marks) == ((2.0, 0.5), (4.0, 0.6))  # no mark counts the last one
