"""A run's log: its lines on a ledger's changes, once each; where it is written, and how much of it is kept."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from child_trainer.outcome import Cause, Outcome
from cluster.config.log_options import LogOptions
from cluster.config.run_config import RunConfig
from cluster.monitoring.logs import journal as journal_module
from cluster.monitoring.logs.events import Event
from cluster.monitoring.logs.journal import MAX_ROTATED, Journal, log_files
from cluster.monitoring.logs.ledger_events import MAX_EVENTS, LedgerEvents
from cluster.monitoring.logs.reader import child_output, log_lines, output_lines
from cluster.monitoring.status import read_status
from cluster.search.records import BatchResult, Verdict
from cluster.storage.corrupt_snapshots import corrupt_files, corrupt_texts
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from ps.local import LocalStore
from tests.contracts.evaluator import architecture
from tests.contracts.parameter_store import sgd_layout

GOOD = Outcome(curve=(0.5,), seconds=2.0, parameters=1, flops=1, seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "demo")
    folder.create(RunConfig())
    return folder


@pytest.fixture
def ledger(folder: RunFolder) -> Any:
    ledger = Ledger(folder.ledger, seed=0, max_children=1000)
    ledger.begin(workers=2)
    yield ledger
    ledger.close()


def admit(ledger: Ledger, number: int, children: int) -> None:
    ledger.admit(4, number, [Proposal(tokens=(0,), architecture=architecture())] * children, ())


def told(events: list[Event]) -> list[tuple[str, int | None]]:
    return [(event.event, event.child) for event in events]


def look(folder: RunFolder, events: LedgerEvents) -> list[Event]:
    with reading(folder) as db:
        return events.poll(db, 0.0)


def from_now_on(folder: RunFolder) -> LedgerEvents:
    with reading(folder) as db:
        return LedgerEvents("demo", db)


def test_a_childs_events_come_once_and_in_order(folder: RunFolder, ledger: Ledger) -> None:
    events = from_now_on(folder)
    admit(ledger, 1, 2)
    ledger.start(1, "worker-0@a", "k1", slot=0)
    assert told(look(folder, events)) == [("worker joined", None), ("child dispatched", 1)]
    ledger.end_attempt("k1", Outcome.failed(Cause.CRASHED, "a\nb: it broke", seed=0), Verdict.RETRY)
    ledger.start(1, "worker-0@b", "k2", slot=0)
    ledger.end_attempt("k2", GOOD, Verdict.OUTCOME)
    ledger.finish(1, GOOD, 0.125)
    found = look(folder, events)
    assert told(found) == [
        ("child retried", 1),
        ("worker replaced", None),
        ("child dispatched", 1),
        ("child finished", 1),
    ]
    assert found[0].fields["message"] == "b: it broke"
    assert (found[0].replica, found[0].fields["cause"], found[0].fields["attempt"]) == (4, "crashed", 1)
    assert found[3].fields == {"completion": 1, "reward": 0.125, "metric": 0.5, "seconds": 2.0}
    assert look(folder, events) == []


def test_failures_pushes_and_shards_are_logged(folder: RunFolder, ledger: Ledger) -> None:
    events = from_now_on(folder)
    admit(ledger, 1, 1)
    ledger.finish(1, Outcome.failed(Cause.DIVERGED, "NaN", seed=0), 0.0)
    ledger.learned(4, 1, BatchResult(staleness=(0, 3), figures={}))
    ledger.serve([0, 1], "here:1")
    found = look(folder, events)
    assert [(event.event, event.level) for event in found] == [
        ("child failed", logging.WARNING),
        ("push applied", logging.DEBUG),
        ("shard served", logging.DEBUG),
        ("shard served", logging.DEBUG),
    ]
    assert found[1].fields["staleness"] == 3
    ledger.serve([1], "there:1")
    (moved,) = look(folder, events)
    assert (moved.event, moved.fields) == ("shard moved", {"shard": 1, "address": "there:1", "before": "here:1"})


def test_events_before_a_resume_are_not_logged_again(folder: RunFolder, ledger: Ledger) -> None:
    admit(ledger, 1, 1)
    ledger.finish(1, GOOD, 0.1)
    assert look(folder, from_now_on(folder)) == []


def test_of_too_many_failures_some_are_only_counted(folder: RunFolder, ledger: Ledger) -> None:
    events = from_now_on(folder)
    admit(ledger, 1, MAX_EVENTS + 7)
    for child in range(1, MAX_EVENTS + 8):
        ledger.finish(child, Outcome.failed(Cause.DIVERGED, "NaN", seed=0), 0.0)
    found = look(folder, events)
    assert len(found) == MAX_EVENTS + 1
    assert (found[-1].event, found[-1].fields) == ("more events", {"count": 7})


def test_text_goes_to_the_file_and_messages_to_people(folder: RunFolder, ledger: Ledger) -> None:
    screen = io.StringIO()
    journal = Journal("demo", LogOptions(), Console(file=screen))
    with journal.writing(folder):
        journal.event("run started")
        journal.report("Placed")
        admit(ledger, 1, 2)
        ledger.finish(1, GOOD, 0.1)
        ledger.finish(2, Outcome.failed(Cause.DIVERGED, "NaN", seed=0), 0.0)
        ledger.end("finished")
        journal.ended(folder, read_status(folder, 0.0))
    assert screen.getvalue() == "Placed\n"
    lines = [line.partition(" ")[2] for line in log_lines(folder)]
    assert lines[:3] == [
        "INFO    run started run=demo",
        "INFO    notice run=demo message=Placed",
        "WARNING child failed run=demo replica=4 child=2 cause=diverged message=NaN",
    ]
    assert lines[3].startswith("INFO    run finished run=demo finished=1 failed=1 updates=0 best_child=1")
    assert len(lines) == 4


def test_only_json_goes_to_the_file_and_the_console(folder: RunFolder, ledger: Ledger) -> None:
    screen = io.StringIO()
    journal = Journal("demo", LogOptions(log_format="json", log_level="debug"), Console(file=screen))
    journal.report("Starting Ray")
    assert journal.console is None
    with journal.writing(folder):
        admit(ledger, 1, 1)
        ledger.finish(1, GOOD, 0.1)
        journal.poll(folder)
    printed = screen.getvalue().splitlines()
    assert [json.loads(line)["event"] for line in printed] == ["notice", "child finished"]
    assert list(log_lines(folder)) == printed[1:]  # before the run had a folder there was none to write to


def test_a_log_is_continued_and_rotated(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_FILE_BYTES", 1000)
    for start in range(2):
        journal = Journal("demo", LogOptions(), Console(file=io.StringIO()))
        with journal.writing(folder):
            for number in range(200):
                journal.event("e", number=200 * start + number)
    numbers = [int(line.rpartition("=")[2]) for line in log_lines(folder)]
    assert numbers == list(range(400 - len(numbers), 400))
    assert len(numbers) < 300
    assert len([file for file in log_files(folder) if file.exists()]) == MAX_ROTATED + 1
    assert sum(file.stat().st_size for file in log_files(folder)) <= 1000 * (MAX_ROTATED + 1)


def test_a_log_that_cannot_be_written_ends_nothing(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.path / "run.log").mkdir()
    journal = Journal("demo", LogOptions(), Console(file=io.StringIO()))
    with journal.writing(folder):
        journal.event("nobody reads it")
    assert capsys.readouterr().err == ""


def test_following_a_log_continues_after_a_rotation_until_the_end(folder: RunFolder) -> None:
    path = folder.path / "run.log"
    path.write_text("one\ntw")
    pauses = iter(range(3))

    def write(_: float) -> None:
        number = next(pauses)
        with path.open("a") as file:
            file.write(["o\n", "three\n", "four\n"][number])
        if number == 0:
            path.rename(path.with_name("run.log.1"))
            path.write_text("")

    alive = iter([True, True, True, True, False, False])
    assert list(log_lines(folder, lambda: next(alive), write)) == ["one", "two", "three", "four"]


def test_a_run_without_a_log_says_so(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="the run 'demo' has no log: it has not begun"):
        list(log_lines(folder))


def test_children_and_attempts_that_do_not_exist_are_rejected(folder: RunFolder, ledger: Ledger) -> None:
    with pytest.raises(RunFolderError, match="has no child 1: none was sampled yet"):
        child_output(folder, 1)
    admit(ledger, 1, 2)
    for child in (0, 3, -1):
        with pytest.raises(RunFolderError, match=f"has no child {child}: they are numbered from 1 to 2"):
            child_output(folder, child)
    assert output_lines(1, child_output(folder, 1)) == ["child 1: no attempt has begun"]
    ledger.start(1, "w", "k1")
    with pytest.raises(RunFolderError, match="child 1 has no attempt 2: they are numbered from 1 to 1"):
        child_output(folder, 1, 2)
    assert output_lines(1, child_output(folder, 1))[-1] == "No output yet: it can be shown when the attempt has ended."


def test_a_corrupt_snapshot_is_reported_once(folder: RunFolder, ledger: Ledger) -> None:
    def fall_back() -> None:
        """What a shard host does that starts again on a damaged file."""
        newest = folder.shards / "shard-000.safetensors"
        newest.write_bytes(newest.read_bytes()[:-3])
        LocalStore(sgd_layout(shards=1), folder.shards).close()

    LocalStore(sgd_layout(shards=1), folder.shards).close()
    LocalStore(sgd_layout(shards=1), folder.shards).close()
    fall_back()  # which an earlier start has logged
    console = Console(file=io.StringIO(), width=400)
    journal = Journal("demo", LogOptions(), console)
    said: Any = console.file
    with journal.writing(folder):
        journal.poll(folder)
        assert said.getvalue() == ""
        for times in (1, 2):
            fall_back()
            journal.poll(folder)
            journal.poll(folder)
            assert said.getvalue().count("Warning: a snapshot of shard 0 was corrupt and was renamed to ") == times
    lines = (folder.path / "run.log").read_text().splitlines()
    assert [" WARNING notice " in line and "shard-000.corrupt" in line for line in lines] == [True, True]


def test_a_corrupt_snapshot_of_shared_weights_is_named_as_such() -> None:
    texts = corrupt_texts([Path(f"run/{name}") for name in ("shards/shard-003.corrupt", "weights/shard-003.corrupt")])
    assert [text.partition(" was corrupt")[0] for text in texts] == [
        "a snapshot of shard 3",
        "a snapshot of shard 3 of the shared weights",
    ]
    assert "applied again from the ledger" in texts[0] and "not repeated" in texts[1]
    (lost,) = corrupt_texts([Path(f"run/weights/shard-000{name}.corrupt") for name in ("", ".previous")])
    assert "its part of the weights is lost" in lost


def test_corrupt_snapshots_of_both_stores_are_found(folder: RunFolder) -> None:
    files = [shards / "shard-001.corrupt" for shards in (folder.shards, folder.weights)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert list(corrupt_files(folder)) == files
