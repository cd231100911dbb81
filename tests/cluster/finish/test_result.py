"""What finishing a search gives: a table, an exported file, and a run that the other commands read."""

import json
import shlex
from pathlib import Path

import pytest

from child_trainer.__main__ import main as train_by_hand
from cluster.export.formats import facts_in
from cluster.storage.ledger.compact import OUTCOME_COLUMNS, whole_outcome
from tests.cluster.finish.searches import (
    WORDS,
    copied,
    finish,
    recorded_tests,
    rows,
    without_tests,
)
from tests.command_line import nascluster


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
    ((*columns,),) = rows(finished, "search-final", f"SELECT {OUTCOME_COLUMNS} FROM children WHERE id = {child}")
    assert whole_outcome(*columns)["curve"] == again["curve"]


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
