"""Exported language models load where nascluster is not, and read a text as the training's own evaluation does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from child_trainer.__main__ import main as train_by_hand
from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.reference_cells import lstm, nas_cell
from child_trainer.language_options import LanguageOptions
from child_trainer.networks.language_model import build_language_model
from child_trainer.networks.language_weights import load, words_of
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.entry import TEXT_BUDGET
from child_trainer.training.train import train
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.export.export import Exported, export_child
from cluster.export.formats import facts_in
from cluster.pool.child_weights import ChildWeightsSlot, WeightsFolder
from cluster.storage.run_folder import RunFolder
from controller.spaces.recurrent import RecurrentSpace
from tests.cluster.export.runs import kept, write_children
from tests.cluster.export.test_export import OURS, code_of, readme_of, without
from tests.cluster.report.ledgers import new_run

OPTIONS = LanguageOptions(hidden_size=7, cell_layers=2, max_vocabulary=50, unroll=10)
TEXT = ("the", "<eos>", "<unk>", "a", "of", "the", "is", "the")


def plain() -> Architecture:
    """A cell whose next state is h alone, with a map within it."""
    nodes = (
        node("of_x", "linear", "x"),
        node("of_h", "linear", "h", bias=False),
        node("sum", "add", ["of_x", "of_h"]),
        node("next", "relu", "sum"),
        node("mixed", "linear", "next"),
        node("end", "tanh", "mixed"),
    )
    return Architecture("recurrent", nodes, ("end",))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with three trained language models."""
    task = TaskOptions(task="text", options=OPTIONS)
    budget = replace(TEXT_BUDGET, epochs=1, train_fraction=0.05)
    config = RunConfig(
        task=task,
        searcher="random",
        space="recurrent",
        space_options=RecurrentSpace(),
        reward="perplexity",
        budget=budget,
    )
    folder = new_run(tmp_path_factory.mktemp("runs"), "models", config)
    loaded = load_task("text", options=OPTIONS)
    rows = []
    for child, cell in enumerate((nas_cell(), lstm(), plain()), start=1):
        slot = ChildWeightsSlot(WeightsFolder(folder.child_weights), child)
        rows.append((child, cell, train(cell, loaded, budget, seed=child, keep=slot)))
        assert rows[-1][2].failure is None, rows[-1][2].failure
    write_children(folder, rows)
    return folder


def expected(folder: RunFolder, child: int) -> Tensor:
    """The logits `[T, V]` of the text as the training's own model has them, read in one stretch."""
    _, weights = kept(folder, child)
    words = words_of(weights.tensors)
    model = build_language_model(weights.architecture, len(words), OPTIONS)
    load(model, words, weights.tensors)
    numbers = torch.tensor([[words.index(word)] for word in TEXT])
    with torch.inference_mode():
        return model.eval()(numbers, model.initial_state(1))[0].squeeze(1)


def reading(written: Exported) -> str:
    """The README's code, which reads the text and writes all logits."""
    code = code_of(written)
    assert '["the", "<eos>"]' in code
    code = code.replace('["the", "<eos>"]', json.dumps(TEXT))
    code = code.replace("\nnext_word", "\n    told.append(logits[0].tolist())\nnext_word")
    return f"told = []\n{code}\njson.dump(told, open('logits.json', 'w'))\n"


def check_logits(place: Path, folder: RunFolder, child: int, tolerance: float) -> None:
    found = torch.tensor(json.loads((place / "logits.json").read_text()))
    torch.testing.assert_close(found, expected(folder, child), rtol=0.0, atol=tolerance)


def test_a_program_and_weights_are_read_with_torch_alone(models: RunFolder, tmp_path: Path) -> None:
    """The program computes the same logits; the weights are to the bit those that the training left."""
    program = export_child(models, 3, out=tmp_path / "made.pt2")
    weights = export_child(models, 2, form="safetensors", out=tmp_path / "made.safetensors")
    place = tmp_path / "elsewhere"
    place.mkdir()
    for written in (program, weights):
        shutil.copy(written.file, place)
    keep = "torch.save(weights, 'w.pt')\njson.dump(vocabulary, open('words.json', 'w'))\n"
    without(OURS, f"{reading(program)}\n{code_of(weights)}\n{keep}", place)
    check_logits(place, models, 3, 1e-6)
    facts = facts_in(program.file)
    assert facts["vocabulary"] == list(words_of(kept(models, 3)[1].tensors))
    assert (facts["layers"], facts["hidden_size"]) == (2, 7)
    _, trained = kept(models, 2)
    read = torch.load(place / "w.pt")
    assert read.keys() == trained.tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in trained.tensors.items())
    assert tuple(json.loads((place / "words.json").read_text())) == words_of(trained.tensors)


def test_an_onnx_model_reads_it_with_onnxruntime_alone(models: RunFolder, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="make install installs it")
    written = export_child(models, 1, form="onnx", out=tmp_path / "made.onnx")
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.copy(written.file, place)
    without((*OURS, "torch", "onnx", "onnxscript"), reading(written), place)
    check_logits(place, models, 1, 1e-5)


def test_a_training_goes_on_from_exported_weights(
    models: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = export_child(models, 2, form="safetensors", out=tmp_path / "made.safetensors")
    (tmp_path / "cell.json").write_text(json.dumps(kept(models, 2)[1].architecture.to_json()))
    words = [str(tmp_path / "cell.json"), "--task", "text", "--hidden-size", "7", "--unroll", "10", "--epochs", "1"]
    words += ["--train-fraction", "0.05", "--device", "cpu", "--from", str(written.file)]
    assert train_by_hand([*words, "--max-vocabulary", "50", "--json"]) == 0
    capsys.readouterr()
    assert train_by_hand([*words, "--max-vocabulary", "49"]) == 2
    assert "`--from` are of another network: 'embedding' has the shape (49, 7), got (50, 7)" in capsys.readouterr().err


def test_the_readme_says_what_one_must_know(models: RunFolder, tmp_path: Path) -> None:
    text = readme_of(export_child(models, 1, form="safetensors", out=tmp_path / "model.safetensors"))
    for said in (
        "Child 1 of the run models, trained on the task text",
        "vocabulary, 50 words, counted from 0",
        "`[2, texts, 7]`",
        "| validation perplexity | ",
        "| test perplexity | not looked at |",
        "| FLOPs for one word |",
        "text: PSF License",
    ):
        assert said in text
