"""A table of the user's own as a task: a CSV or JSON file with a row for each architecture. Standard library only.

A row is named by a column `architecture`, a canonical id or an architecture in JSON, or by a column `tokens`, the
decisions of a sample of the search space. `docs/tables.md` has the other columns.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.outcome import Budget, Measure
from child_trainer.tasks.lookup_table import Answer, Row, Table, read_rows
from child_trainer.tasks.table_file_options import TableFileOptions
from child_trainer.training.task import Progress, TaskError

ID = re.compile("[0-9a-f]{16}")
"""A canonical id."""

NAMES = ("table.csv", "table.json")
"""What the file is called in a folder, or at a URL, which is copied as a folder."""

ARCHITECTURE, TOKENS = "architecture", "tokens"
"""The columns that may name a row."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """A table whose rows are named by samples of a search space, which alone says what network a sample is.

    Attributes:
        name: of the task.
        answers: by the sample.
        places: the place of each answer in the file.
        measure: what the metric is.
    """

    name: str
    answers: Mapping[Tokens, Answer]
    places: Mapping[Tokens, str]
    measure: Measure

    def of_space(self, decode: Callable[[Sequence[int]], Architecture]) -> Table:
        """Return the table of the networks that a search space makes of the samples; the first of equal ones counts.

        Raises:
            TaskError: a row is no sample of the space; the message names its place.
        """
        found: dict[str, Answer] = {}
        for tokens, answer in self.answers.items():
            try:
                found.setdefault(decode(tokens).id, answer)
            except ValueError as error:
                raise TaskError(
                    f"{self.places[tokens]}: `{TOKENS}` is no sample of the search space: {error}"
                ) from error
        return Table(name=self.name, answers=found, measure=self.measure)

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Raise `InvalidArchitecture`: without the search space nothing is known of an architecture."""
        raise InvalidArchitecture(
            f"the rows of the table are named by `{TOKENS}`, which only a search of their space knows: name them by"
            f" `{ARCHITECTURE}`"
        )


def check(name: str, data: Path | None, options: TableFileOptions, *, download: bool) -> None:
    """Read the table, and check all of its values; nothing can be downloaded.

    Raises:
        TaskError: as `load` does.
    """
    load(name, data, options, seed=0, device="cpu")


def load(name: str, data: Path | None, options: TableFileOptions, *, seed: int, device: str) -> Table | SampleTable:
    """Return the table.

    Raises:
        TaskError: there is no file, it is damaged, or a value is impossible; the message names the place.
    """
    path, metric = _file(name, data), options.table_metric
    rows = read_rows(path, (metric,), key=ARCHITECTURE)
    by_tokens = ARCHITECTURE not in rows[0].values
    if by_tokens and TOKENS not in rows[0].values:
        raise TaskError(f"{path} must be a table with a column `{ARCHITECTURE}` or `{TOKENS}`, and has neither")
    answers: dict[Any, Answer] = {}
    places: dict[Any, str] = {}
    for row in rows:
        key = _tokens(row) if by_tokens else _architecture(row)
        if key in answers:
            raise TaskError(f"{row.place}: its architecture is that of {places[key]}; the file must have each once")
        answers[key], places[key] = _answer(row, metric), row.place
    measure = Measure(metric)
    # Checks all values, also those of a table that is by samples.
    table = Table(name=name, answers={places[key]: answer for key, answer in answers.items()}, measure=measure)
    if by_tokens:
        return SampleTable(name=name, answers=answers, places=places, measure=measure)
    return Table(name=table.name, answers=answers, measure=measure)


def _file(name: str, data: Path | None) -> Path:
    wanted = f"a .csv or .json file, or a folder with {' or '.join(NAMES)}"
    if data is None:
        raise TaskError(f"the task {name!r} needs `--data`, {wanted}")
    if not data.is_dir():
        return data
    found = [data / one for one in NAMES if (data / one).is_file()]
    if len(found) != 1:
        raise TaskError(f"`--data` {data} must be {wanted}, and has {'both' if found else 'neither'}")
    return found[0]


def _architecture(row: Row) -> str:
    """Return the canonical id that names a row."""
    value = row.values[ARCHITECTURE]
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and not text.startswith("{"):
        if text and not ID.fullmatch(text):
            raise TaskError(
                f"{row.place}: `{ARCHITECTURE}` must be a canonical id, 16 hexadecimal digits, or an architecture, got"
                f" {text!r}"
            )
        return row.text(ARCHITECTURE).strip()
    try:
        return Architecture.from_json(json.loads(text) if isinstance(text, str) else text).id
    except (ValueError, TypeError, RecursionError) as error:
        raise TaskError(f"{row.place}: `{ARCHITECTURE}` must be a canonical id or an architecture: {error}") from error


def _tokens(row: Row) -> Tokens:
    """Return the sample that names a row."""
    value = row.values[TOKENS]
    parts = re.split(r"[,;\s]+", value.strip("[]() \t")) if isinstance(value, str) else value
    try:
        if not isinstance(parts, list) or any(isinstance(part, bool | float) for part in parts):
            raise ValueError
        return tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise TaskError(f"{row.place}: `{TOKENS}` must be whole numbers, such as 1,0,2, got {value!r}") from None


def _answer(row: Row, metric: str) -> Answer:
    seconds = row.number_or_none("seconds")
    if row.has("failure"):
        return Answer.failed(row.cause("failure"), seconds=seconds)
    value = row.values[metric]
    try:
        number = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TaskError(f"{row.place}: `{metric}` must be a number, got {value!r}")
    return Answer(
        metric=number,
        seconds=seconds,
        parameters=row.whole_number("parameters", 2**62) if row.has("parameters") else None,
        test=_test(row),
    )


def _test(row: Row) -> float | None:
    if not row.has("test"):
        return None
    try:
        return float(row.values["test"])
    except (TypeError, ValueError):
        raise TaskError(f"{row.place}: `test` must be a number, got {row.values['test']!r}") from None
