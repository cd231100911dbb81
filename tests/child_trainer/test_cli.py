import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from child_trainer.__main__ import main
from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.reference_cells import lstm
from child_trainer.command_line import BUDGET_HELP, chosen_budget, parse
from child_trainer.field_docs import field_docs
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget, Outcome
from child_trainer.regime import Regime
from child_trainer.tasks.synthetic_options import SyntheticOptions
from controller.zoo.catalogue import ZOO
from controller.zoo.entry import Size
from tests.child_trainer.training.interruptions import EVERY_PART
from tests.golden import architecture
from tests.lengths import LONG

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
        (
            ["--task", "mnist"],
            "there is no task 'mnist'; the tasks are digits, fashion-mnist, cifar10, image-folder, ptb, wikitext2",
        ),
        (["--task", "cifar10"], "the task 'cifar10' needs `--data DIR`"),
        (["--task", "cifar10", "--data", "/none"], "`--data` /none is not a folder"),
        (["--task", "nasbench201", "--train-fraction", "0.5"], "`train_fraction` must be 1, as this table has"),
        (["--colour"], "unrecognized arguments: --colour"),
        (
            ["--hidden-size", "4"],
            "the task 'digits' has no option `--hidden-size`; these have it: ptb, wikitext2, text",
        ),
        (
            ["--task", "text", "--child-seconds=1"],
            "the task 'text' has no option `--child-seconds`; these have it: synthetic",
        ),
        (["--optimizer", "lamb"], "argument --optimizer: invalid choice: 'lamb' (choose from "),
        (["--schedule", "steps"], "the schedule steps needs `decay_at`, shares of the training such as 0.5 0.75"),
        (["--decay-at", "0.5", "0.4"], "`decay_at` must be rising shares of the training between 0 and 1, got 0.5 0.4"),
        (["--label-smoothing", "1"], "`label_smoothing` must be at least 0 and below 1, got 1.0"),
        (["--cutout", "8"], "`cutout` must be below 8, the side of the task's images, got 8"),
        (["--task", "text", "--path-keep", "0.5"], "`path_keep` is for images only, and this task trains language"),
        (["--task", "synthetic", "--child-seconds", "-1"], "`child_seconds` must be 0 or more, got -1.0"),
    ],
)
def test_a_bad_option_is_refused_in_one_sentence(small, capsys, options, sentence):
    assert sentence in refused(capsys, small, *options)


@pytest.mark.parametrize(
    "flags",
    [
        "--optimizer adam --adam-betas 0.5 0.9 --optimizer-epsilon 0.001 --initial xavier",
        "--optimizer rmsprop --rmsprop-decay 0.5 --norm-epsilon 0.001 --norm-momentum 0.5",
        "--schedule steps --decay-at 0.25 0.5 --decay 0.2 --warmup-epochs 0.1 --clip-norm 1",
        "--schedule exponential --decay-every 0.5 --label-smoothing 0.1 --cutout 3",
        "--schedule cosine --path-keep 0.5 --auxiliary-weight 0.4",
        "--restart-below 0.99 --restarts 1 --restart-decay 0.5",
    ],
)
def test_a_child_is_trained_by_the_regime_of_the_flags(tmp_path, capsys, flags):
    path = tmp_path / "child.json"
    path.write_text(json.dumps(EVERY_PART.to_json()))
    usual = [str(path), "--epochs", "1", "--train-fraction", "0.3", "--device", "cpu", "--json"]
    changes = chosen_budget(parse([*usual, *flags.split()])).regime.changes()
    assert {"--" + name.replace("_", "-") for name in changes} == {f for f in flags.split() if f.startswith("--")}
    assert main(usual) == main([*usual, *flags.split()]) == 0
    plain, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert plain["failure"] is other["failure"] is None
    assert plain["parameters"] == other["parameters"]


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


