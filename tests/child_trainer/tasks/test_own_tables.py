"""Tables of the user's own: the layouts that are read, and values that cannot be."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget, Cause, Failure, Measure
from child_trainer.tasks.lookup_table import Answer, Table, read_rows
from child_trainer.training.task import TaskError
from child_trainer.training.train import train
from tests.command_line import nascluster

KNOWN = Architecture("feedforward", (node("a", "relu", "image"),), ("a",))
OTHER = Architecture("feedforward", (node("a", "tanh", "image"),), ("a",))


@pytest.mark.parametrize("separator", ["\u2029", "\x1c", "\x0b"])
def test_a_separator_that_is_no_line_end_of_csv_stays_in_its_cell(separator: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"key,metric\r\nx{separator}y,0.25\r\n", encoding="utf-8", newline="")
    assert [(row.text("key"), row.number("metric")) for row in read_rows(file, ("key", "metric"))] == [
        (f"x{separator}y", 0.25)
    ]


def test_an_object_of_rows_by_key_is_a_table(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"one": {"metric": 0.5}, "two": {"metric": 0.75}}')
    rows = read_rows(file, ("key", "metric"))
    assert [(row.text("key"), row.number("metric")) for row in rows] == [("one", 0.5), ("two", 0.75)]


def test_a_number_too_great_for_arithmetic_is_named_with_row_and_column(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('[{"key": "a", "metric": 1' + "0" * 400 + "}]")
    with pytest.raises(TaskError, match="row 1: `metric` must be"):
        read_rows(file, ("key", "metric"))[0].number("metric")


@pytest.mark.parametrize(
    ("measure", "answer", "message"),
    [
        (Measure.ACCURACY, Answer(71.5, 1.0), "row 'k': `metric` must be a number from 0 to 1, got 71.5; divide"),
        (Measure.ACCURACY, Answer(0.5, 1.0, test=-0.1), "row 'k': `test` must be"),
        (Measure.PERPLEXITY, Answer(0.5, 1.0), "row 'k': `metric` must be a number from 1"),
        (Measure.SCORE, Answer(math.nan, 1.0), "row 'k': `metric` must be a finite number"),
        (Measure.SCORE, Answer(-5.0, math.inf), "row 'k': `seconds` must be"),
        (Measure.SCORE, Answer(-5.0, 1.0, parameters=-3), "row 'k': `parameters` must be a number from 0"),
        (Measure.SCORE, Answer("0.5", 1.0), "row 'k': `metric` must be a finite number, got '0.5'"),  # pyright: ignore
        (Measure.ACCURACY, Answer(0.5, "1 h"), "row 'k': `seconds` must be .* got '1 h'"),  # pyright: ignore
        (Measure.ACCURACY, Answer(None, 1.0), r"row 'k': `metric` must be a number, or the answer `Answer.failed"),
    ],
)
def test_an_impossible_value_is_refused_when_the_table_is_made(measure: Measure, answer: Answer, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Table(name="mine", answers={"k": answer}, measure=measure)


def test_a_failed_network_has_a_form() -> None:
    failed = Answer.failed("diverged", "the loss was NaN in epoch 3", seconds=40.0)
    outcome = train(KNOWN, Table(name="mine", answers={KNOWN.id: failed}), Budget(), seed=1)
    assert outcome.failure == Failure(cause=Cause.DIVERGED, message="the loss was NaN in epoch 3")
    assert (outcome.metric, outcome.seconds) == (None, 40.0)
    with pytest.raises(TaskError, match=r"`cause` must be one of out_of_memory, .*, got 'melted'"):
        Answer.failed("melted")


def test_the_example_of_the_docs_reads_failed_and_timeless_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "tables.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    rows = f"{KNOWN.id},0.75,0.5,2,\n{OTHER.id},,,1,diverged\nthird,0.5,,,\n"
    (tmp_path / "table.csv").write_text(f"architecture,accuracy,test,hours,failure\n{rows}")
    names: dict[str, Any] = {}
    exec(code, names)
    table: Table = names["task"]
    assert train(KNOWN, table, Budget(), seed=1).metric == 0.75
    failure = train(OTHER, table, Budget(), seed=1).failure
    assert failure is not None
    assert failure.cause is Cause.DIVERGED
    assert table.answers["third"] == Answer(0.5, None)


def test_null_in_a_cell_is_no_value(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"one": {"metric": null, "hours": null}, "two": {"metric": 0.5, "hours": 2}}')
    one, two = read_rows(file, ("key", "metric", "hours"))
    assert (one.has("metric"), one.number_or_none("hours"), two.number_or_none("hours")) == (False, None, 2.0)
    with pytest.raises(TaskError, match="row 1: `metric` must be a number of 0 or more, got None"):
        one.number("metric")


def test_an_object_may_leave_out_what_another_has(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"one": {"metric": 0.5}, "two": {"failure": "diverged"}}')
    one, two = read_rows(file, ("key", "metric", "failure"))
    assert [(row.has("metric"), row.has("failure")) for row in (one, two)] == [(True, False), (False, True)]
    with pytest.raises(TaskError, match="row 2: `metric` must be a number of 0 or more, got None"):
        two.number("metric")


@pytest.mark.parametrize("value", ["melted", "", "Diverged"])
def test_a_cause_that_there_is_not_is_named_with_its_row(value: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"key,failure\none,timeout\ntwo,{value}\n")
    one, two = read_rows(file, ("key", "failure"))
    assert one.cause("failure") is Cause.TIMEOUT
    with pytest.raises(TaskError, match=rf"t\.csv, row 2: `failure` must be one of out_of_memory, .*, got '{value}'"):
        two.cause("failure")


PERPLEXITIES = """
from nascluster import (
    Answer, Budget, Measure, RecurrentSpace, RunConfig, Table, TaskEntry, TaskOptions, Topology, enumerate_samples
)

