"""What a user types, and what comes back."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config.flags import UsageError, parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.storage.run_folder import RunFolder
from controller.catalogue import SEARCHERS
from tests.command_line import nascluster
from tests.contracts.evaluator import architecture
from tests.extending.files import write_files

SMALL = ["--local", "--max-children", "8"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("COLUMNS", "200")
    yield tmp_path


def test_launch_status_best(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("launch", "synthetic", "--name", "demo", *SMALL) == 0
    out = capfd.readouterr().out
    assert f"Run demo in {home}/nascluster_runs/demo" in out
    assert "against the mean of the first 8 children" in out
    assert "Finished after" in out

    assert nascluster("status", "demo", "--json") == 0
    status = json.loads(capfd.readouterr().out)
    assert status["state"] == "finished"
    assert status["children"] == {"sampled": 8, "running": 0, "finished": 8, "failed": 0, "max": 8}
    assert nascluster("status", "demo") == 0
    assert capfd.readouterr().out.startswith("demo: finished\n  children  0 running, 8 finished, 0 failed\n")

    assert nascluster("best", "demo", "--json") == 0
    best = json.loads(capfd.readouterr().out)
    assert best["child_id"] == status["best"]["child_id"]
    figures = {
        "child_id",
        "reward",
        "metric",
        "parameters",
        "flops",
        "seconds",
        "seed",
        "batch_size",
        "device",
        "processor",
        "parent",
        "change",
        "same_as",
    }
    assert best.keys() == {*figures, "tokens", "architecture"}
    assert best["architecture"]["kind"] == "feedforward"
    assert nascluster("best", "demo") == 0
    assert "filters" in capfd.readouterr().out


def test_the_best_child_trains_again_by_hand_to_the_same_metric(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--epochs", 2, "--train-fraction", 0.3, "--max-children", 2, "--replicas", 1, "--children", 2, "--seed", 3]
    regime = (
        "--optimizer adam --learning-rate 0.01 --schedule steps --decay-at 0.3 0.6 --cutout 3 --label-smoothing 0.1"
    )
    assert nascluster("launch", "digits", "--name", "demo", "--local", *small, *regime.split()) == 0
    capfd.readouterr()
    nascluster("best", "demo", "--json")
    best = json.loads(capfd.readouterr().out)
    (home / "best.json").write_text(json.dumps(best))
    nascluster("best", "demo")
    command = capfd.readouterr().out.splitlines()[-1].split()
    assert command[:4] == ["python", "-m", "child_trainer", "best.json"]
    assert "--schedule steps --decay-at 0.3 0.6 --label-smoothing 0.1 --cutout 3" in " ".join(command)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "child_trainer", str(home / "best.json"), *command[4:], "--json"],
        capture_output=True, text=True, check=True, cwd=root,
    )  # fmt: skip
    assert max(json.loads(done.stdout)["curve"]) == best["metric"]


def test_a_search_in_which_every_child_fails_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("launch", "digits", *SMALL[:1], "--max-children", 2, "--learning-rate", "1e30") == 1
    out = capfd.readouterr().out
    assert "2 failed (2 diverged)" in out
    assert "Last failure: child 2, diverged: " in out
    nascluster("--help")
    assert "1 the search failed, or no child of it" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (["--on-failure", "crashed=ignore"], "the actions of `on_failure` are"),
        (["--child-faults", "burn=0.1"], "there is no fault 'burn'"),
    ],
)
def test_a_refused_option_is_told_without_the_group_that_it_is_in(
    flag: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster("launch", "synthetic", *flag) == 2
    assert capfd.readouterr().err.startswith(f"nascluster: {message}")


def test_a_damaged_configuration_is_told_as_such(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nascluster("launch", "synthetic", "--name", "demo", *SMALL)
    config = home / "nascluster_runs/demo/config.json"
    config.write_text("[]")
    capfd.readouterr()
    assert nascluster("resume", "demo") == 2
    assert f"{config} is damaged: it must hold a JSON object, got a list" in capfd.readouterr().err
    config.unlink()
    for command in ("resume", "status", "doctor"):
        assert nascluster(command, "demo") == 2
        assert f"the run 'demo' has lost its configuration {config}: put the file back" in capfd.readouterr().err


def test_every_size_is_a_flag(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--replicas", 3, "--shards", 5, "--children", 2, "--seed", 4, "--storage-path", "runs/here"]
    assert nascluster("launch", "synthetic", "--name", "x", *SMALL, *flags, "--initial-depth", 2) == 0
    capfd.readouterr()
    assert nascluster("status", "x", "--storage-path", "runs/here", "--json") == 0
    status = json.loads(capfd.readouterr().out)
    assert (status["shards"], status["replicas"], status["children"]["sampled"]) == (5, 3, 8)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_resume_finishes_what_was_left_and_refuses_the_rest(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.runners.trainer import Trainer

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted)
        assert nascluster("launch", "synthetic", "--name", "demo", *SMALL) == 130
    assert "Resume with: nascluster resume demo" in capfd.readouterr().out
    assert nascluster("resume", "demo") == 0
    assert "8 children finished" in capfd.readouterr().out
    assert nascluster("resume", "demo") == 2
    assert "has finished" in capfd.readouterr().err


def test_what_has_stopped_cannot_be_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    nascluster("launch", "synthetic", "--name", "demo", *SMALL)
    capfd.readouterr()
    assert nascluster("stop", "demo") == 2
    assert capfd.readouterr().err == "nascluster: the run 'demo' is not running: it has finished\n"


def test_failures_are_told_by_cause_with_their_text(capfd: pytest.CaptureFixture[str]) -> None:
    faults = ["--child-faults", "diverged=1", "--on-failure", "diverged=retry", "--max-attempts", 2]
    nascluster("launch", "synthetic", "--name", "demo", *SMALL, *faults)
    capfd.readouterr()
    assert nascluster("failures", "demo", "--last", 2) == 0
    out = capfd.readouterr().out
    assert out.startswith(
        "16 failed attempts at 8 children, by cause:\n  diverged          16   8 failed permanently\n"
    )
    assert "The latest 2 of 16:\n  child 8, attempt 2: diverged, failed permanently\n" in out
    assert nascluster("failures", "demo", "--child", 3, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["by_cause"] == {"diverged": 2}
    assert [(a["child_id"], a["number"], a["worker"], a["verdict"]) for a in found["attempts"]] == [
        (3, 2, "local", "outcome"),
        (3, 1, "local", "retry"),
    ]
    assert nascluster("status", "demo") == 0
    assert "8 failed (8 diverged), 8 retried (8 diverged)" in capfd.readouterr().out
    assert nascluster("failures", "demo", "--child", 99) == 2
    assert capfd.readouterr().err == "nascluster: the run 'demo' has no child 99: it has sampled 8 so far\n"
    for last in (0, -3):
        assert nascluster("failures", "demo", "--last", last) == 2
        assert capfd.readouterr().err == f"nascluster: `--last` must be at least 1, got {last}\n"
    nascluster("launch", "synthetic", "--name", "good", *SMALL)
    capfd.readouterr()
    assert nascluster("failures", "good", "--child", 3) == 0
    assert capfd.readouterr().out == "No attempt has failed.\n"


def test_recipes_say_what_they_set(capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("recipes") == 0
    out = capfd.readouterr().out
    for name, recipe in RECIPES.items():
        assert name in out
        assert str(recipe.__doc__) in out
    assert "--max-children 96" in out


def test_one_recipe_is_shown_by_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("recipes", "darts-digits") == 0
    out = capfd.readouterr().out
    assert out.startswith("DARTS: ")
    assert re.findall(r"^  (\S+)$", out, re.M) == ["darts-digits"]
    write_files(tmp_path)
    assert nascluster("recipes", f"{tmp_path}/my_recipe.py:stripes") == 0
    assert "--max-children" in capfd.readouterr().out
    assert nascluster("recipes", "dart-digits") == 2
    assert "did you mean 'darts-digits'" in capfd.readouterr().err


def test_what_a_recipe_sets_is_written_as_flags_that_set_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("recipes") == 0
    lines = [line.strip() for line in capfd.readouterr().out.splitlines()]
    for name, recipe in RECIPES.items():
        flags = lines[lines.index(name) + 2]
        arguments = shlex.split(flags) if flags.startswith("--") else []
        assert parse_run(RunConfig(), arguments, "digits") == recipe()


@pytest.mark.parametrize(
    ("words", "local"),
    [
        ("--local", True),
        ("--no-local", False),
        ("--no-local --local", True),
        ("--local --no_local", False),
    ],
)
@pytest.mark.parametrize("default", [True, False])
def test_a_switch_may_say_what_is_so_anyway(words: str, default: bool, local: bool) -> None:
    recipe = replace(RECIPES["digits"](), local=default)
    assert parse_run(recipe, [*words.split(), "--num-filters", "8"], "digits").local is local


@pytest.mark.parametrize("words", ["--sharing evolution --lanes 3", "--sharing=evolution --lanes=3"])
def test_a_word_of_the_literature_is_the_option(words: str, home: Path) -> None:
    assert nascluster("launch", "synthetic", "--name", "demo", *SMALL, *words.split()) == 0
    config = RunFolder(home / "nascluster_runs" / "demo").read_config()
    assert (config.searcher, config.topology.children) == ("evolution", 3)


@pytest.mark.parametrize("word", ["--locale", "--no-seed", "--local=maybe"])
def test_a_switch_that_there_is_not_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="Unrecognized options"):
        parse_run(RECIPES["digits"](), [word], "digits")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["launch", "--help"], ["launch", "digits", "--help"], ["launch", "digits", "--help-all"]),
        *(["best", "-h"], ["compare", "--recipe", "digits", "--budget", "5", "--help-all"], ["finish", "--help-all"]),
    ],
)
def test_help_is_there(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster(*arguments) == 0
    assert "usage: nascluster" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lunch"], "unknown command 'lunch'; there are launch, resume, status, stop, .*; did you mean 'launch'?"),
        (["launch", "digit"], "unknown recipe 'digit'; there are digits, .*; did you mean 'digits'?"),
        (
            ["launch", "digits", "--space", "cells"],
            "unknown space 'cells'; there are convolutional, recurrent, nasbench201",
        ),
        (
            ["launch", "digits", "--searcher", "ga"],
            f"unknown searcher 'ga'; there are {', '.join(SEARCHERS)}",
        ),
        (
            ["launch", "digits", "--task", "cifar"],
            "there is no task 'cifar'; the tasks are digits, .*; did you mean 'cifar10'[?]",
        ),
        (["launch", "digits", "--replicas", "0"], "`replicas` must be at least 1, got 0"),
        (["launch", "digits", "--max-children", "0"], "`max_children` must be at least 1, got 0"),
        (["launch", "digits", "--replicas", "9" * 20], "`replicas` must be at most 100,000"),
        (["launch", "digits", "--name=-x"], "`name` must be a folder's name .* leading dot or dash"),
        (["launch", "digits", "--epochs", "-1"], "`epochs` must be at least 1, got -1"),
        (["launch", "digits", "--epochs", "two"], "--epochs must be a whole number, got two"),
        (["launch", "digits", "--workers", "1.5"], "--workers must be a whole number, got 1.5"),
        (["launch", "digits", "--gpus-per-child", "half"], "--gpus-per-child must be a number or auto, got half"),
        (["launch", "digits", "--weight-decay", "little"], "--weight-decay must be a number, got little"),
        (["launch", "digits", "--filter-heights", "1", "x"], "--filter-heights must be whole numbers, got 1 x"),
        (["launch", "digits", "--adam-betas", "1", "x"], "--adam-betas must be two numbers, got 1 x"),
        (["launch", "digits", "--train-fraction", "2"], "`train_fraction` must be above 0 and at most 1, got 2.0"),
        (["launch", "digits", "--replica", "2"], "Unrecognized options: --replica; did you mean --replicas?"),
        (["launch", "digits", "--foo", "3", "--bar", "4"], "Unrecognized options: --foo, --bar \\(`nascluster"),
        (["launch", "digits", "foo"], "Unrecognized options: foo \\(`nascluster"),
        (["launch", "synthetic", "--shards", "90000"], "`shards` must be from 1 to the number of elements"),
        (
            ["launch", "synthetic", "--local", "--gpus-per-child", "4"],
            "--gpus-per-child 4 needs 4 GPUs, but there are 0",
        ),
        (["launch", "synthetic", "--local", "--storage-path", "/proc/nowhere"], "cannot be created: No such file"),
        (["launch", "digits", "--name", "a/b"], "`name` must be a folder's name"),
        (["launch", "digits", "--child-seconds", "1"], "Unrecognized options: --child-seconds"),
        (["launch", "digits", "--start-with", "--name", "x"], "`--start-with` needs one value or more"),
        (["launch", "digits", "--name", "x", "--decay-at"], "`--decay-at` needs one value or more"),
        (["launch", "fashion-mnist"], "the task 'fashion-mnist' needs `--data DIR`"),
        (["launch", "cifar10", "--data", "nowhere"], "nowhere"),
        (["launch", "digits", "--gpus-per-child", "1"], "--gpus-per-child 1 needs 1 GPUs, but there are 0"),
        (["launch", "digits", "--gpus-per-child", "auto"], "--gpus-per-child auto needs a GPU, but there is none"),
        (["launch", "digits", "--local", "--gpus-per-child", "auto"], "auto needs a GPU, but there is none"),
        (
            ["launch", "digits", "--child-timeout", "soon"],
            "`child_timeout` must be a time above 0 such as 2h, .* 'soon'",
        ),
        (["launch", "digits", "--child-timeout", "0s"], "`child_timeout` must be a time above 0"),
        (["launch", "digits", "--worker-silence", "-1"], "`worker_silence` must be a time above 0"),
        (["launch", "digits", "--max-attempts", "0"], "`max_attempts` must be at least 1, got 0"),
        (["launch", "digits", "--recycle-after", "0"], "`recycle_after` must be at least 1, got 0"),
        (
            ["launch", "digits", "--on-failure", "oom=retry"],
            "`on_failure` must be CAUSE=ACTION with a cause of out_of_",
        ),
        (
            ["launch", "digits", "--on-failure", "crashed=ignore"],
            "the actions of `on_failure` are retry, smaller-batch",
        ),
        (["launch", "digits", "--child-faults", "hang=0.1"], "Unrecognized options: --child-faults"),
        (["launch", "synthetic", "--child-faults", "hang=2"], "probability of the fault 'hang' must be from 0 to 1"),
        (["launch", "digits", "--consistency", "bsp"], "invalid choice 'bsp' for argument '--consistency'"),
        (
            ["launch", "digits", "--staleness-bound", "2"],
            "`staleness_bound` must be 0 unless `consistency` is ssp, got 2",
        ),
        (
            ["launch", "digits", "--consistency", "ssp", "--staleness-bound", "-1"],
            "`staleness_bound` must be 0 or more, got -1",
        ),
        (
            ["launch", "digits", "--on-stale", "drop"],
            "`max_staleness` must be given with `on_stale` drop, and with nothing else",
        ),
        (
            ["launch", "digits", "--consistency", "sync", "--accumulate", "2"],
            "`accumulate` must be 1 with .* sync, got 2",
        ),
        (["launch", "digits", "--optimizer", "lamb"], "invalid choice 'lamb' for argument '--optimizer'"),
        (["launch", "digits", "--schedule", "steps"], "the schedule steps needs `decay_at`"),
        (["launch", "digits", "--num-filters", 10**9], "none of 20 random networks .*: node 'layer1' .* is too large"),
        (["launch", "digits", "--path-keep", "0"], "`path_keep` must be above 0 and at most 1, got 0.0"),
        (["launch", "digits", "--cutout", "8"], "`cutout` must be below 8, the side of the task's images, got 8"),
        (["launch", "text-rnn", "--cutout", "3"], "`cutout` is for images only"),
        (["resume", ""], "a run's name must be the name of its folder, got ''"),
        (["status", "a/b"], "a run's name must be the name of its folder, got 'a/b'"),
        (["launch", "digits", "--storage-path", "s3://"], "cannot be used: .*: Invalid bucket name"),
        (["stop", "nothing"], "no run named 'nothing'"),
        (["failures", "nothing"], "no run named 'nothing'"),
        (["status", "nothing"], "no run named 'nothing' in .*; there are no runs there"),
        (["best", "nothing"], "no run named 'nothing'"),
        (["resume", "nothing"], "no run named 'nothing'"),
    ],
)
def test_bad_input_is_one_clear_word_and_writes_nothing(
    arguments: list[str], message: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster(*arguments) == 2
    said = capfd.readouterr()
    assert re.match(f"nascluster: .*{message}", said.err)
    assert said.err.count("\n") == 1
    assert "Run " not in said.out
    assert list(home.iterdir()) == []


def test_a_name_that_exists_is_refused_with_the_ways_out(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nascluster("launch", "synthetic", "--name", "demo", *SMALL)
    before = (home / "nascluster_runs/demo/ledger.sqlite").read_bytes()
    capfd.readouterr()
    assert nascluster("launch", "synthetic", "--name", "demo", *SMALL) == 2
    said = capfd.readouterr().err
    assert said.startswith("nascluster: a run named 'demo' exists")
    assert "`nascluster resume demo`" in said
    assert "or remove it with `nascluster remove demo`" in said
    assert said.count("\n") == 1
    assert (home / "nascluster_runs/demo/ledger.sqlite").read_bytes() == before


def test_corrupt_data_is_refused(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw = home / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte.gz").write_bytes(b"not a gzip file")
    assert nascluster("launch", "fashion-mnist", "--data", home / "data") == 2
    assert str(raw) in capfd.readouterr().err
    assert not (home / "nascluster_runs").exists()


def test_an_unreachable_cluster_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for address, message in (("127.0.0.1:1", "no Ray cluster answers there"), ("nonsense", "must be host:port")):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert nascluster("launch", "synthetic") == 2
        assert message in capfd.readouterr().err


def flags(capfd: pytest.CaptureFixture[str], *words: str) -> set[str]:
    nascluster("launch", *words, "--help")
    shown = capfd.readouterr().out
    assert len(shown.splitlines()) < 100
    assert max(map(len, shown.splitlines())) <= 200
    nascluster("launch", *words, "--help-all")
    whole = capfd.readouterr().out.replace("│", " ").replace(",", " ").split()
    found = {word.strip("(") for word in shown.split() if word.startswith(("--", "(--"))}
    assert {word for word in whole if word.startswith("--")} - {"--help"} == found - {"--help-all"}
    return found


ALWAYS = {
    "--help-all", "--from-run", "--warm-start", "--top", "--start-with",
    "--objective", "--target", "--target-weights",
    "--max-hours", "--max-gpu-hours", "--max-cost", "--cost-per-gpu-hour",
    "--early-stop", "--stop-min-epochs", "--stop-min-children", "--stop-delta", "--halving-factor",
    "--halving-brackets",
    "--name", "--storage-path", "--seed", "--local", "--max-children", "--searcher", "--space",
    "--reward", "--task", "--data", "--download",
    "--epochs", "--batch-size", "--train-fraction", "--learning-rate", "--weight-decay", "--momentum", "--max-seconds",
    "--max-attempts", "--on-failure", "--child-timeout", "--worker-silence", "--recycle-after",
    "--checkpoint-children", "--metrics-port", "--metrics-host", "--metrics-file-sd",
    "--log-format", "--log-level", "--no-replay-log", "--callback",
    "--consistency", "--staleness-bound", "--on-stale", "--max-staleness",
    "--replicas", "--shards", "--children", "--workers", "--workers-per-process", "--gpus-per-child",
    "--accumulate", "--batching", "--threads-per-child", "--fuse-seeds",
    "--optimizer", "--adam-betas", "--rmsprop-decay", "--optimizer-epsilon", "--schedule", "--decay-at",
    "--decay-every", "--decay", "--warmup-epochs", "--clip-norm", "--label-smoothing", "--cutout", "--path-keep",
    "--auxiliary-weight", "--norm-epsilon", "--norm-momentum", "--initial", "--restart-below", "--restart-decay",
    "--restarts", "--precision",
    "--weights-shards", "--weights-snapshot", "--weights-consistency", "--weights-staleness-bound",
    "--weights-deferred", "--weights-on-stale", "--weights-max-staleness",
}  # fmt: skip

CONVOLUTIONAL = {
    "--filter-heights", "--filter-widths", "--strides", "--num-filters", "--activations", "--no-skip-connections",
    "--layer-types", "--pool-sizes", "--pool-strides", "--child-learning-rates", "--initial-depth", "--depth-step",
    "--depth-interval", "--max-depth",
}  # fmt: skip

REINFORCE = {
    "--controller-units", "--controller-layers", "--controller-init", "--controller-learning-rate",
    "--baseline-decay", "--entropy-bonus", "--importance-clip", "--queue-size", "--queue-weight",
}  # fmt: skip

EVOLUTION = {
    "--population", "--tournament", "--tournament-share", "--selection", "--unchanged", "--repeats", "--crossover",
    "--crossover-kind", "--layer-changes", "--dies",
}  # fmt: skip

LANGUAGE = {
    "--cell-layers", "--target-parameters", "--hidden-size", "--tied-embeddings", "--embedding-dropout",
    "--variational-dropout", "--unroll", "--decay-after", "--learning-rate-decay", "--max-vocabulary",
}  # fmt: skip

SYNTHETIC = {"--child-seconds", "--child-spread", "--child-faults"}


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["digits"], CONVOLUTIONAL | REINFORCE),
        (["digits", "--searcher", "random"], CONVOLUTIONAL),
        (
            ["digits", "--searcher=evolution"],
            CONVOLUTIONAL | EVOLUTION,
        ),
        (["synthetic", "--searcher", "local-search"], CONVOLUTIONAL | SYNTHETIC | {"--random-starts"}),
        (
            ["synthetic", "--space", "nasbench201"],
            REINFORCE | SYNTHETIC | {"--cells-per-stage", "--stem-channels"},
        ),
        (["text-rnn"], REINFORCE | LANGUAGE | {"--base", "--combinations", "--activations"}),
        (["digits", "--task=ptb"], CONVOLUTIONAL | REINFORCE | LANGUAGE),
    ],
)
def test_the_flags_are_these(words: list[str], own: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    """A change of the command line is a decision: this list is what users' scripts rely on."""
    assert flags(capfd, *words) == ALWAYS | own


def test_help_and_readers_start_without_torch_or_ray(home: Path) -> None:
    readers = ("status", "best", "pareto", "children", "failures", "logs")
    script = (
        "import sys; from cluster.cli import main as cli; cli.run(['recipes']); cli.run(['list']);"
        f"[cli.run([command, 'nothing']) for command in {readers}];"
        "print([m for m in ('torch', 'ray', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_public_api_is_all_there() -> None:
    import nascluster as api

    assert sorted(api.__all__) == sorted(name for name in vars(api) if not name.startswith("_"))
    outcome = api.train(architecture(), api.load_task("synthetic"), api.Budget(epochs=1), seed=1)
    assert outcome.failure is None


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_ends_the_command_without_a_word(unbuffered: str) -> None:
    command = [sys.executable, "-m", "cluster", "recipes"]
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")  # as of a program that the closed pipe has ended
