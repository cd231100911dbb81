"""Whole searches with callbacks: a user's own, one that raises, TensorBoard's event files, MLflow's store."""

import ast
import contextlib
import importlib
import inspect
import io
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.cli import main as cli
from cluster.monitoring.callbacks import loader as loading
from cluster.monitoring.callbacks.callback import Callback
from cluster.runners.trainer import Trainer

OWN = """
import json
import sys
from pathlib import Path

class Own:  # no base class: hooks that it lacks are not called
    def setup(self, num_samples, search, **info):
        self.file = Path(search.folder) / "own.jsonl"
        self.say(setup=num_samples, completed=search.completed)

    def say(self, **what):
        with self.file.open("a") as file:
            file.write(json.dumps(what) + "\\n")

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.say(complete=trial.child, iteration=iteration)

    def on_experiment_end(self, trials, **info):
        self.say(end=True)

class Raises:
    def on_trial_result(self, **info):
        raise RuntimeError("no room\\nfor this")

class Exits:
    def on_trial_result(self, **info):
        sys.exit("enough")

class ExitsAtOnce:
    def __init__(self):
        sys.exit(3)

class NoKey:
    def __init__(self):
        raise RuntimeError("no key")

class Nothing:
    pass
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_callbacks", raising=False)
    (tmp_path / "own_callbacks.py").write_text(OWN)
    importlib.invalidate_caches()
    return tmp_path


def nascluster(*arguments: object) -> int:
    return cli.run([str(a) for a in arguments])


def launch(*arguments: object, children: int = 6) -> int:
    small = ("--local", "--max-children", children, "--replicas", 2, "--children", 1, "--name", "demo")
    return nascluster("launch", "synthetic", *small, *arguments)


def folder(home: Path) -> Path:
    return home / "nascluster_runs" / "demo"


def interrupted_at(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Trainer.train

    def interrupted(self: Trainer, assignment: Any, **options: Any) -> Any:
        if assignment.child_id == child:
            raise KeyboardInterrupt
        return train(self, assignment, **options)

    monkeypatch.setattr(Trainer, "train", interrupted)


def launch_and_resume(name: str, monkeypatch: pytest.MonkeyPatch, home: Path, *, forget: int = 0) -> None:
    """Interrupt a run and resume it; as after a kill, the progress file lacks the last `forget` children."""
    with monkeypatch.context() as patch:
        interrupted_at(5, patch)
        assert launch("--callback", name) == 130
    progress = next((folder(home) / "callbacks").glob("*.json"))
    done = json.loads(progress.read_text())["completed"]
    assert done == 4
    progress.write_text(json.dumps({"completed": done - forget}))
    assert nascluster("resume", "demo") == 0


def test_a_users_class_receives_each_child_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch_and_resume("own_callbacks:Own", monkeypatch, home)
    said = [json.loads(line) for line in (folder(home) / "own.jsonl").read_text().splitlines()]
    assert [one for one in said if "complete" not in one] == [
        {"setup": 6, "completed": 0},
        {"end": True},
        {"setup": 6, "completed": 4},
        {"end": True},
    ]
    assert [one["iteration"] for one in said if "complete" in one] == [1, 2, 3, 4, 5, 6]
    assert sorted(one["complete"] for one in said if "complete" in one) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "error"), [("Raises", "RuntimeError: no room"), ("Exits", "SystemExit: enough")], ids=["raises", "exits"]
)
def test_a_callback_that_raises_is_disabled_and_reported_once(
    name: str, error: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch("--callback", f"own_callbacks:{name}", "--callback", "own_callbacks:Own") == 0
    out = capfd.readouterr().out
    sentence = f"Callback own_callbacks:{name} raised {error}; it is disabled, and the search continues\n"
    assert out.count(sentence) == 1
    assert "6 children finished" in out
    assert (folder(home) / "own.jsonl").read_text().count('complete": ') == 6  # the other goes on


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tensorbord", "`callback` must be tensorboard, mlflow or MODULE:CLASS, got 'tensorbord'"),
        ("own_callbacks:", "`callback` must be tensorboard, mlflow or MODULE:CLASS, got 'own_callbacks:'"),
        ("gone:Own", "`callback` gone:Own cannot be created (ModuleNotFoundError: No module named 'gone'; modules are"),
        (
            "own_callbacks.py:Own",
            "`callback` must be MODULE:CLASS, such as my_module:Best for the file my_module.py",
        ),
        (
            "./own_callbacks:Own",
            "`callback` must be MODULE:CLASS, such as my_module:Best for the file my_module.py",
        ),
        (
            "own_callbacks:NoKey",
            "`callback` own_callbacks:NoKey cannot be created (RuntimeError: no key)",
        ),
        ("own_callbacks:ExitsAtOnce", "`callback` own_callbacks:ExitsAtOnce cannot be created (SystemExit: 3)"),
        ("own_callbacks:Nothing", "`callback` own_callbacks:Nothing has none of the hooks setup, on_trial_start"),
    ],
)
def test_an_invalid_callback_is_rejected_before_anything_is_written(
    name: str, sentence: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch("--callback", name) == 2
    assert capfd.readouterr().err.startswith(f"nascluster: {sentence}")
    assert not folder(home).exists()


def test_a_callback_named_twice_is_rejected(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch("--callback", "own_callbacks:Own", "--callback", "own_callbacks:Own") == 2
    assert "`callback` must name each callback once, got 'own_callbacks:Own' twice" in capfd.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        loading.BUILT_IN, "tensorboard", ("cluster.monitoring.callbacks.tensorboard:TensorBoardCallback", "not_there")
    )
    with pytest.raises(loading.CallbackError, match=re.escape("pip install '.[tensorboard]'")):
        loading.load_callback("tensorboard")


def test_hooks_are_called_as_ray_tune_does() -> None:
    """A callback that was written for Ray Tune has these hooks with these arguments. Its source is read, not run:
    Ray Tune itself needs packages that a search does not."""
    source = Path(ray.__file__).with_name("tune") / "callback.py"
    theirs = {
        node.name: [argument.arg for argument in node.args.args] + [node.args.kwarg.arg if node.args.kwarg else ""]
        for cls in ast.parse(source.read_text()).body
        if isinstance(cls, ast.ClassDef) and cls.name == "Callback"
        for node in cls.body
        if isinstance(node, ast.FunctionDef)
    }
    for hook in loading.HOOKS:
        assert list(inspect.signature(getattr(Callback, hook)).parameters) == theirs[hook], hook


@pytest.mark.parametrize("forget", [0, 3])
def test_tensorboard_shows_each_child_once(home: Path, monkeypatch: pytest.MonkeyPatch, forget: int) -> None:
    pytest.importorskip("tensorboard")
    launch_and_resume("tensorboard", monkeypatch, home, forget=forget)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder(home) / "tensorboard")).Reload()
    found = events.Scalars("child/reward")
    assert [point.step for point in found] == [1, 2, 3, 4, 5, 6]
    assert sorted(point.value for point in events.Scalars("child/id")) == [1, 2, 3, 4, 5, 6]
    best = json.loads(_json_of(home, "best"))
    assert max(point.value for point in found) == pytest.approx(best["reward"])
    assert "best/architecture" in events.Tags()["tensors"]


@pytest.mark.parametrize("forget", [0, 3])
def test_mlflow_has_one_run_for_each_child(home: Path, monkeypatch: pytest.MonkeyPatch, forget: int) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{home}/mlruns")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "searches")
    launch_and_resume("mlflow", monkeypatch, home, forget=forget)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"file://{home}/mlruns")
    experiment = client.get_experiment_by_name("searches")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    (search,) = [run for run in runs if "nascluster.run" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == search.info.run_id]
    assert sorted(int(run.data.tags["nascluster.child"]) for run in children) == [1, 2, 3, 4, 5, 6]
    assert {run.info.status for run in runs} == {"FINISHED"}
    best = json.loads(_json_of(home, "best"))
    assert search.data.metrics["best_reward"] == best["reward"]
    assert search.data.params["topology.replicas"] == "2"
    (of_best,) = [run for run in children if run.data.tags["nascluster.child"] == str(best["child_id"])]
    assert of_best.data.metrics["reward"] == best["reward"]
    assert json.loads(of_best.data.tags["nascluster.architecture"]) == best["architecture"]


def _json_of(home: Path, command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert nascluster(command, "demo", "--json") == 0
    return out.getvalue()
