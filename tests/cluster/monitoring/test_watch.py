"""A run is shown until it ends, from wherever its folder can be read."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cluster.cli import main as cli
from cluster.config.run_config import RunConfig
from cluster.monitoring.status import Status, read_status
from cluster.monitoring.watch import watch
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    folder = run_folder(tmp_path / "nascluster_runs", "demo")
    folder.create(RunConfig(max_children=20))
    with folder.held():
        ledger = Ledger(folder.ledger, 0, 20)
        ledger.begin(workers=3)
        yield folder
        ledger.close()


@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "panel"])
def test_it_is_shown_until_it_ends(terminal: bool, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            ledger = Ledger(folder.ledger, 0, 20)
            ledger.end("stopped", "as asked")
            ledger.close()

    def look() -> Status:
        return read_status(folder, 1000.0)

    monkeypatch.setattr("cluster.monitoring.watch.time.sleep", pause)
    ended = watch(look, Console(file=said, force_terminal=terminal, width=200))
    assert (ended.state, ended.message) == ("stopped", "as asked")
    assert len(pauses) == 3
    assert said.getvalue().count("0 of 3 busy") >= 3  # a live panel is drawn once more when it is taken away


def test_a_run_that_has_ended_is_shown_at_once(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ledger = Ledger(folder.ledger, 0, 20)
    ledger.end("finished")
    ledger.close()
    assert cli.run(["status", "demo", "--watch"]) == 0
    assert capfd.readouterr().out.startswith("demo: finished\n  children  0 running")


def test_an_interrupt_ends_the_watch_and_says_where_the_run_stands(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("cluster.monitoring.watch.time.sleep", interrupt)
    assert cli.run(["status", "demo", "--watch"]) == 0
    said = capfd.readouterr()
    assert "demo: running\n  children  0 running" in said.out
    assert said.err == ""


def test_one_of_a_panel_and_an_object(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", "demo", "--watch", "--json"]) == 2
    assert "give one of them" in capfd.readouterr().err
