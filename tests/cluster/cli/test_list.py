"""`nascluster list`: every run of a storage path has a row, whatever state its files are in."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.monitoring.run_list import folder_bytes
from cluster.storage.find_run import run_folder
from cluster.storage.starting import starting
from tests.command_line import nascluster

SMALL = ("--local", "--max-children", "3", "--replicas", "1", "--children", "3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run called demo."""
    storage = tmp_path_factory.mktemp("runs")
    words = ("synthetic", "--child-faults", "diverged=0.4", "--on-failure", "diverged=drop", "--name", "demo")
    assert nascluster("launch", *words, *SMALL, "--storage-path", storage) == 0
    return storage / "demo"


@pytest.fixture
def storage(folder: Path, finished: Path) -> Path:
    shutil.copytree(finished, folder / "runs" / "demo")
    return folder / "runs"


def listed(storage: object, capfd: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capfd.readouterr()
    assert nascluster("list", "--storage-path", storage, "--json") == 0
    return {row["name"]: row for row in json.loads(capfd.readouterr().out)["runs"]}


def test_a_run_is_told_with_its_recipe_children_best_and_size(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    row = listed(storage, capfd)["demo"]
    assert nascluster("status", "demo", "--storage-path", storage, "--json") == 0
    status = json.loads(capfd.readouterr().out)
    assert (row["recipe"], row["task"], row["searcher"], row["state"]) == (
        *("synthetic", "synthetic", "reinforce", "finished"),
    )
    assert row["children"] == {key: status["children"][key] for key in ("sampled", "finished", "failed", "max")}
    best = row["best"]
    assert (best["child_id"], best["metric"]) == (status["best"]["child_id"], status["best"]["metric"])
    assert row["seconds"] == status["seconds"]
    assert row["bytes"] == sum(file.stat().st_size for file in (storage / "demo").rglob("*") if file.is_file())
    assert row["started"].startswith("20") and row["started"].endswith("Z")
    assert nascluster("list", "--storage-path", storage) == 0
    head, line, *_, total = capfd.readouterr().out.splitlines()
    assert head.split() == ["name", "recipe", "state", "children", "best", "started", "size"]
    children = f"{status['children']['finished']} finished, {status['children']['failed']} failed, of 3"
    assert line.startswith("demo  synthetic  finished  ") and children in line
    assert total.startswith("1 run, ") and total.endswith(f", in {storage}")


def test_runs_that_are_damaged_unknown_or_being_started_have_a_row(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("no-config", "bad-config", "bad-ledger", "empty-ledger", "newer"):
        shutil.copytree(storage / "demo", storage / name)
    (storage / "no-config/config.json").unlink()
    (storage / "bad-config/config.json").write_text("[]")
    for file in (storage / "bad-ledger").glob("ledger.sqlite*"):
        file.write_bytes(b"no database, though long enough to be one" * 200)
    (storage / "empty-ledger/ledger.sqlite").unlink()
    config = storage / "newer/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"searcher": "of-another-version", "recipe": ""}))
    changes = {
        "far-future": "UPDATE children SET sampled_at = 1e300; UPDATE run SET value = 1e300 WHERE key = 'started_at'",
        "no-time": "UPDATE run SET value = 'x' WHERE key = 'started_at'",
        "no-beat": "DELETE FROM run WHERE key = 'beat_at'",
    }
    for name, change in changes.items():
        shutil.copytree(storage / "demo", storage / name)
        with closing(sqlite3.connect(storage / name / "ledger.sqlite")) as db:
            db.executescript(change)
    (storage / "no-run").mkdir()
    (storage / "model").mkdir()
    (storage / "model/config.json").write_text('{"model_type": "bert"}')
    (storage / "a-file").write_text("x")
    (storage / "gone").symlink_to(storage / "nowhere")
    with starting(run_folder(storage, "soon")):
        rows = listed(storage, capfd)
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "bad-config": "damaged",
        "bad-ledger": "damaged",
        "demo": "finished",
        "empty-ledger": "failed",
        **dict.fromkeys(changes, "damaged"),
        "newer": "finished",
        "no-config": "damaged",
        "soon": "starting",
    }
    assert "has lost its configuration" in rows["no-config"]["message"]
    assert "must hold a JSON object" in rows["bad-config"]["message"]
    assert "bad-ledger/ledger.sqlite cannot be read" in rows["bad-ledger"]["message"]
    assert "its ledger is missing" in rows["empty-ledger"]["message"]
    assert (rows["newer"]["recipe"], rows["newer"]["searcher"]) == (None, "of-another-version")
    assert "the searcher 'of-another-version'" in rows["newer"]["unknown"][0]
    assert nascluster("list", "--storage-path", storage) == 0
    out = capfd.readouterr().out
    assert "\nbad-config: " in out and "\nnewer: this version of nascluster does not know" in out
    assert "9 runs, " in out


def test_a_place_without_runs_is_told_and_one_that_is_no_folder_is_refused(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster("list") == 0
    assert capfd.readouterr().out == f"There are no runs in {folder}/nascluster_runs\n"
    assert listed("runs", capfd) == {}
    (folder / "file").write_text("x")
    assert nascluster("list", "--storage-path", "file") == 2
    assert capfd.readouterr().err == f"nascluster: {folder}/file: Not a directory\n"


def test_the_size_of_a_folder_leaves_out_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "run" / "sub").mkdir(parents=True)
    (tmp_path / "run" / "sub" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "large").write_bytes(b"x" * 9000)
    (tmp_path / "run" / "link").symlink_to(tmp_path / "large")
    (tmp_path / "run" / "folder").symlink_to(tmp_path)
    assert 1000 <= (folder_bytes(tmp_path / "run") or 0) < 9000


def test_runs_in_an_object_store_are_listed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = (folder / "objects").as_uri()
    assert nascluster("launch", "synthetic", *SMALL, "--name", "far", "--storage-path", url) == 0
    (folder / "objects" / "no-run").mkdir()
    row = listed(url, capfd)["far"]
    assert (row["place"], row["state"], row["children"]["finished"]) == (f"{url}/far", "finished", 3)
    assert row["bytes"] == sum(file.stat().st_size for file in (folder / "objects").rglob("*") if file.is_file())
    assert listed(url, capfd).keys() == {"far"}
