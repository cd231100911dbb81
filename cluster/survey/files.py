"""What a survey keeps in its folder: what was asked, how far each search has come, and its result."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from child_trainer.atomic_file import replace_file
from cluster.config.flags import UsageError

RUNS, CELLS, ASKED, LOCK = "runs", "cells", "survey.json", "lock"
"""The storage path of all runs, the folder of what was measured, the file of what was asked, and the lock."""

FIXED = {"task": "TASK", "budget_s": "--budget", "retrain_epochs": "--retrain-epochs", "data": "--data"}
"""What may not change while a folder is used, with the word of the command line; systems and seeds may."""


class SurveyError(ValueError):
    """A file of a survey cannot be read or written."""


class Mark(NamedTuple):
    """How far a search had come at one time.

    Attributes:
        spent: the core-seconds that it has used in all of its starts, its probe included.
        ended: the children that have ended; those of the probe do not count.
    """

    spent: float
    ended: int


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What one search, and the training of its winner, have given.

    Attributes:
        cell, of, seed: the cell's.
        spent: core-seconds of the search, its probe included.
        children: children that ended, and did not fail.
        failed: children that failed.
        ended: whether the `budget` has ended it, or its own `schedule`.
        fit: how the budget has changed its schedule; may be empty.
        curve: the core-seconds at which a child was the best so far, and its validation accuracy.
        scored: whether children were scored with shared weights, and not trained.
        architecture: of the winner, as its `to_json` gives; `None` if no child has a metric.
        parameters: of the winner.
        accuracy: of the winner after the training that is alike for all; `None` if there is none.
        by_validation: whether that is of the validation images, and not of the test images.
        cause: why there is no accuracy, if there is none.
        retrained_s: core-seconds of this training.
    """

    cell: str
    of: str
    seed: int
    spent: float
    children: int
    failed: int
    ended: str
    fit: str
    curve: Sequence[tuple[float, float]]
    scored: bool
    architecture: Mapping[str, Any] | None
    parameters: int | None
    accuracy: float | None
    by_validation: bool
    cause: str | None
    retrained_s: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CellResult":
        """Return what `dataclasses.asdict` and JSON have made of a result; raises `TypeError` if it is none."""
        return cls(**{**data, "curve": tuple((spent, metric) for spent, metric in data["curve"])})


@dataclass(frozen=True)
class CellFiles:
    """The files of one search: its marks, what its probe has shown, and its result.

    Attributes:
        folder: of all of them.
        name: the cell's.
    """

    folder: Path
    name: str

    def marks(self) -> list[Mark]:
        """Return the marks in their order; a line that a kill has cut off is left out."""
        try:
            lines = (self.folder / f"{self.name}.marks").read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [Mark(*json.loads(line)) for line in lines if line.endswith("]\n")]

    def mark(self, mark: Mark) -> None:
        """Add a mark; a crash of the machine may lose the last ones."""
        with (self.folder / f"{self.name}.marks").open("a") as file:
            # After a line that a kill has cut off, another one begins.
            file.write(
                f"{'' if self._is_whole(file.tell()) else chr(10)}{json.dumps([round(mark.spent, 3), mark.ended])}\n"
            )

    def _is_whole(self, size: int) -> bool:
        if not size:
            return True
        with (self.folder / f"{self.name}.marks").open("rb") as file:
            file.seek(size - 1)
            return file.read(1) == b"\n"

    def probed(self) -> Mapping[str, Any] | None:
        """Return what the probe has shown; `None` before its end."""
        return self._read("probe")

    def put_probed(self, data: Mapping[str, Any]) -> None:
        """Keep what the probe has shown."""
        self._write("probe", data)

    def result(self) -> CellResult | None:
        """Return the result; `None` before the search and the training of its winner have ended.

        Raises:
            SurveyError: the file is damaged.
        """
        data = self._read("json")
        try:
            return None if data is None else CellResult.from_json(data)
        except (TypeError, KeyError, ValueError) as error:
            raise SurveyError(
                f"{self.folder / self.name}.json is damaged ({error}): remove it, and the same command makes it again"
            ) from error

    def put_result(self, result: CellResult) -> None:
        """Keep the result, durably."""
        self._write("json", asdict(result))

    def _read(self, suffix: str) -> Mapping[str, Any] | None:
        path = self.folder / f"{self.name}.{suffix}"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SurveyError(f"{path} is damaged ({error}): remove it, and the same command makes it again") from error

    def _write(self, suffix: str, data: Mapping[str, Any]) -> None:
        replace_file(self.folder / f"{self.name}.{suffix}", (json.dumps(data) + "\n").encode(), durable=True)


def check_asked(folder: Path, asked: Mapping[str, Any]) -> None:
    """Keep what was asked, or raise `UsageError` if the folder has a survey of another budget, task or training.

    Args:
        folder: of the survey, which exists.
        asked: the values of `FIXED`, plain data.
    """
    file = folder / ASKED
    try:
        known = json.loads(file.read_text())
    except FileNotFoundError:
        replace_file(file, (json.dumps(asked, indent=2) + "\n").encode(), durable=True)
        return
    except ValueError as error:
        raise SurveyError(f"{file} is damaged ({error}): give another `--output`") from error
    for name, word in FIXED.items():
        if known.get(name) != asked[name]:
            raise UsageError(
                f"the survey in {folder} has begun with {_told(word, known.get(name))}, not {_told(word, asked[name])}:"
                " give the same, or another `--output`"
            )


def _told(word: str, value: object) -> str:
    if word == "TASK":
        return f"the task {value}"
    if value is None:
        return f"no `{word}`"
    return f"`{word} {value:.15g}s`" if isinstance(value, float) else f"`{word} {value}`"
