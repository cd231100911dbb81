"""Searches from Python."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.api.python_api import Run, RunFailed, launch, load
from cluster.config.recipes import RECIPES
from cluster.monitoring.child_list import COLUMNS
from cluster.storage.find_run import run_folder
from controller.spaces.nasbench201 import NasBench201Space
from tests.cluster.interrupts import interrupted_when_running
from tests.command_line import nascluster
from tests.lengths import LONG

SMALL = {"local": True, "show": False, "max_children": 8}


def test_a_search_is_launched_read_and_loaded(tmp_path: Path) -> None:
    options = {"searcher": "evolution", "population": 4, "tournament": 2, "skip_connections": False}
    run = launch("synthetic", storage_path=tmp_path, name="demo", **SMALL, **options)
    status = run.status()
    assert (status.state, status.finished) == ("finished", 8)
    assert run.best == status.best
    assert run.config.searcher_options.population == 4
    assert not run.config.space_options.skip_connections
    again = load("demo", tmp_path)
    assert again.best == run.best
    assert again.wait().state == "finished"
    with pytest.raises(ValueError, match="no run named 'other'"):
        load("other", tmp_path)


def test_a_configuration_is_launched_too(tmp_path: Path) -> None:
    run = launch(RECIPES["synthetic"](), storage_path=tmp_path, seed=5, layer_types=("conv", "pool"), **SMALL)
    assert (run.config.seed, run.config.space_options.layer_types) == (5, ("conv", "pool"))
    assert run.name.startswith("run-")


def test_children_are_the_rows_of_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = launch("synthetic", storage_path=tmp_path, name="demo", **SMALL)
    assert nascluster("children", "demo", "--storage-path", tmp_path, "--json") == 0
    printed = json.loads(capfd.readouterr().out)["children"]
    children = run.children
    assert [tuple(child) for child in children] == [COLUMNS] * 8
    assert [(c["child"], c["tokens"], c["metric"]) for c in children] == [
        (c["child"], c["tokens"], c["metric"]) for c in printed
    ]
    assert run.best is not None
    assert repr(run) == (
        f"<Run('demo', storage_path='{tmp_path}'): finished, 8 of 8 children ended, best score"
        f" {run.best.metric:.4f} (child {run.best.child_id})>"
    )


def test_a_search_in_the_background_is_a_process_of_its_own_and_is_stopped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    run = launch(
        "synthetic", wait=False, show=False, local=True, storage_path=tmp_path, name="long",
        child_seconds=0.3, max_children=1000,
    )  # fmt: skip
    assert run._driver is not None
    process = run._driver._process.pid
    assert os.getsid(process) == process  # which Ctrl-C does not reach
    with pytest.raises(TimeoutError, match="the run 'long' is still running after 0 s"):
        run.wait(timeout=0)
    for wrong in ("5", float("inf"), float("nan"), -1, 10**400):
        with pytest.raises(ValueError, match="`timeout` must be a number of seconds, at least 0, or None for no limit"):
            run.wait(wrong)  # pyright: ignore[reportArgumentType]
    assert "running" in repr(Run("long", storage_path=tmp_path))
    status = run.stop()
    assert (status.state, status.ended < 1000) == ("stopped", True)
    assert not run.folder.is_held()


def test_a_driver_that_was_killed_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    run = launch(
        "synthetic", wait=False, show=False, local=True, storage_path=tmp_path, name="killed",
        child_seconds=0.05, max_children=8,
    )  # fmt: skip
    assert run._driver is not None
    while not run.status().ended:
        time.sleep(0.02)
    run._driver._process.kill()
    with pytest.raises(RunFailed, match="the driver of the run 'killed' was ended by SIGKILL: `nascluster resume"):
        run.wait()
    with pytest.raises(RunFailed, match="was ended by SIGKILL"):
        run.stop()
    with pytest.raises(RunFailed, match="the run 'killed' has failed: its driver died; `nascluster resume"):
        load("killed", tmp_path).wait()
    assert nascluster("resume", "killed", "--storage-path", tmp_path) == 0
    assert Run("killed", storage_path=tmp_path).wait().finished == 8
    assert run.wait().finished == run.stop().finished == 8  # the driver's end is no matter any more


def test_a_search_begins_with_what_python_has(tmp_path: Path) -> None:
    cells = {"space": "nasbench201", "cells_per_stage": 1, "stem_channels": 2, "searcher": "evolution"}
    first = launch("synthetic", storage_path=tmp_path, name="first", start_with=[(0, 1, 2, 3, 4, 0)], **SMALL, **cells)
    assert first.children[0]["tokens"] == [0, 1, 2, 3, 4, 0]
    assert first.best is not None
    (tmp_path / "x.json").write_text(json.dumps({"tokens": [3] * 6}))
    space = NasBench201Space(cells_per_stage=1, stem_channels=2)
    given = {"tokens": [1] * 6, "architecture": space.decode([1] * 6).to_json()}
    starts = [tmp_path / "x.json", given, "2,2,2,2,2,2", first.best]
    second = launch("synthetic", storage_path=tmp_path, name="second", start_with=starts, **SMALL, **cells)
    children = second.children[:4]
    assert [child["tokens"] for child in children] == [[3] * 6, [1] * 6, [2] * 6, list(first.best.tokens)]
    assert [child["source"] for child in children] == [
        f"the file {tmp_path / 'x.json'}", "Python", "the command line", f"child {first.best.child_id}"
    ]  # fmt: skip
    third = launch("synthetic", storage_path=tmp_path, name="third", warm_start="first", top=2, **SMALL, **cells)
    assert third.children[0]["tokens"] == list(first.best.tokens)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (NasBench201Space().decode([0] * 6), "is an Architecture alone, and a search goes on from decisions"),
        ([{"architecture": {}}], r"`start_with\[0\]` must have the decisions behind its architecture"),
        (["nothing.json"], "nothing.json cannot be read"),
        (7, "`start_with` must be a list of architectures, got 7"),
        ([[9] * 6], "`start_with` must be samples of the space 'nasbench201', and the 1. is none"),
        (
            {"tokens": [1] * 6, "architecture": NasBench201Space().decode([1] * 6).to_json()},
            r"the decisions of `start_with\[0\]` mean another network",
        ),
    ],
)
def test_what_no_search_can_begin_with_is_refused(start: Any, message: str, tmp_path: Path) -> None:
    cells: dict[str, Any] = {"space": "nasbench201", "cells_per_stage": 1, "searcher": "evolution"}
    with pytest.raises(ValueError, match=message):
        launch("synthetic", storage_path=tmp_path / "runs", start_with=start, **SMALL, **cells)
    with pytest.raises(ValueError, match="both say which architectures are trained first"):
        launch("synthetic", storage_path=tmp_path / "runs", start_with="0,0,0,0,0,0", warm_start="x", **cells)
    assert not (tmp_path / "runs").exists()


def test_a_search_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    states: list[str] = []

    def search() -> None:
        states.append(launch("synthetic", storage_path=tmp_path, **SMALL).status().state)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert states == ["finished"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"populaton": 3, "searcher": "evolution"}, "there is no option `populaton`; did you mean `population`?"),
        ({"max_children": "x"}, "`max_children` must be a whole number, got x"),
        ({"max_cost": 3}, "`max_cost` needs the price of a GPU hour: give `cost_per_gpu_hour`, too"),
        ({"searcher": "bogus"}, "unknown searcher 'bogus'; there are reinforce, "),
        ({"max_children": 0}, "`max_children` must be at least 1, got 0"),
        ({"num_filters": []}, "`num_filters` must"),
        ({"start_with": [], "decay_at": []}, "`decay_at` needs one value or more"),
    ],
)
@pytest.mark.parametrize("wait", [True, False])
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: dict[str, object], message: str, wait: bool, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        launch("synthetic", wait=wait, storage_path=tmp_path / "runs", **(SMALL | options))  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "runs").exists()


def test_an_error_of_the_driver_reaches_the_caller(tmp_path: Path) -> None:
    for wait in (True, False):
        with pytest.raises(ValueError, match="is missing; `--data` must be"):
            launch("fashion-mnist", wait=wait, data=tmp_path, storage_path=tmp_path / "runs", local=True, show=False)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "storage"), [(3, "runs"), (None, "runs"), ("x", None), ("x", 5)])
def test_load_refuses_what_names_no_run(name: Any, storage: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be"):
        load(name, storage if storage != "runs" else tmp_path)


TWICE = """
from nascluster import launch
shape = dict(max_children=4, replicas=1, children=2, shards=1, workers=1, show=False)
for name in ("first", "second"):
    print(launch("synthetic", storage_path="runs", name=name, **shape).status().state)
