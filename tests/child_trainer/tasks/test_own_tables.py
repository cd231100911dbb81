"""Tables of the user's own: the layouts that are read, and values that cannot be."""

import math
from pathlib import Path

import pytest

from child_trainer.outcome import Measure
from child_trainer.tasks.lookup_table import Answer, Table, read_rows
from child_trainer.training.task import TaskError


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
    ],
)
def test_an_impossible_value_is_refused_when_the_table_is_made(measure: Measure, answer: Answer, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Table(name="mine", answers={"k": answer}, measure=measure)
