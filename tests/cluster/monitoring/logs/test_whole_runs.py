"""Whole searches in one process: what is logged of them, also in an object store, by `nascluster logs`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main as cli
from cluster.runners.trainer import Trainer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children with even ids say so."""
    train = Trainer.train

    def speak(self: Trainer, assignment: Any, **options: Any) -> Any:
        if assignment.child_id % 2 == 0:
            print(f"I am child {assignment.child_id}")
        return train(self, assignment, **options)

    monkeypatch.setattr(Trainer, "train", speak)


def nascluster(*arguments: object) -> int:
    return cli.run([str(a) for a in arguments])


def launch(name: str, *arguments: object) -> int:
    return nascluster("launch", "synthetic", "--local", "--max-children", 4, "--name", name, *arguments)


@pytest.mark.usefixtures("speaking")
def test_a_local_run_keeps_its_childrens_output(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch("demo", "--log-level", "debug") == 0
    assert "I am child" not in capfd.readouterr().out
    assert nascluster("logs", "demo", 2) == 0
    assert capfd.readouterr().out.endswith("--- attempt 1 printed:\nI am child 2\n")
    assert nascluster("logs", "demo", 3) == 0
    assert capfd.readouterr().out.endswith("It printed nothing.\n")
    assert nascluster("logs", "demo", "--follow") == 0  # it has ended: there is nothing to wait for
    events = [" ".join(line.split()[2:4]) for line in capfd.readouterr().out.splitlines()]
    assert events[0] == "run started"
    assert events.count("child finished") == 4
    assert events[-1] == "run finished"
    assert not (home / "nascluster_runs" / "demo" / "output.part").exists()


def test_with_json_nothing_else_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch("demo", "--log-format", "json") == 0
    out, err = capfd.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert {event["run"] for event in events} == {"demo"}
    assert [event["event"] for event in events] == ["run started", "notice", "run finished"]
    assert events[-1]["finished"] == 4


@pytest.mark.usefixtures("speaking")
def test_a_run_in_an_object_store_is_read_and_goes_on_elsewhere(
    tmp_path: Path, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--storage-path", f"file://{tmp_path}/store")
    train = Trainer.train

    def interrupted(self: Trainer, assignment: Any, **options: Any) -> Any:
        if assignment.child_id == 3:
            raise KeyboardInterrupt
        return train(self, assignment, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted)
        assert launch("demo", "--replicas", 1, *where) == 130
    shutil.rmtree(home)
    capfd.readouterr()
    assert nascluster("logs", "demo", 2, *where) == 0
    assert capfd.readouterr().out.endswith("I am child 2\n")
    assert nascluster("resume", "demo", "--log-level", "warning", *where) == 0
    assert nascluster("resume", "demo", *where) == 2
    shutil.rmtree(home)
    capfd.readouterr()
    for child in (2, 4):
        assert nascluster("logs", "demo", child, *where) == 0
        assert capfd.readouterr().out.endswith(f"I am child {child}\n")
    assert nascluster("logs", "demo", *where) == 0
    events = [" ".join(line.split()[2:4]) for line in capfd.readouterr().out.splitlines()]
    assert events == ["run started", "notice run=demo", "child retried", "run stopped"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gone",), "no run named 'gone' in "),
        (("demo", 5), "the run 'demo' has no child 5: they are numbered from 1 to 4"),
        (("demo", 1, "--attempt", 2), "child 1 has no attempt 2: they are numbered from 1 to 1"),
        (("demo", "--attempt", 2), "`--attempt` needs a child: give the child's id, too"),
        (("demo", "best"), "`CHILD` must be a child's id, a whole number, got 'best'"),
        (("demo", 1, "--follow"), "`--follow` is for the run's events: "),
    ],
)
def test_a_missing_log_or_output_is_reported_in_one_sentence(
    arguments: tuple[object, ...], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    launch("demo")
    capfd.readouterr()
    assert nascluster("logs", *arguments) == 2
    assert capfd.readouterr().err.startswith(f"nascluster: {sentence}")