SPACE = RecurrentSpace(base=2, combinations=("add",), activations=("tanh", "relu"))


def check(name, data, options, *, download):
    pass


def load(name, data, options, *, seed, device):
    answers = {}
    for place, tokens in enumerate(enumerate_samples(SPACE.decisions(0))):
        answer = Answer(100.0 - place % 7, None) if place % 5 else Answer.failed("diverged")
        answers[SPACE.decode(tokens).id] = answer
    return Table(name=name, answers=answers, measure=Measure.PERPLEXITY)


CELLS = TaskEntry(
    summary="cells", family="table", kinds=("recurrent",), measure=Measure.PERPLEXITY, module=__name__, trains=False
)


def cells():
    return RunConfig(
        max_children=12, searcher="random", space="recurrent", space_options=SPACE, reward="perplexity",
        task=TaskOptions(task="perplexities.py:CELLS"), topology=Topology(replicas=1, shards=1, children=4),
    )
"""


def test_a_table_of_perplexities_is_launched_shown_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("perplexities.py").write_text(PERPLEXITIES)
    recipe = "perplexities.py:cells"
    assert nascluster("launch", recipe, "--local", "--name", "cells") == 0
    printed = capfd.readouterr().out
    assert "validation perplexity 9" in printed
    assert "seconds unknown to the table" in printed
    assert "diverged" in printed
    assert "measured" not in printed
    for command in ("status", "best", "report", "failures", "doctor"):
        assert nascluster(command, "cells") == 0, command
    assert nascluster("compare", "random", "evolution", "--recipe", recipe, "--budget", "8", "--seeds", "2") == 0
    capfd.readouterr()
    assert nascluster("compare", "random", "evolution", "--recipe", recipe, "--budget", "8s", "--seeds", "2") == 2
    assert "the table has no seconds for" in capfd.readouterr().err


def test_a_wrong_value_is_found_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("perplexities.py").write_text(PERPLEXITIES.replace("100.0 - place % 7", "0.5"))
    assert nascluster("launch", "perplexities.py:cells", "--local", "--name", "cells") == 2
    assert "`metric` must be a number from 1 to inf, got 0.5" in capfd.readouterr().err
    assert not (tmp_path / "nascluster_runs" / "cells").exists()
