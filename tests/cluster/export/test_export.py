"""Exported networks load where nascluster is not, and compute the same logits."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from child_trainer.__main__ import main as train_by_hand
from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.networks.build import build
from child_trainer.networks.weights import load
from child_trainer.tasks.catalogue import find_task, load_task
from child_trainer.tasks.image import ImageTask
from child_trainer.training.image_classifier import standardise
from cluster.export import formats
from cluster.export.export import Exported, export_child
from cluster.export.formats import FACTS, ExportError
from cluster.storage.run_folder import RunFolder
from tests.cluster.export.runs import BUDGET, kept, trained_run
from tests.command_line import nascluster

ROOT = Path(__file__).parents[3]

OURS = ("nascluster", "cluster", "controller", "child_trainer", "ps")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained_run(tmp_path_factory.mktemp("runs"))


def images() -> Tensor:
    task = load_task("digits")
    assert isinstance(task, ImageTask)
    return task.validation.pixels[:7].float()


def evaluated(weights: TrainedWeights, pixels: Tensor) -> Tensor:
    """The logits as the training's own evaluation has them, auxiliary head and all."""
    task, problem = load_task("digits"), find_task("digits").problem
    assert isinstance(task, ImageTask)
    assert problem is not None
    network = build(weights.architecture, problem, regime=BUDGET.regime)
    load(network, weights.tensors)
    with torch.inference_mode():
        return network.eval()(task.centred(standardise(pixels)))


def without(packages: Sequence[str], code: str, folder: Path) -> None:
    """Run Python in which these packages cannot be imported."""
    hide = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {tuple(packages)}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(entry) != ROOT]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", hide + code], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def code_of(written: Exported) -> str:
    """What a reader of the README would paste."""
    (code,) = re.findall(r"```python\n(.*?)```", readme_of(written), re.S)
    return code


def readme_of(written: Exported) -> str:
    assert written.readme is not None
    return written.readme.read_text()


@pytest.fixture(scope="module")
def torch_export(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_child(run, 1, out=tmp_path_factory.mktemp("torch") / "digits.pt2")


@pytest.fixture(scope="module")
def onnx(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="make install installs it")
    return export_child(run, 1, form="onnx", out=tmp_path_factory.mktemp("onnx") / "digits.onnx")


def check_logits(folder: Path, run: RunFolder, tolerance: float) -> None:
    """Compare the logits that another process has written, of all images at once and of the first alone."""
    ours = evaluated(kept(run, 1)[1], images())
    assert ours.std() > 0.01
    for theirs, expected in zip(json.loads((folder / "logits.json").read_text()), (ours, ours[:1]), strict=True):
        torch.testing.assert_close(torch.tensor(theirs), expected, rtol=0.0, atol=tolerance)


def test_torch_export_and_safetensors_load_with_torch_alone(
    run: RunFolder, torch_export: Exported, tmp_path: Path
) -> None:
    """The program computes the same logits; the weights are to the bit those that the training left."""
    weights = export_child(run, 1, form="safetensors", out=tmp_path / "digits.safetensors")
    shutil.copy(torch_export.file, tmp_path)
    (tmp_path / "images.json").write_text(json.dumps(images().tolist()))
    compute = (
        f"{code_of(torch_export)}\nimport json\nimages = torch.tensor(json.load(open('images.json')))\n"
        "json.dump([network(images).tolist(), network(images[:1]).tolist()], open('logits.json', 'w'))\n"
    )
    keep = "torch.save(weights, 'weights.pt')\njson.dump(architecture, open('architecture.json', 'w'))\n"
    without(OURS, f"{compute}{code_of(weights)}\n{keep}", tmp_path)
    check_logits(tmp_path, run, 1e-6)
    _, trained = kept(run, 1)
    read = torch.load(tmp_path / "weights.pt")
    assert read.keys() == trained.tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in trained.tensors.items())
    assert json.loads((tmp_path / "architecture.json").read_text()) == trained.architecture.to_json()


def test_onnx_computes_the_same_with_onnxruntime_alone(run: RunFolder, onnx: Exported, tmp_path: Path) -> None:
    shutil.copy(onnx.file, tmp_path)
    (tmp_path / "images.json").write_text(json.dumps(images().tolist()))
    compute = (
        f"{code_of(onnx)}\nimport json\nimages = numpy.array(json.load(open('images.json')), numpy.float32)\n"
        "each = [session.run(None, {'pixels': some})[0].tolist() for some in (images, images[:1])]\n"
        "json.dump(each, open('logits.json', 'w'))\n"
    )
    without((*OURS, "torch", "onnx", "onnxscript"), compute, tmp_path)
    check_logits(tmp_path, run, 1e-5)


