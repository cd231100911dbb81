"""Exported networks load where nascluster is not, and compute the same logits."""

import json
import os
import re
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
from cluster.export.export import Exported, export_child
from cluster.export.formats import FACTS
from cluster.storage.run_folder import RunFolder
from tests.cluster.export.runs import BUDGET, kept

ROOT = Path(__file__).parents[3]

OURS = ("nascluster", "cluster", "controller", "child_trainer", "ps")


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
    written = export_child(run, form="safetensors", out=tmp_path / "digits.safetensors")
    assert written.readme == tmp_path / "digits.safetensors.README.md"
    text = readme_of(written)
    assert written.child_id == 2, "the best child has no weights, and the next one is 2"
    for said in (
        "Child 2 of the run demo, trained on the task digits",
        "`[images, 1, 8, 8]`",
        "(x - mean) / max(std, 1 / sqrt(64))",
        "enlarge it to 10 x 10",
        "\n7. 7\n",
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
