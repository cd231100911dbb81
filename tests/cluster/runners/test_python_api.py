"""Searches from Python."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.config.recipes import RECIPES
from cluster.runners.python_api import launch, load
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


def test_a_search_in_the_background_is_stopped_at_once_after_its_start(tmp_path: Path) -> None:
    run = launch(
        "synthetic", wait=False, show=False, local=True, storage_path=tmp_path, name="long",
        child_seconds=0.3, max_children=1000,
    )  # fmt: skip
    status = run.stop()
    assert status.state == "stopped"
    assert status.ended < 1000


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
        ({"populaton": 3}, "populaton"),
        ({"searcher": "bogus"}, "unknown searcher 'bogus'; there are reinforce, "),
        ({"max_children": 0}, "`max_children` must be at least 1, got 0"),
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
