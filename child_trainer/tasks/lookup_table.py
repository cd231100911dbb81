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
from child_trainer.outcome import LATENCY, Budget, Cause, Failure, Measure
from child_trainer.training.task import FailedBefore, Progress, TaskError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a table knows of one architecture.

    Attributes:
        metric: the validation metric that the search sees; an accuracy is in [0, 1]; `None` if the network failed.
        seconds: what training and validating it took, where the table was made; `None` if that is unknown.
        parameters: of the network that was trained there.
        test: the metric that is kept from the search, and reported after it.
        estimated: the seconds were not measured.
        failure: why there is no metric.
        latency_ms: what the network takes for one image, or for one batch, where the table was made.
    """

    metric: float | None
    seconds: float | None
    parameters: int | None = None
    test: float | None = None
    estimated: bool = False
    failure: Failure | None = None
    latency_ms: float | None = None

    @classmethod
    def failed(cls, cause: str, message: str = "", *, seconds: float | None = None) -> "Answer":
        """Return the answer for a network whose training failed where the table was made.

        Args:
            cause: a value of `Cause`, such as `diverged`.
            message: the error, if it is known.
            seconds: what the training took until it failed, if that is known.

        Raises:
            TaskError: there is no such cause.
        """
        if cause not in tuple(Cause):
            raise TaskError(f"`cause` must be one of {', '.join(Cause)}, got {cause!r}")
        failure = Failure(cause=Cause(cause), message=message or f"the table says that the training failed: {cause}")
        return cls(None, seconds, failure=failure)


LIMITS = {Measure.ACCURACY: (0.0, 1.0), Measure.PERPLEXITY: (1.0, math.inf)}
"""The lowest and the highest value of each measure; any finite number is a score."""


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
        low, high = LIMITS.get(self.measure, (-math.inf, math.inf))
        if not self.answers:
            raise TaskError(f"table {self.name!r} must have an answer, got none")
        for key, answer in self.answers.items():
            if not isinstance(answer, Answer):
                raise TaskError(f"table {self.name!r}, row {key!r}: it must be an Answer(...), got {answer!r}")
            if (answer.metric is None) != (answer.failure is not None):
                wish = "`metric` must be a number, or the answer `Answer.failed(...)`"
                raise TaskError(f"table {self.name!r}, row {key!r}: {wish}, got {answer.metric!r}")
            for column, value, least, most in (
                ("metric", answer.metric, low, high),
                ("test", answer.test, low, high),
                ("seconds", answer.seconds, 0.0, math.inf),
                ("parameters", answer.parameters, 0.0, math.inf),
                ("latency_ms", answer.latency_ms, 0.0, math.inf),
            ):
                if value is not None and (problem := _problem(value, least, most)):
                    raise TaskError(f"table {self.name!r}, row {key!r}: `{column}` {problem}")

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
        progress.parameters, progress.reported_seconds = answer.parameters, answer.seconds or 0.0
        if answer.metric is None:
            raise FailedBefore(answer.failure)
        if answer.latency_ms is not None:
            progress.measurements[LATENCY] = answer.latency_ms
        progress.finished_epoch(answer.metric)


def _problem(value: Any, least: float, most: float) -> str:
    """Return what is wrong with a value of a table; empty if nothing is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and least <= value <= most:
        return ""
    limits = f"a number from {least:g} to {most:g}" if least > -math.inf else "a finite number"
    hint = "; divide percentages by 100" if is_number and most == 1 < value <= 100 else ""
    return f"must be {limits}, got {value!r}{hint}"


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

    def cause(self, column: str) -> Cause:
        """Return the cause of a failure, for `Answer.failed`."""
        value = self.values[column]
        if value not in tuple(Cause):
            raise TaskError(f"{self.place}: `{column}` must be one of {', '.join(Cause)}, got {value!r}")
        return Cause(value)

    def has(self, column: str) -> bool:
        """Return whether there is a value in a column: the column exists, and it is neither empty nor null."""
        return self.values.get(column) not in (None, "")

    def number_or_none(self, column: str, maximum: float = math.inf) -> float | None:
        """Return the finite number in a column, from 0 to `maximum`; `None` where there is no value."""
        return self.number(column, maximum) if self.has(column) else None

    def number(self, column: str, maximum: float = math.inf) -> float:
        """Return the finite number in a column, from 0 to `maximum`."""
        try:
            number = float(self.values[column])
        except (TypeError, ValueError, OverflowError, KeyError):
            number = math.nan
        if not (math.isfinite(number) and 0 <= number <= maximum):
            wish = f"a number from 0 to {maximum:g}" if maximum < math.inf else "a number of 0 or more"
            raise TaskError(f"{self.place}: `{column}` must be {wish}, got {self.values.get(column)!r}")
        return number

    def whole_number(self, column: str, maximum: int) -> int:
        """Return the whole number in a column, from 0 to `maximum`."""
        number = self.number(column, maximum)
        if number != int(number):
            raise TaskError(f"{self.place}: `{column}` must be a whole number, got {self.values[column]!r}")
        return int(number)


def read_rows(path: Path, columns: Sequence[str], *, key: str | None = None) -> list[Row]:
    """Return the rows of a CSV file with a line of names, or of a JSON file (`.json`) with a list of objects.

    JSON may also be an object of objects by key. An object may leave out what it has no value for, if another object
    has that column.

    Args:
        path: the file.
        columns: those that it must have.
        key: the column of the keys of an object of objects; unset: the first one.

    Raises:
        TaskError: the file cannot be read, is damaged, or lacks one of the columns; it names the file.
    """
    read = _json_rows if path.suffix == ".json" else _csv_rows
    try:
        # Some programs write a byte order mark before the first name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                Row(f"{path}, row {number}", values)
                for number, values in enumerate(read(file.read(), key or columns[0]), start=1)
            ]
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({error.strerror}); it must be a table with {_list(columns)}"
        ) from error
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise TaskError(f"{path} is damaged ({error}); it must be a table with {_list(columns)}") from error
    if long := next((row for row in rows if None in row.values), None):
        raise TaskError(f"{long.place} has more cells than the file has columns: a cell with commas must be in quotes")
    if not rows:
        raise TaskError(f"{path} has no rows; it must be a table with {_list(columns)}")
    if path.suffix == ".json":
        known = {column for row in rows for column in row.values}
        rows = [Row(row.place, {**dict.fromkeys(known), **row.values}) for row in rows]
    for row in rows:
        # A short line of CSV has no cell; in JSON one may be null.
        absent = (c for c in columns if c not in row.values or (row.values[c] is None and path.suffix != ".json"))
        if missing := next(absent, None):
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
