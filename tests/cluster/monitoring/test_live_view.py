"""The threads that show a run and say that it is alive outlast what goes wrong with what they look at."""

import io
import sqlite3
import time
from pathlib import Path

import pytest
from rich.console import Console

from cluster.config.run_config import RunConfig
from cluster.monitoring import live_view as progress
from cluster.monitoring.live_view import Progress
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for interval in ("HEARTBEAT_INTERVAL_S", "PANEL_INTERVAL_S", "LINE_INTERVAL_S"):
        monkeypatch.setattr(progress, interval, 0.05)
    folder = run_folder(tmp_path, "demo")
    folder.create(RunConfig(max_children=20))
    Ledger(folder.ledger, 0, 20).close()
    return folder


@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "panel"])
def test_an_unreadable_status_is_reported_and_read_again_later(terminal: bool, folder: RunFolder) -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=200)
    aside = folder.config.with_suffix(".aside")

    def shows(text: str) -> None:
        start = len(said.getvalue())
        until(lambda: text in said.getvalue()[start:], timeout_s=10)

    with Progress(folder, console, lambda: None):
        shows("0/20")
        good = folder.ledger.read_bytes()
        for file in folder.path.glob("ledger.sqlite*"):
            file.unlink()
        folder.ledger.write_bytes(b"this is no database, for a moment")
        shows("cannot be read now: ")
        folder.ledger.write_bytes(good)
        shows("0/20")
        folder.config.rename(aside)
        shows("cannot be read now: ")
        aside.rename(folder.config)
        shows("0/20")


def test_a_failed_heartbeat_is_followed_by_the_next(folder: RunFolder) -> None:
    beats = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) < 4:
            raise sqlite3.OperationalError("database or disk is full")

    with Progress(folder, Console(file=io.StringIO()), beat):
        until(lambda: len(beats) > 5, timeout_s=10)
