"""Readers that come before a launch has made the run's folder."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config.run_config import RunConfig
from cluster.storage import starting as module
from cluster.storage.errors import RunFolderError, RunStarting
from cluster.storage.find_run import existing_run, run_folder
from cluster.storage.starting import starting, wait_for_run
from tests.command_line import nascluster

ROOT = Path(__file__).parents[3]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAUNCH_TIMEOUT_S", 0.2)


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield str(tmp_path / "runs") if request.param == "folder" else (tmp_path / "runs").as_uri()


def test_a_run_that_is_being_started_is_told_from_one_that_does_not_exist(storage: str) -> None:
    with pytest.raises(RunFolderError, match="no run named 'demo'"):
        existing_run(storage, "demo")
    with starting(run_folder(storage, "demo")):
        with pytest.raises(RunStarting, match=r"'demo' is being started .*nascluster status demo .*--watch` waits"):
            existing_run(storage, "demo")
        with pytest.raises(RunFolderError, match="no run named 'other'"):
            existing_run(storage, "other")
    with pytest.raises(RunFolderError, match="no run named 'demo'"):
        existing_run(storage, "demo")


def test_nothing_is_left_of_a_launch_that_was_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no room"), starting(run_folder(tmp_path / "new" / "runs", "demo")):
        raise ValueError("no room")
    assert list(tmp_path.iterdir()) == []
    with starting(run_folder(tmp_path / "runs", "demo")) as _:
        run_folder(tmp_path / "runs", "demo").create(RunConfig())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["demo"]


def test_a_storage_path_that_cannot_be_made_is_left_to_the_launch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with starting(run_folder(tmp_path / "file" / "runs", "demo")):
        pass


def test_a_launch_that_was_killed_leaves_no_run_that_starts(tmp_path: Path) -> None:
    code = (
        "import os, sys; from cluster.storage.find_run import run_folder;"
        "from cluster.storage.starting import starting;"
        "context = starting(run_folder(sys.argv[1], 'demo')); context.__enter__(); os._exit(9)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=False).returncode == 9
    with pytest.raises(RunFolderError, match="no run named 'demo'"):
        existing_run(tmp_path, "demo")


def test_who_waits_gets_the_run_once_it_is_there(tmp_path: Path, impatient: None) -> None:
    folder, said = run_folder(tmp_path, "demo"), []
    begun = threading.Event()

    def launch() -> None:
        with starting(folder):
            begun.set()
            reached.wait()
            folder.create(RunConfig())

    reached = threading.Event()
    thread = threading.Thread(target=launch)
    thread.start()
    begun.wait()
    assert wait_for_run(tmp_path, "demo", lambda text: (said.append(text), reached.set())) == folder
    thread.join()
    assert said == ["There is no run 'demo' yet; waiting for its launch ..."]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("words", [["status", "x", "--watch"], ["logs", "x", "--follow"], ["report", "x", "--watch"]])
def test_a_typing_error_is_told_after_a_short_wait(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path, "demo").create(RunConfig())
    assert nascluster(*words, "--storage-path", tmp_path) == 2
    said = capfd.readouterr()
    assert (said.out == "") == (words[0] == "logs"), "the events are alone on standard output"
    assert "no run named 'x' in" in said.err
    assert "the runs there are demo" in said.err


def test_a_run_is_watched_that_is_launched_only_then(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_ADDRESS": "local"}
    words = ["launch", "synthetic", "--local", "--max-children", "8", "--name", "demo"]
    watcher = subprocess.Popen(
        [sys.executable, "-m", "cluster", "status", "demo", "--watch"], env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        subprocess.run([sys.executable, "-m", "cluster", *words], env=env, check=True, stdout=subprocess.DEVNULL)
        said, _ = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
    assert watcher.returncode == 0
    assert "demo: finished" in said
