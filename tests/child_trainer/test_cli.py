import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from child_trainer.__main__ import main
from child_trainer.architecture import Architecture, node
from child_trainer.outcome import Outcome
from tests.golden import architecture

SMALL = architecture(((3, 3, 24, ()), (3, 3, 24, (1,))), strides=(2, 1))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL.to_json()))
    return str(path)


def refused(capsys, *arguments):
    """What the command says on stderr when it refuses: one line, and nothing else, with exit status 2."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said.removeprefix("error: ").rstrip()


def test_a_child_is_drawn_trained_and_reported(small, capsys):
    assert main([small, "--epochs", "2", "--train-fraction", "0.3", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "1  conv 3x3, 24 filters, stride 2  ●" in out
    assert out.count("epoch ") == 2
    assert "epoch 2/2  validation metric 0." in out
    assert "after 2 epochs in" in out
    assert " parameters, " in out


def test_json_is_one_line_that_gives_the_outcome_back(small, capsys):
    assert main([small, "--task", "synthetic", "--epochs", "4", "--seed", "9", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data.pop("architecture") == SMALL.id
    outcome = Outcome.from_json(data)
    assert (len(outcome.curve), outcome.seed, outcome.failure) == (4, 9, None)


def test_a_child_that_fails_exits_with_one_and_its_cause(small, capsys):
    assert main([small, "--learning-rate", "1e30", "--device", "cpu"]) == 1
    assert "failed (diverged): the training loss is nan in epoch 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epochs", "0"], "`epochs` must be at least 1, got 0"),
        (["--batch-size", "-3"], "`batch_size` must be at least 1, got -3"),
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["--learning-rate", "nan"], "`learning_rate` must be a positive number, got nan"),
        (["--train-fraction", "2"], "`train_fraction` must be above 0 and at most 1, got 2.0"),
        (["--task", "mnist"], "there is no task 'mnist'; the tasks are digits, fashion-mnist, cifar10, synthetic"),
        (["--task", "cifar10"], "the task 'cifar10' needs `--data DIR`"),
        (["--task", "cifar10", "--data", "/none"], "`--data` /none is not a folder"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_bad_option_is_refused_in_one_sentence(small, capsys, options, sentence):
    assert sentence in refused(capsys, small, *options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(small, capsys):
    assert "`--device cuda` needs a GPU" in refused(capsys, small, "--device", "cuda")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not valid JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b'{\n "kind" 3}', "at line 2, column 9"),
        (b"", "is not valid JSON: Expecting value at line 1, column 1"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[]", "an architecture must be an object, got list"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, capsys, content, sentence):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    assert sentence in refused(capsys, str(path))


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert "none.json cannot be read (No such file or directory)" in refused(capsys, str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([("a", "relu", "b"), ("b", "relu", "a")], "the nodes form a cycle: "),
        ([("a", "reluu", "image")], "node 'a' has the unknown operation 'reluu'"),
        ([("a", "relu", "b")], "node 'a' reads 'b', which does not exist"),
        ([("a", "linear", "image")], "node 'a' (linear) cannot take inputs of shape (1, 8, 8): it takes a vector"),
    ],
)
def test_a_bad_network_is_refused_in_one_sentence(tmp_path, capsys, nodes, sentence):
    path = tmp_path / "bad.json"
    listed = [{"name": name, "op": op, "inputs": [source]} for name, op, source in nodes]
    path.write_text(json.dumps({"kind": "feedforward", "nodes": listed, "outputs": ["a"]}))
    assert sentence in refused(capsys, str(path))


def test_a_cell_cannot_be_trained_on_images(tmp_path, capsys):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(Architecture("recurrent", (node("a", "tanh", "h"),), ("a",)).to_json()))
    assert "an image task needs a feedforward architecture, got a recurrent one" in refused(capsys, str(path))


def test_the_command_as_a_user_types_it(small):
    command = [sys.executable, "-m", "child_trainer"]
    good = subprocess.run(
        [*command, small, "--task", "synthetic"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert "epoch 3/3" in good.stdout
    helped = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert helped.returncode == 0
    for option in ("--task", "--epochs", "--seed", "--data", "--download", "--batch-size", "--device", "--json"):
        assert option in helped.stdout