@pytest.mark.parametrize(
    ("options", "lines", "unbuffered"),
    [
        ([], 0, ""),
        ([], 8, "1"),
        (["--json"], 0, ""),
        pytest.param([], 0, "1", marks=LONG),
        pytest.param([], 8, "", marks=LONG),
        pytest.param(["--json"], 0, "1", marks=LONG),
    ],
)
def test_a_reader_that_goes_away_ends_the_training_without_a_word(small, tmp_path, options, lines, unbuffered):
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "child_trainer", small, "--device", "cpu", "--train-fraction", "0.3", *options]
        + ["--epochs", "2" if options else "1000", "--checkpoint", str(state)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE
    process.stderr.close()
    assert state.exists() == bool(options or lines)  # what was trained is there to go on from


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


# --- A checkpoint in a file --------------------------------------------------------------------------------------


def train_by_hand(*arguments):
    command = [sys.executable, "-m", "child_trainer", *map(str, arguments), "--device", "cpu"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_goes_on_from_its_file_and_gives_the_same(small, tmp_path, capsys, number, status):
    file = tmp_path / "child.safetensors"
    epochs = ("--epochs", "4", "--batch-size", "8", "--seed", "4")
    with train_by_hand(small, *epochs, "--checkpoint", file) as child:
        assert child.stdout is not None
        while not child.stdout.readline().startswith("epoch 1/"):
            pass
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == status
    assert "failed (preempted): preempted before step " in said
    assert f"the same command resumes from {file}" in said
    assert "Traceback" not in said
    assert main([small, *epochs, "--device", "cpu", "--checkpoint", str(file)]) == 0
    continued = capsys.readouterr().out
    assert "epoch 1/4" not in continued
    assert "epoch 4/4" in continued
    # As often as one likes: what the file holds now is the state before the last epoch.
    assert main([small, *epochs, "--device", "cpu", "--checkpoint", str(file), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert main([small, *epochs, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["curve"] == again["curve"]


def test_a_checkpoint_leaves_the_signals_as_they_were(small, tmp_path):
    usual = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main([small, "--train-fraction", "0.1", "--device", "cpu", "--checkpoint", str(tmp_path / "c")]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == usual


def test_a_file_that_is_no_checkpoint_of_this_child_is_never_overwritten(small, tmp_path, capsys):
    content = Path(small).read_bytes()
    assert "is in the way: the checkpoint is damaged" in refused(capsys, small, "--checkpoint", small)
    assert Path(small).read_bytes() == content
    file = str(tmp_path / "c")
    quick = ["--train-fraction", "0.1", "--device", "cpu", "--checkpoint", file]
    assert main([small, *quick]) == 0
    content = Path(file).read_bytes()
    said = refused(capsys, small, *quick, "--seed", "2")
    assert said.endswith("its seed is 1, not 2; remove it or give another file")
    assert Path(file).read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_is_refused(small, tmp_path, capsys):
    said = refused(capsys, small, "--checkpoint", str(tmp_path / "none" / "c"))
    assert said.endswith(f"cannot be written, because {tmp_path / 'none'} is not a folder")
    assert "cannot be read (Is a directory); give a file" in refused(capsys, small, "--checkpoint", str(tmp_path))


def test_every_option_of_a_language_model_and_of_a_budget_has_a_flag():
    for options in (LanguageOptions, SyntheticOptions, Regime):
        assert field_docs(options).keys() == {f.name for f in fields(options)}
    # Seconds are for searches: a user who trains by hand has Ctrl-C.
    assert BUDGET_HELP.keys() == {f.name for f in fields(Budget)} - {"max_seconds", "regime"}


def test_a_cell_of_the_literature_goes_by_its_name(capsys):
    arguments = "lstm --task text --hidden-size 4 --cell-layers 1 --epochs 1 --train-fraction 0.02 --device cpu --json"
    assert main(arguments.split()) == 0
    assert lstm().id == json.loads(capsys.readouterr().out)["architecture"]


def test_a_width_and_what_it_would_follow_from_are_refused_together(capsys):
    assert main(["lstm", "--task", "text", "--hidden-size", "4", "--target-parameters", "9000"]) == 2
    error = "error: give `--hidden-size` or `--target-parameters`, from which the width follows, not both\n"
    assert capsys.readouterr() == ("", error)


def test_an_unknown_name_is_a_file_that_cannot_be_read(capsys):
    assert "gru cannot be read (No such file or directory)" in refused(capsys, "gru", "--task", "text")


def test_a_deep_network_of_cells_is_printed_as_rows(tmp_path, capsys):
    file = tmp_path / "nasnet.json"
    file.write_text(json.dumps(ZOO["nasnet-a"].architecture(Size(1, 2)).to_json()))
    assert main([str(file), "--epochs", "1", "--train-fraction", "0.05", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["stem, 6 filters", "normal cell, 2 filters"]


# --- Weights in a file -------------------------------------------------------------------------------------------


def test_a_training_goes_on_from_the_weights_of_another(small, tmp_path, capsys):
    file, quick = tmp_path / "w.safetensors", ["--batch-size", "8", "--device", "cpu", "--json"]
    assert main([small, *quick, "--epochs", "2", "--save-weights", str(file)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([small, *quick, "--epochs", "1", "--learning-rate", "1e-9", "--from", str(file)]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["measurements"] == {"accuracy_before_training": first["curve"][-1]}
    # Its own weights are other ones, and it keeps none, as it was not asked to.
    assert len(first["weights"]) == 64
    assert "weights" not in second
    assert main([small, "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--from", str(file)]) == 0
    assert f"accuracy before the training {first['curve'][-1]:.4f}" in capsys.readouterr().out


def test_weights_that_do_not_fit_or_cannot_be_read_are_refused(small, tmp_path, capsys):
    file, other = tmp_path / "w.safetensors", tmp_path / "other.json"
    quick = ["--train-fraction", "0.1", "--device", "cpu"]
    assert main([small, *quick, "--save-weights", str(file)]) == 0
    architecture = json.loads(Path(small).read_text())
    name = architecture["nodes"][0]["name"]
    text = json.dumps(architecture).replace(f'"{name}"', '"renamed"')
    other.write_text(text)
    said = refused(capsys, str(other), *quick, "--from", str(file))
    assert "the weights of `--from` are of another network: the network has a parameter 'renamed/" in said
    assert "`--from` gone cannot be read (No such file or directory)" in refused(capsys, small, "--from", "gone")
    assert f"`--from` {small} is damaged: its header cannot be read; give a file" in refused(
        capsys, small, "--from", small
    )
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    assert "is damaged: it does not match its checksum" in refused(capsys, small, "--from", str(file))
    assert "must have the format 'nascluster-weights-1', got 'nascluster-child-1'" in refused(
        capsys, small, "--from", str(checkpoint_of(small, tmp_path))
    )
    assert "is for tasks of images and text, and 'synthetic' is none" in refused(
        capsys, small, "--task", "synthetic", "--save-weights", str(tmp_path / "x")
    )
    assert "is not a folder" in refused(capsys, small, "--save-weights", str(tmp_path / "no" / "x"))


def checkpoint_of(small, tmp_path):
    path = tmp_path / "checkpoint"
    arguments = ["--epochs", "2", "--train-fraction", "0.1", "--device", "cpu", "--checkpoint", str(path)]
    assert main([small, *arguments]) == 0
    return path
