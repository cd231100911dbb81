"""What a table tells after the search: in each place where the best child is shown, and nowhere before."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.architectures.nasbench201 import cell_from_name, network
from child_trainer.tasks import nasbench201_table as nasbench201
from child_trainer.tasks.catalogue import load_table
from cluster.cli import main as cli
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.monitoring.benchmark_results import (
    HIDDEN,
    TableFacts,
    describe_coverage,
    describe_seconds,
    describe_test,
    table_facts,
)
from cluster.storage.ledger.queries.status import Best
from cluster.storage.run_folder import RunFolder
from tests.cluster.compare.tables import made_up

TEST = "98.7654"
"""Percent of every cell: a number that is nothing else's."""

TOLD = "test accuracy 0.9877 (200 epochs, shown only after the search)"

MEASURED = cell_from_name("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
"""The one cell whose seconds the made-up table has measured."""

CHILD = Best(
    child_id=1,
    reward=0.5,
    metric=0.5,
    parameters=None,
    flops=None,
    seconds=1.0,
    seed=0,
    batch_size=None,
    device="cpu",
    processor=None,
    parent=None,
    change=None,
    same_as=None,
    source=None,
    tokens=(0, 0, 0, 0, 0, 0),
    graph=network(MEASURED).to_json(),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "table"
    folder.mkdir()
    made_up(folder)
    head, *rows = (folder / nasbench201.RESULTS).read_text().splitlines()
    tested = [f"{row.rpartition(',')[0]},{TEST}" for row in rows]
    (folder / nasbench201.RESULTS).write_text("\n".join([head, *tested]) + "\n")
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunFolder:
    """A finished run, whose last words are still to be read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    flags = ["--local", "--max-children", "12", "--searcher", "random", "--replicas", "1"]
    assert cli.run(["launch", "nasbench201", "--name", "demo", "--data", str(data), *flags]) == 0
    return RunFolder(tmp_path / "nascluster_runs" / "demo")


def said(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(list(arguments)) == 0
    return capfd.readouterr().out


def page(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> str:
    said(capfd, "report", "demo")
    return (run.path / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")


def test_best_child_shows_test_metric_and_source_of_seconds(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    end, best = capfd.readouterr().out, said(capfd, "best", "demo")
    for text in (end, best):
        assert TOLD in text
        assert " s by the table (estimated)" in text
        assert "trained in" not in text
    found = json.loads(said(capfd, "best", "demo", "--json"))["table"]
    assert found == {
        "test": pytest.approx(0.987654),
        "test_of": "200 epochs",
        "estimated": True,
        "timed": True,
        "untold": "",
    }
    shown = page(run, capfd)
    assert shown.count(f"T{TOLD[1:]}.") == 1  # of the best one, and not of the four that come after it
    assert shown.count(" s by the table (estimated)") == 5


def test_the_test_metric_never_enters_the_run(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    page(run, capfd)
    with closing(sqlite3.connect(run.ledger)) as db:
        dump = "\n".join(db.iterdump())
    assert '"children"' in dump
    others = [p for p in run.path.rglob("*") if p.is_file() and p.suffix in (".json", ".jsonl", ".log")]
    for text in (dump, *(path.read_text() for path in others)):
        assert "0.9876" not in text
        assert TEST not in text


def test_a_missing_table_hides_only_the_test_metric_with_a_reason(
    run: RunFolder, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    before = said(capfd, "best", "demo").splitlines()
    shutil.rmtree(data)
    after = said(capfd, "best", "demo")
    why = f"unknown here: `--data` {data} is not a folder"
    assert f"test accuracy {why}" in after
    assert " s by the table\n" in after
    assert after.splitlines()[0] == before[0]
    assert after.splitlines()[-3:] == before[-3:]
    found = json.loads(said(capfd, "best", "demo", "--json"))
    assert found["table"]["untold"].startswith(why)
    assert (found["table"]["test"], found["table"]["estimated"]) == (None, None)
    assert f"Test accuracy {why}" in page(run, capfd)


def test_a_table_is_looked_up_without_torch(run: RunFolder) -> None:
    code = (
        "import sys; from cluster.cli import main as cli; assert cli.run(['best', 'demo']) == 0;"
        "print({'torch', 'numpy', 'ray', 'fsspec'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    assert TOLD in out
    assert out.splitlines()[-1] == "set()"


def options(data: Path) -> RunConfig:
    return replace(RECIPES["nasbench201"](), task=TaskOptions(task="nasbench201", data=data))


def test_the_test_metric_is_hidden_while_the_search_runs(data: Path) -> None:
    assert table_facts(options(data), [CHILD], running=True) == (TableFacts(estimated=False, untold=HIDDEN),)
    assert describe_test("accuracy", TableFacts(untold=HIDDEN)) == "test accuracy hidden while the search runs"


def test_a_task_without_a_table_has_no_table_facts(data: Path) -> None:
    assert table_facts(RunConfig(), [CHILD], running=False) is None
    assert (describe_seconds("2 s", None), describe_test("accuracy", None)) == ("trained in 2 s", "")


def test_measured_seconds_are_marked_and_a_table_may_have_no_test(data: Path) -> None:
    (found,) = table_facts(options(data), [CHILD], running=False) or ()
    assert describe_seconds("32.5 s", found) == "32.5 s by the table (measured)"
    assert describe_test("accuracy", TableFacts(estimated=False)) == ""
    assert describe_test("accuracy", TableFacts(test=0.5)) == "test accuracy 0.5000 (shown only after the search)"


def test_the_share_of_measured_times_is_described(data: Path) -> None:
    table = load_table("nasbench201", data=data)
    measured = sum(not answer.estimated for answer in table.answers.values())
    assert describe_coverage(measured, len(table.answers)) == (
        "The table's training times are measured for 1,000 of its 15,625 architectures and estimated for the others."
    )
    assert describe_coverage(3, 3) == ""
