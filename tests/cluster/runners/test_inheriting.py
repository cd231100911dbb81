"""Searches whose children grow: they begin at their parents' accuracy, whatever dies, and wherever it goes on."""

import errno
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from child_trainer.__main__ import main as train_by_hand
from child_trainer.inheritance.trained_weights import TrainedWeights
from cluster.pool.child_weights import WeightsFolder, weights_file
from cluster.storage.find_run import run_folder
from cluster.storage.object_store import working_copy
from tests.cluster.runners.inheriting import ROOT, SEARCHES, rows, run
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)

CHANGED = {"eas": "layers more", "path-eas": "node"}
"""A word of what each searcher changes."""


@pytest.fixture(scope="module", params=SEARCHES)
def searcher(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def undisturbed(searcher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(searcher)
    assert run("launch", *SEARCHES[searcher], "--local", "--storage-path", place) == 0
    return place / "run"


def test_children_begin_at_the_accuracy_of_their_parents(undisturbed: Path) -> None:
    children = {row[0]: row for row in rows(undisturbed)}
    assert len(children) == 7
    trained = 0
    for _, _, notes, job, _, _, _, before in children.values():
        if job is None:
            continue
        trained += 1
        noted, begun = json.loads(notes), json.loads(job)
        parent = children[noted["parent"]]
        assert (begun["parent"], begun["checksum"]) == (parent[0], parent[6])
        assert before == pytest.approx(json.loads(parent[5])[-1], abs=0.01)
    assert trained >= 4


def test_at_the_end_the_best_and_the_last_parent_have_their_weights(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {int(file.name.split("-")[1]): file for file in (undisturbed / "child-weights").glob("child-*")}
    best = max(rows(undisturbed), key=lambda row: (row[4], -row[0]))
    assert best[0] in kept
    assert len(kept) <= 2
    weights = TrainedWeights.from_bytes(kept[best[0]].read_bytes())
    assert weights.checksum == best[6]
    # They can be gone on from by hand.
    assert run("best", "run", "--json", "--storage-path", undisturbed.parent) == 0
    (tmp_path / "best.json").write_text(capsys.readouterr().out)
    words = [str(tmp_path / "best.json"), "--from", str(kept[best[0]]), "--epochs", "1", "--train-fraction", "0.1"]
    assert train_by_hand([*words, "--device", "cpu"]) == 0
    assert "accuracy before the training 0." in capsys.readouterr().out
    assert run("best", "run", "--storage-path", undisturbed.parent) == 0
    said = capsys.readouterr().out
    assert str(kept[best[0]]) in said
    assert f"It came from child {json.loads(best[2])['parent']} (" in said


def test_the_report_shows_where_the_best_child_came_from(searcher: str, undisturbed: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert run("report", "run", "--storage-path", undisturbed.parent, "--output", page) == 0
    text = page.read_text()
    section = text[text.index('id="lineage"') :]
    section = section[: section.index("</section>")]
    best = max(rows(undisturbed), key=lambda row: (row[4], -row[0]))
    parent, checksum = json.loads(best[2])["parent"], json.loads(best[3])["checksum"]
    for shown in (f"child {parent}", f"weights of child {parent}", checksum[:12], CHANGED[searcher], "random weights"):
        assert shown in section
    assert f"{best[7]:.4f}"[:5] in section


def test_a_search_that_is_killed_goes_on_elsewhere_from_the_same_weights(
    searcher: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while a child of the second stage is in training, and the machine is lost: all is in the object store."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(working_copy, "LEASE_TIMEOUT_S", 3.0)
    url = f"file://{tmp_path}/store"
    command = [sys.executable, "-m", "cluster", "launch", *SEARCHES[searcher], "--local", "--storage-path", url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def in_second_stage() -> bool:
        try:
            query = "SELECT count(*) FROM children WHERE id > 4 AND state = 'running'"
            return rows(run_folder(url, "run").path, query)[0][0] > 0
        except sqlite3.OperationalError:
            return False

    try:
        until(in_second_stage, "a child of the second stage is in training")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    shutil.rmtree(tmp_path / "home")
    assert run("resume", "run", "--storage-path", url) == 0
    folder = run_folder(url, "run").path
    assert rows(folder) == rows(undisturbed)
    names = [sorted(file.name for file in (at / "child-weights").glob("child-*")) for at in (folder, undisturbed)]
    assert names[0] == names[1]


def test_a_resume_without_weights_that_are_needed_is_refused(
    searcher: str, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    file = max((tmp_path / "run" / "child-weights").glob("child-*"))
    file.unlink()
    assert run("resume", "run", "--max-children", "8", "--storage-path", tmp_path) == 2
    said = capsys.readouterr().err
    assert "of the run 'run', with which others begin, are gone" in said
    resume = f"nascluster resume run --storage-path {tmp_path}"
    assert f"{file} is missing. Restore it, and `{resume}` goes on; or, if it is lost, launch a new run" in said
    file.write_bytes(b"torn")
    assert run("resume", "run", "--max-children", "8", "--storage-path", tmp_path) == 2
    assert f"{file} is damaged: its header cannot be read. Restore it" in capsys.readouterr().err
    assert run("compare", searcher, "random", "--recipe", f"{searcher}-digits", "--budget", "4") == 2
    assert "the children begin with the weights of others, and a comparison keeps none" in capsys.readouterr().err


def test_weights_that_are_lost_meanwhile_end_the_search_which_goes_on_when_they_are_back(
    searcher: str,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost: list[Path] = []

    def lose(folder: WeightsFolder, child_id: int, checksum: str) -> bytes | None:
        if not lost:
            lost.append(weights_file(tmp_path / "run" / "child-weights", child_id, checksum))
            lost[0].rename(tmp_path / "lost")
        return load(folder, child_id, checksum)

    load = WeightsFolder.load
    monkeypatch.setattr(WeightsFolder, "load", lose)
    assert run("launch", *SEARCHES[searcher], "--local", "--storage-path", tmp_path) == 1
    (file,) = lost
    said = " ".join(capsys.readouterr().out.split())
    assert f"the weights of child 1 of the run 'run', with which child 2 begins, are gone: {file} is missing" in said
    assert rows(tmp_path / "run", "SELECT state, count(*) FROM children GROUP BY state ORDER BY state") == [
        ("finished", 1),
        ("sampled", 3),
    ]
    (tmp_path / "lost").rename(file)
    assert run("resume", "run", "--storage-path", tmp_path) == 0
    assert rows(tmp_path / "run") == rows(undisturbed)
    verdicts = "SELECT verdict, count(*) FROM attempts GROUP BY verdict ORDER BY verdict"
    assert rows(tmp_path / "run", verdicts) == [*rows(undisturbed, verdicts), ("void", 1)]


def test_weights_that_cannot_be_removed_do_not_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def fail(folder: WeightsFolder, children: object) -> None:
        tried.append(children)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WeightsFolder, "forget", fail)
    monkeypatch.setattr(WeightsFolder, "keep_only", fail)
    few = ("--epochs", "1", "--train-fraction", "0.1", "--stage-children", "2", "2", "--max-children", "5")
    assert run("launch", *SEARCHES["eas"], *few, "--local", "--storage-path", tmp_path) == 0
    assert len(tried) > 1
    assert rows(tmp_path / "run", "SELECT count(*) FROM children WHERE state = 'finished'") == [(5,)]
