"""`nascluster children`: all children as data that every reader takes."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Cause, Outcome
from child_trainer.supernets.jobs import Score
from cluster.cli import main
from cluster.config.run_config import RunConfig
from cluster.monitoring.child_list import COLUMNS, child_lines
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.command_line import nascluster
from tests.contracts.evaluator import architecture

NOTES = {"parent": 1, "other_parent": 2, "change": "wider, by 2", "source": 'child 7 of "old"'}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """The storage path of a run called demo, whose five children have come to different ends."""
    folder = RunFolder(tmp_path / "demo")
    folder.create(RunConfig())
    now = 1_700_000_000.25
    ledger = Ledger(folder.ledger, 3, 100, lambda: now)
    net = architecture()
    ledger.begin(workers=1)
    proposals = [
        Proposal(tokens=(0, 3, 1), architecture=net),
        Proposal(tokens=(2**60,), architecture=net, notes=NOTES),
        Proposal(tokens=(), architecture=net, job=Score()),
        Proposal(tokens=(4,), architecture=net, same_as=1),
        Proposal(tokens=(5,), architecture=net),
    ]
    ledger.admit(0, 1, proposals, ())
    now += 1
    for child in (1, 2, 5):
        ledger.start(child, "local", f"{child}-1")
    now += 3
    good = Outcome(curve=(0.5, 0.75), seconds=1.5, parameters=10, flops=2**60, seed=1)
    ledger.finish(1, good, 0.421875)
    ledger.finish(2, Outcome.failed(Cause.DIVERGED, 'Traceback:\n  line, "x"\nloss is nan', seed=1), float("inf"))
    ledger.finish(4, good, float("nan"))
    ledger.close()
    return tmp_path


def read(storage: Path, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    capfd.readouterr()
    assert nascluster("children", "demo", "--storage-path", storage, *words) == 0
    said = capfd.readouterr()
    assert said.err == ""
    return said.out


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def test_json_has_every_child_with_numbers_that_every_reader_takes(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(read(storage, capfd, "--json"), parse_constant=refuse)
    assert (data["run"], data["unknown"]) == ("demo", [])
    first, second, third, fourth, fifth = data["children"]
    assert all(child.keys() == set(COLUMNS) for child in data["children"])
    assert (first["state"], first["metric"], first["reward"], first["seconds"]) == ("finished", 0.75, 0.421875, 1.5)
    assert (first["flops"], first["tokens"], first["attempts"]) == (str(2**60), [0, 3, 1], 1)
    assert first["architecture"] == architecture().id
    assert (first["sampled"], first["started"], first["ended"]) == (
        "2023-11-14T22:13:20.250Z",
        "2023-11-14T22:13:21.250Z",
        "2023-11-14T22:13:24.250Z",
    )
    assert {name: second[name] for name in NOTES} == NOTES
    assert (second["state"], second["reward"], second["tokens"]) == ("failed", None, [str(2**60)])
    assert (second["cause"], second["message"]) == ("diverged", 'Traceback:\n  line, "x"\nloss is nan')
    assert (third["state"], third["job"], third["started"], third["attempts"]) == ("sampled", "score", None, 0)
    assert (fourth["same_as"], fourth["reward"]) == (1, None)
    assert fifth["state"] == "sampled"  # its driver is gone, and it begins again


def test_csv_says_the_same(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    children = json.loads(read(storage, capfd, "--json"))["children"]
    rows = list(csv.DictReader(io.StringIO(read(storage, capfd, "--csv"))))
    assert list(rows[0]) == list(COLUMNS)
    for row, child in zip(rows, children, strict=True):
        texts = child | {"tokens": ",".join(map(str, child["tokens"]))}
        assert row == {name: "" if value is None else str(value) for name, value in texts.items()}


@pytest.mark.parametrize("message", ["a\nb", "a\rb", "a\r\nb"])
def test_a_line_break_in_a_message_is_no_new_line_of_csv(
    message: str, storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(storage / "demo/ledger.sqlite")) as db, db:
        db.execute("UPDATE children SET outcome = json_set(outcome, '$.failure.message', ?) WHERE id = 2", (message,))
    rows = list(csv.DictReader(io.StringIO(read(storage, capfd, "--csv"), newline="")))
    assert [row["message"] for row in rows] == ["", message, "", "", ""]


def test_a_reader_that_waits_keeps_no_view_of_the_ledger_open(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.storage.ledger.queries.children.PAGE", 2)
    lines = child_lines(RunFolder(storage / "demo"), "csv")
    first = [next(lines), next(lines)]
    with closing(sqlite3.connect(storage / "demo/ledger.sqlite")) as db:
        with db:
            db.execute("UPDATE children SET cause = 'late' WHERE id IN (1, 5)")
            columns = "replica, batch, tokens, architecture_id, seed, state, sampled_at"
            db.execute(f"INSERT INTO children (id, {columns}) SELECT 6, {columns} FROM children WHERE id = 5")
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    rows = list(csv.DictReader(io.StringIO("\n".join([*first, *lines]))))
    assert [(row["child"], row["cause"]) for row in rows] == [
        *(("1", ""), ("2", "diverged"), ("3", ""), ("4", ""), ("5", "late")),
    ]


def test_people_get_a_table(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = read(storage, capfd).splitlines()
    assert lines[0].split() == [*("child", "state", "metric", "reward", "parameters", "seconds", "architecture")]
    assert lines[1].split() == ["1", "finished", "0.7500", "0.4219", "10", "1.5", architecture().id]
    assert lines[2].endswith("diverged  from 1")
    assert len(lines) == 6


def test_a_run_without_children_is_an_empty_list(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for file in storage.glob("demo/ledger.*"):
        file.unlink()
    assert json.loads(read(storage, capfd, "--json")) == {"run": "demo", "unknown": [], "children": []}
    assert read(storage, capfd, "--csv").splitlines() == [",".join(COLUMNS)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE children SET tokens = '[1' WHERE id = 3", "is damaged: child 3 has "),
        ("UPDATE children SET sampled_at = 1e300 WHERE id = 3", "is damaged: child 3 has "),
        ("UPDATE children SET notes = '{' WHERE id = 2", "cannot be read: malformed JSON"),
    ],
)
def test_a_damaged_row_is_one_sentence(
    change: str, message: str, storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(storage / "demo/ledger.sqlite")) as db, db:
        db.execute(change)
    assert nascluster("children", "demo", "--storage-path", storage, "--csv") == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1


def test_two_forms_at_once_and_an_unknown_run_are_refused(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("children", "demo", "--csv", "--json", "--storage-path", storage) == 2
    assert "give one of them" in capfd.readouterr().err
    assert nascluster("children", "other", "--storage-path", storage) == 2
    assert "no run named 'other'" in capfd.readouterr().err


def test_many_children_are_streamed_and_a_reader_that_goes_is_no_traceback(storage: Path) -> None:
    """More than a pipe holds: the rest meets a closed pipe, or a full disk."""
    with closing(sqlite3.connect(storage / "demo/ledger.sqlite")) as db, db:
        columns = "replica, batch, tokens, architecture_id, seed, state, sampled_at"
        db.execute(
            f"WITH RECURSIVE more (n) AS (SELECT 6 UNION ALL SELECT n + 1 FROM more WHERE n < 20000)"
            f" INSERT INTO children (id, {columns}) SELECT n, {columns} FROM more, children WHERE id = 5"
        )
    words = [sys.executable, "-m", "cluster", "children", "demo", "--json", "--storage-path", str(storage)]
    for output, status, said in (("| head -n 2", 0, ""), (">/dev/full", main.FULL_DISK, "No space left on device\n")):
        shell = f'"$@" {output}'
        done = subprocess.run(
            ["sh", "-c", shell, "sh", *words], env=os.environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (status, 1 if said else 0), done.stderr
        assert done.stderr.endswith(said)
