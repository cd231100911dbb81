"""Networks with parts of the user's own: an operation is in the exported program, and needs no file of the user's."""

import json
import sys
from pathlib import Path

import pytest
import torch

from child_trainer.__main__ import main as train_by_hand
from tests.command_line import nascluster
from tests.extending.files import FILES, write_files

SMALL = ("--local", "--replicas", "1", "--children", "1", "--max-children", "1", "--epochs", "1")


def test_a_network_with_an_operation_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    parts = ("--space", "my_space.py:TwoTower", "--task", "my_task.py:STRIPES", "--searcher", "random")
    place = ("--storage-path", tmp_path / "runs")
    assert nascluster("launch", "digits", *parts, *SMALL, "--name", "own", *place) == 0
    capsys.readouterr()
    assert nascluster("export", "own", *place) == 2
    said = capsys.readouterr().err
    assert "has kept no weights of child 1: `nascluster best own" in said
    assert "finish" not in said  # which needs test images
    assert nascluster("best", "own", "--json", *place) == 0
    Path("best.json").write_text(capsys.readouterr().out)
    words = ("--task", "my_task.py:STRIPES", "--load", "my_space.py", "--epochs", "1", "--device", "cpu")
    assert train_by_hand(["best.json", *words, "--save-weights", "w.safetensors", "--json"]) == 0
    assert nascluster("export", "own", "--weights", "w.safetensors", "--out", "own.pt2", *place) == 0
    assert "not recorded: ask who wrote my_task.py" in Path("own.pt2.README.md").read_text()
    program = torch.export.load("own.pt2")
    modules = {node.target.__module__ for node in program.graph.nodes if callable(node.target)}
    assert all(name == "_operator" or name.startswith("torch.") for name in modules)
    assert program.module()(torch.zeros(3, 1, 8, 8)).shape == (3, 2)
    own = json.dumps([name for name in sys.modules if name.startswith("nascluster_own")])
    assert "my_space" in own, "the operation was one of the user's"


def test_images_that_are_prepared_in_another_way_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = "from nascluster import Images, ImageProblem, ImageTask, Measure, Outcome, TaskEntry\n"
    own = (
        f"{ours}\n\nclass Plain(ImageTask):\n    def centred(self, images):\n        return images\n"
        "\n    augmented = lambda self, images, generator: images\n"
    )
    assert ours in FILES["my_task.py"]
    text = FILES["my_task.py"].replace(ours, own).replace("return ImageTask(", "return Plain(")
    Path("other.py").write_text(text)
    place = ("--storage-path", tmp_path / "runs")
    words = ("launch", "digits", "--task", "other.py:STRIPES", "--searcher", "random", *SMALL)
    assert nascluster(*words, "--name", "own", *place) == 0
    capsys.readouterr()
    assert nascluster("export", "own", *place) == 2
    assert "'other.py:STRIPES' prepares images in a way of its own, which an export does not know" in (
        capsys.readouterr().err
    )