"""


@LONG
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(180)
def test_a_process_can_run_one_search_after_another_on_ray(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-2:] == ["finished", "finished"], done.stdout + done.stderr


def test_ctrl_c_stops_a_search_that_is_waited_for_and_is_raised(tmp_path: Path) -> None:
    """As of any call in Python; the search is stopped in an orderly way before."""
    folder = run_folder(str(tmp_path), "demo")

    with (
        pytest.raises(KeyboardInterrupt, match="interrupted: the run 'demo' has stopped, and `nascluster resume demo"),
        interrupted_when_running(folder),
    ):
        launch("synthetic", storage_path=tmp_path, name="demo", child_seconds=0.2, **(SMALL | {"max_children": 10_000}))
    status = load("demo", tmp_path).status()
    assert (status.state, status.running) == ("stopped", 0)
    assert status.interrupted


def test_a_search_is_finished_from_python(tmp_path: Path) -> None:
    short = {"epochs": 1, "train_fraction": 0.1, "num_filters": [4, 6], "searcher": "random", "seed": 2}
    run = launch("digits", storage_path=tmp_path, name="demo", **(SMALL | {"max_children": 2}), **short)
    with pytest.raises(ValueError, match="`grid`: there is no setting 'warmth'"):
        run.finish(grid={"warmth": [1]})
    with pytest.raises(ValueError, match="there is no option `epoch`"):
        run.finish(epoch=1, show=False)
    for wrong in ({"learning_rate": 0.1}, {"learning_rate": "0.1"}, "learning-rate=0.1", 5):
        with pytest.raises(ValueError, match="`grid` must be a mapping of settings to lists of values, such as"):
            run.finish(grid=wrong)  # pyright: ignore[reportArgumentType]
    for name in ("top", "seeds"):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number of at least 1, got 'x'"):
            run.finish(**{name: "x"})  # pyright: ignore[reportArgumentType]
    again = dict(top=1, grid={"learning_rate": [0.1]}, seeds=1, epochs=1, train_fraction=0.1, show=False)
    with pytest.raises(RunFailed, match=r"0 of 1 trainings of the run 'demo-grid' have ended, at its ceiling"):
        run.finish(**again, max_hours=1e-9)
    told = run.finish(**again)
    assert (told["search"], told["final"], told["child"]) == ("demo", "demo-final", 1)
    final = Run("demo-final", tmp_path)
    assert final.best is not None
    assert final.best.test == told["networks"][0]["trainings"][0]["test"]
    assert Path(told["file"]).exists()
    assert run.finish(**again) == told