def test_a_training_goes_on_from_exported_weights(run: RunFolder, tmp_path: Path) -> None:
    written = export_child(run, 1, form="safetensors", out=tmp_path / "digits.safetensors")
    (tmp_path / "architecture.json").write_text(json.dumps(kept(run, 1)[1].architecture.to_json()))
    words = [str(tmp_path / "architecture.json"), "--from", str(written.file), "--epochs", "1", "--device", "cpu"]
    assert train_by_hand([*words, "--train-fraction", "0.1", "--norm-epsilon", "0.05", "--json"]) == 0


def test_the_readme_says_what_one_must_know(run: RunFolder, tmp_path: Path) -> None:
    written = export_child(run, form="safetensors", out=tmp_path / "digits.safetensors", test=0.875)
    assert written.readme == tmp_path / "digits.safetensors.README.md"
    text = readme_of(written)
    assert written.child_id == 2, "the best child has no weights, and the next one is 2"
    for said in (
        "Child 2 of the search demo, trained on the task digits",
        "`[images, 1, 8, 8]`",
        "(x - mean) / max(std, 1 / sqrt(64))",
        "enlarge it to 10 x 10",
        "\n7. 7\n",
        "| test accuracy | 0.8750 |",
        "CC BY 4.0",
    ):
        assert said in text


def test_the_facts_are_in_the_file_and_the_folders_of_this_machine_are_not(
    run: RunFolder, torch_export: Exported, tmp_path: Path
) -> None:
    assert "| test accuracy | not looked at |" in readme_of(torch_export)
    assert str(ROOT).encode() not in torch_export.file.read_bytes()
    found = {FACTS: ""}
    torch.export.load(str(torch_export.file), extra_files=found)
    assert json.loads(found[FACTS])["child_id"] == 1
    written = export_child(run, 1, form="safetensors", out=tmp_path / "digits.safetensors")
    with safe_open(written.file, framework="pt") as file:
        assert json.loads(file.metadata()[FACTS]) == json.loads(found[FACTS])


def test_an_onnx_model_has_them_likewise(onnx: Exported) -> None:
    data = onnx.file.read_bytes()
    assert str(ROOT).encode() not in data
    assert b"Alpaydin" in data


def test_the_command_writes_into_the_runs_folder_and_again(
    run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run.path / "exports" / "child-1.pt2"
    for _ in range(2):
        assert nascluster("export", "demo", 1, "--storage-path", run.path.parent) == 0
        assert capsys.readouterr().out.split() == [str(file), f"{file}.README.md"]
    assert sorted(path.name for path in (run.path / "exports").glob("child-1*")) == [
        file.name,
        f"{file.name}.README.md",
    ]
    monkeypatch.chdir(tmp_path)
    stored = RunFolder(run.path, url="s3://bucket/runs", alive=False)
    assert export_child(stored, 1).file == tmp_path / "demo-child-1.pt2"


def test_weights_of_a_training_by_hand(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that the refusal names, in their order, as a reader would paste them."""
    alone = RunFolder(tmp_path / "demo")
    shutil.copytree(run.path, alone.path)
    shutil.rmtree(alone.child_weights)
    place = ("--storage-path", tmp_path)
    assert nascluster("export", "demo", *place) == 2
    said = capsys.readouterr().err
    assert "has kept no weights of child 3: `nascluster best demo --storage-path" in said
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


def test_a_task_without_images_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, task, message in (
        ("text", "text", "the task 'text' trains language models, whose weights no training keeps"),
        ("score", "synthetic", "the task 'synthetic' trains no networks that could be exported"),
    ):
        words = ("launch", "text-rnn" if task == "text" else "synthetic", "--local", "--max-children", "1")
        if task == "synthetic":
            assert nascluster(*words, "--name", name, "--storage-path", tmp_path) == 0
        else:
            _made(tmp_path, name)
        capsys.readouterr()
        assert nascluster("export", name, "--storage-path", tmp_path) == 2
        assert message in capsys.readouterr().err


def _made(storage: Path, name: str) -> None:
    from cluster.config.recipes import RECIPES
    from tests.cluster.report.ledgers import new_run

    new_run(storage, name, RECIPES["text-rnn"]())


def test_onnx_without_its_packages_says_how_to_get_them(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ExportError, match=r"needs the package onnx: in a checkout of nascluster, pip install '.\[onnx\]'"
    ):
        export_child(run, form="onnx", out=tmp_path / "x.onnx")
