"""Whole EAS searches on digits, on Ray too: what becomes of children's weights when files and disks fail."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.pool.child_weights import WeightsFolder
from tests.cluster.runners.growing import ROOT, SEARCHES, rows, run

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(240)]

FLAGS = SEARCHES["eas"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("eas")
    assert run("launch", *FLAGS, "--local", "--storage-path", place) == 0
    return place / "run"


def test_a_resume_without_weights_that_are_needed_is_refused(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    file = max((tmp_path / "run" / "child-weights").glob("child-*"))
    file.unlink()
    assert run("resume", "run", "--max-children", "8", "--storage-path", tmp_path) == 2
    said = capsys.readouterr().err
    assert "of the run 'run', with which others begin, are gone" in said
    assert f"{file} is missing. Restore it; or, if it is lost, launch a new run" in said
    file.write_bytes(b"torn")
    assert run("resume", "run", "--max-children", "8", "--storage-path", tmp_path) == 2
    assert f"{file} is damaged: its header cannot be read. Restore it" in capsys.readouterr().err
    assert run("compare", "eas", "random", "--recipe", "eas-digits", "--budget", "4") == 2
    assert "its children begin with the weights of others, and a comparison keeps none" in capsys.readouterr().err


def test_weights_that_cannot_be_removed_do_not_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def fail(folder: WeightsFolder, children: object) -> None:
        tried.append(children)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WeightsFolder, "forget", fail)
    monkeypatch.setattr(WeightsFolder, "keep_only", fail)
    few = ("--epochs", "1", "--train-fraction", "0.1", "--stage-children", "2", "2", "--max-children", "5")
    assert run("launch", *FLAGS, *few, "--local", "--storage-path", tmp_path) == 0
    assert len(tried) > 1
    assert rows(tmp_path / "run", "SELECT count(*) FROM children WHERE state = 'finished'") == [(5,)]


def test_workers_on_ray_give_the_same(undisturbed: Path, shared_ray: str, tmp_path: Path) -> None:
    """Of the first stage: a worker fetches the start's weights from the driver's node, and sends its own there."""
    stage = [*FLAGS, "--max-children", "4", "--workers", "1", "--storage-path", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "launch", *stage],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": shared_ray},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(tmp_path / "run") == rows(undisturbed)[:4]
    kept = {file.name.split("-")[1] for file in (tmp_path / "run" / "child-weights").glob("child-*")}
    best = max(rows(tmp_path / "run"), key=lambda row: (row[4], -row[0]))
    assert f"{best[0]:08d}" in kept
