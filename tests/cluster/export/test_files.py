"""What an export writes and where, whose weights it takes, and what it refuses."""

import os
import re
import resource
import shutil
from pathlib import Path

import pytest

from child_trainer.__main__ import main as train_by_hand
from child_trainer.inheritance.trained_weights import TrainedWeights
from cluster.config.recipes import RECIPES
from cluster.export import formats
from cluster.export.export import export_child
from cluster.export.files import check_target
from cluster.export.formats import ExportError
from cluster.storage.run_folder import RunFolder
from tests.cluster.export.runs import kept
from tests.cluster.report.ledgers import new_run
from tests.command_line import nascluster


def test_the_command_writes_into_the_runs_folder_and_again(
    run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run.path / "exports" / "child-1.safetensors"
    for _ in range(2):
        assert nascluster("export", "demo", 1, "--format", "safetensors", "--storage-path", run.path.parent) == 0
        assert capsys.readouterr().out.split() == [str(file), f"{file}.README.md"]
    assert sorted(path.name for path in (run.path / "exports").glob("child-1*")) == [
        file.name,
        f"{file.name}.README.md",
    ]
    monkeypatch.chdir(tmp_path)
    stored = RunFolder(run.path, url="s3://bucket/runs", alive=False)
    assert export_child(stored, 1, form="safetensors").file == tmp_path / "demo-child-1.safetensors"


def test_a_fifo_in_the_place_of_a_readme_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pt2.README.md")
    with pytest.raises(ExportError, match=r"x.pt2.README.md is there, and no export has written it"):
        check_target(tmp_path / "x.pt2", "torch-export", replace=False)


def test_weights_of_a_training_by_hand(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that the refusal names, in their order, as a reader would paste them."""
    alone = RunFolder(tmp_path / "demo")
    shutil.copytree(run.path, alone.path)
    shutil.rmtree(alone.child_weights)
    place = ("--storage-path", tmp_path)
    assert nascluster("export", "demo", *place) == 2
    said = capsys.readouterr().err
    assert "has kept no weights of child 3: `nascluster finish demo --storage-path" in said
    assert "and `--weights best.safetensors` then exports it" in said
    (command,) = re.findall(r"`python -m child_trainer best.json (.*?)`", said)
    assert nascluster("best", "demo", "--json", *place) == 0
    (tmp_path / "best.json").write_text(capsys.readouterr().out)
    words = [word.replace("best.safetensors", str(tmp_path / "best.safetensors")) for word in command.split()]
    assert train_by_hand([str(tmp_path / "best.json"), *words]) == 0
    weights = ("--weights", tmp_path / "best.safetensors")
    assert nascluster("export", "demo", *place, *weights, "--out", tmp_path / "x.pt2") == 0
    text = (tmp_path / "x.pt2.README.md").read_text()
    assert "The weights are those of best.safetensors, of a training by hand" in text
    assert nascluster("export", "demo", 1, *place, *weights) == 2
    assert "has the weights of the architecture" in capsys.readouterr().err


WRONG = [
    (["demo", "x"], "`CHILD` must be a child's id, a whole number, got 'x'"),
    (["demo", "9"], "has no child 9 that has ended with a metric"),
    (["demo", "3"], "has kept no weights of child 3, only such as those of children 2 and 1"),
    (["demo", "1", "--format", "pickle"], "--format"),
    (["demo", "1", "--out", "{tmp}"], "is a folder: give a file, such as {tmp}/network.pt2"),
    (["demo", "1", "--out", "{tmp}/no/x.pt2"], "cannot be written, because {tmp}/no is not a folder"),
    (["demo", "1", "--out", "{tmp}/x.bin"], "`--out` must end in .pt2"),
    (["demo", "1", "--out", "{tmp}/mine.pt2"], "mine.pt2 is there, and no export has written it"),
    (["demo", "1", "--out", "{tmp}/other.pt2"], "other.pt2.README.md is there, and no export has written it"),
    (["demo", "1", "--weights", "{tmp}/none"], "cannot be read (No such file or directory); give a file that"),
    (["demo", "1", "--weights", "{tmp}/mine.pt2"], "is damaged: its header cannot be read; give a file that"),
    (["nothing"], "no run named 'nothing'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_bad_input_is_refused_before_anything_is_written(
    arguments: list[str], message: str, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.pt2").write_text("mine")
    (tmp_path / "other.pt2.README.md").write_text("mine")
    before = sorted(tmp_path.iterdir())
    words = [word.format(tmp=tmp_path) for word in arguments]
    assert nascluster("export", *words, "--storage-path", run.path.parent) == 2
    assert message.format(tmp=tmp_path) in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "mine.pt2").read_text() == "mine"


def test_files_that_are_not_ours_are_replaced_when_one_asks(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    out.write_text("mine")
    with pytest.raises(ExportError, match="no export has written it"):
        export_child(run, 1, form="safetensors", out=out)
    export_child(run, 1, form="safetensors", out=out, replace=True)
    assert TrainedWeights.from_bytes(out.read_bytes()).checksum == kept(run, 1)[1].checksum


def test_a_link_is_followed_and_a_fifo_gets_the_bytes_alone(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link.safetensors", tmp_path / "elsewhere" / "there"
    link.symlink_to(target)
    export_child(run, 1, form="safetensors", out=link, replace=True)
    assert link.is_symlink()
    assert TrainedWeights.from_bytes(target.read_bytes()).checksum == kept(run, 1)[1].checksum
    assert (tmp_path / "link.safetensors.README.md").exists()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ExportError, match="fifo cannot be written: No such device or address"):
        export_child(run, 1, form="safetensors", out=fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        assert export_child(run, 1, form="safetensors", out=fifo).readme is None
        assert TrainedWeights.from_bytes(reader.read()).checksum == kept(run, 1)[1].checksum
    assert sorted(path.name for path in tmp_path.glob("fifo*")) == ["fifo"]


def test_an_export_to_a_full_disk_leaves_what_was_there(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files, which is what a process can be given: the kernel refuses the write itself."""
    out = tmp_path / "x.safetensors"
    export_child(run, 1, form="safetensors", out=out)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(ExportError, match=f"the export {out} cannot be written: File too large"):
            export_child(run, 2, form="safetensors", out=out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert nascluster("export", "demo", "--out", "/dev/full", "--storage-path", run.path.parent) == 1
    assert "the export /dev/full cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("text-rnn", "no child of the run 'run' has ended with a metric yet"),
        ("synthetic", "the task 'synthetic' trains no networks that could be exported"),
    ],
)
def test_a_run_without_networks_is_refused_by_name(
    recipe: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_run(tmp_path, "run", RECIPES[recipe]())
    assert nascluster("export", "run", "--storage-path", tmp_path) == 2
    assert message in capsys.readouterr().err


def test_onnx_without_its_packages_says_how_to_get_them(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ExportError, match=r"needs the package onnx: in a checkout of nascluster, pip install '.\[onnx\]'"
    ):
        export_child(run, form="onnx", out=tmp_path / "x.onnx")
