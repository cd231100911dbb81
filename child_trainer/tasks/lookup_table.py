"""A benchmark table answers instead of training. Standard library only.

Any table that is keyed by architecture makes a task of a few lines (docs/tables.md has them run):

    rows = read_rows(Path("table.csv"), ("architecture", "accuracy", "test", "hours"))
    answers = {
        row.text("architecture"): Answer(row.number("accuracy"), row.number("hours") * 3600, test=row.number("test"))
        for row in rows
    }
    task = Table(name="my table", answers=answers)
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.outcome import Budget, Measure
from child_trainer.training.task import Progress, TaskError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a table knows of one architecture.

    Attributes:
        metric: the validation metric that the search sees; an accuracy is in [0, 1].
        seconds: what training and validating it took, where the table was made.
        parameters: of the network that was trained there.
        test: the metric that is kept from the search, and reported after it.
        estimated: the seconds were not measured.
    """

    metric: float
    seconds: float
    parameters: int | None = None
    test: float | None = None
    estimated: bool = False


def by_id(architecture: Architecture) -> str:
    """Return the key of a table whose rows are named by canonical id."""
    return architecture.id


@dataclass(frozen=True, kw_only=True)
class Table:
    """A task that looks up what others have trained. The budget and the seed change nothing.

    The curve of a child is the one metric of its answer, and its seconds are the answer's, not the clock's.

    Attributes:
        name: of the task.
        answers: by key.
        key: of an architecture; raises `InvalidArchitecture` for one of which the table cannot know.
        measure: what the metric is.
        test_of: the training that the answers' `test` is of, in a few words, if it is another one.
    """

    name: str
    answers: Mapping[str, Answer]
    key: Callable[[Architecture], str] = by_id
    measure: Measure = Measure.ACCURACY
    test_of: str = ""

    def __post_init__(self) -> None:
        limits_of = {Measure.ACCURACY: (0.0, 1.0), Measure.PERPLEXITY: (1.0, math.inf)}
        low, high = limits_of.get(self.measure, (-math.inf, math.inf))
        for key, answer in self.answers.items():
            for column, value, least, most in (
                ("metric", answer.metric, low, high),
                ("test", answer.test, low, high),
                ("seconds", answer.seconds, 0.0, math.inf),
            ):
                if value is not None and not (math.isfinite(value) and least <= value <= most):
                    limits = f"a number from {least:g} to {most:g}" if least > -math.inf else "a finite number"
                    hint = "; divide percentages by 100" if most == 1 < value <= 100 else ""
                    raise TaskError(f"table {self.name!r}, row {key!r}: `{column}` must be {limits}, got {value}{hint}")

    def answer(self, architecture: Architecture) -> Answer:
        """Return what is known of the architecture.

        Raises:
            InvalidArchitecture: nothing is.
        """
        key = self.key(architecture)
        if key not in self.answers:
            raise InvalidArchitecture(
                f"architecture {architecture.id} ({key}) is none of the {len(self.answers):,} in the table"
                f" {self.name!r}"
            )
        return self.answers[key]

    def test_metric(self, architecture: Architecture) -> float | None:
        """Return the metric that the search never sees, or `None` where the table lacks it.

        Raises:
            InvalidArchitecture: the table does not know the architecture.
        """
        return self.answer(architecture).test

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Report the answer; see `Task.fit`."""
        answer = self.answer(architecture)
        progress.parameters, progress.reported_seconds = answer.parameters, answer.seconds
        progress.finished_epoch(answer.metric)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, whose errors name its place.

    Attributes:
        place: the file and the row in it.
        values: by column; texts where the file is CSV.
    """

    place: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """Return the value of a column that must not be empty."""
        value = self.values[column]
        if not isinstance(value, str) or not value:
            raise TaskError(f"{self.place}: `{column}` must be a text, got {value!r}")
        return value

    def number(self, column: str, maximum: float = math.inf) -> float:
        """Return the finite number in a column, from 0 to `maximum`."""
        try:
            number = float(self.values[column])
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not (math.isfinite(number) and 0 <= number <= maximum):
            wish = f"a number from 0 to {maximum:g}" if maximum < math.inf else "a number of 0 or more"
            raise TaskError(f"{self.place}: `{column}` must be {wish}, got {self.values[column]!r}")
        return number


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file with a line of names, or of a JSON file (`.json`) with a list of objects.

    JSON may also be an object of objects by key; the keys are then the first column.

    Raises:
        TaskError: the file cannot be read, is damaged, or lacks one of the columns; it names the file.
    """
    read = _json_rows if path.suffix == ".json" else _csv_rows
    try:
        # Some programs write a byte order mark before the first name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                Row(f"{path}, row {number}", values)
                for number, values in enumerate(read(file.read(), columns[0]), start=1)
            ]
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({error.strerror}); it must be a table with {_list(columns)}"
        ) from error
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise TaskError(f"{path} is damaged ({error}); it must be a table with {_list(columns)}") from error
    if not rows:
        raise TaskError(f"{path} has no rows; it must be a table with {_list(columns)}")
    for row in rows:
        if missing := next((column for column in columns if row.values.get(column) is None), None):
            raise TaskError(f"{row.place} has no `{missing}`; the file must be a table with {_list(columns)}")
    return rows


def _csv_rows(text: str, key: str) -> Iterable[Mapping[str, Any]]:
    return csv.DictReader(io.StringIO(text, newline=""), strict=True)


def _json_rows(text: str, key: str) -> Iterable[Mapping[str, Any]]:
    try:
        rows = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values()):
        rows = [{key: name, **row} for name, row in rows.items()]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is not a list of objects")
    return rows


def _list(columns: Sequence[str]) -> str:
    return f"the column{'s' if len(columns) > 1 else ''} {', '.join(columns)}"
