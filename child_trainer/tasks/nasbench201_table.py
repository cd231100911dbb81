"""NAS-Bench-201's CIFAR-10 as a table: 15,625 networks that others trained (docs/tables.md). Standard library only.

The search sees the validation accuracy after 12 epochs on one half of the training images, measured on the other
half; or, as the task `nasbench201-200`, that after 200 epochs. What is reported is the test accuracy after 200 epochs
on all training images.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.nasbench201 import (
    CELL_OPERATIONS,
    EDGES,
    NUM_CELLS,
    Cell,
    cell_from_name,
    cell_name,
    cell_of,
    num_parameters,
)
from child_trainer.tasks.folder_hint import folder_hint
from child_trainer.tasks.lookup_table import Answer, Row, Table, read_rows
from child_trainer.tasks.nasbench201_options import NasBench201Options
from child_trainer.training.task import TaskError

FILES = RESULTS, TIMES, TIME_MODEL = "nasbench201.csv", "times_1000.csv", "train_time_model.json"
"""The accuracies of all cells; measured seconds of 1,000 of them; a model of those, for the others."""

LATENCIES = "latency_ms.csv"
"""The latencies of all cells on some devices, in ms, by the cell's number."""

NUMBER = "index"
"""The column with a cell's number, in `RESULTS` and in `LATENCIES`."""

NUM_MEASURED = 1_000
"""Cells in `TIMES`."""

SHORT, LONG = 12, 200
"""Epochs of the two trainings that the table has."""

LONG_NAME = "nasbench201-200"
"""The task of which the search sees the longer training."""

VALIDATION, LONG_VALIDATION, TEST = "c10_valid_12", "c10_valid_200", "c10_test_200_v11"
"""Columns, in percent. The last is of the trainings that the benchmark's published results are taken from."""

TEST_OF = "200 epochs"
"""The training of `TEST`, in short."""

TRAINING, EVALUATION = "c10_train_s_12", "c10_eval_s_12"
"""Columns of `TIMES`: 12 epochs on 50,000 training images, and 12 evaluations of 10,000 test images."""

LONG_EVALUATION = "c10_eval_s_200"
"""The model's 200 such evaluations."""

Seconds = Callable[[Cell], float]


def check(name: str, data: Path | None, options: NasBench201Options, *, download: bool) -> None:
    """Read the table, which is quick: only then is it seen whether it is whole; nothing can be downloaded.

    Raises:
        TaskError: as `load` does.
    """
    load(name, data, options, seed=0, device="cpu")


def load(name: str, data: Path | None, options: NasBench201Options, *, seed: int, device: str) -> Table:
    """Return the table from the folder that has its three files, and a fourth with latencies where these are wanted.

    Raises:
        TaskError: a file is missing or damaged, or the table is not whole.
    """
    wanted = f"{RESULTS}, {TIMES} and {TIME_MODEL}"
    if data is None:
        raise TaskError(f"the task {name!r} needs `--data`, a folder with {wanted}")
    if not data.is_dir():
        raise TaskError(f"`--data` {data} is not a folder; the task {name!r} needs one with {wanted}")
    if missing := [file for file in FILES if not (data / file).is_file()]:
        hint = folder_hint(data, *missing)
        raise TaskError(f"{data} holds no {' and no '.join(missing)}; the task {name!r} needs {wanted}{hint}")
    epochs, validation = (LONG, LONG_VALIDATION) if name == LONG_NAME else (SHORT, VALIDATION)
    measured, modelled = _measured(data / TIMES, epochs), _model(data / TIME_MODEL, epochs)
    on = options.latency_device
    latencies = {} if on is None else _latencies(data / LATENCIES, on)
    answers: dict[str, Answer] = {}
    numbered = (NUMBER,) if latencies else ()
    for cell_id, row in _cells(data / RESULTS, ("arch", validation, TEST, *numbered), NUM_CELLS):
        cell = cell_from_name(cell_id)
        answers[cell_id] = Answer(
            metric=row.number(validation, 100) / 100,
            seconds=measured[cell_id] if cell_id in measured else modelled(cell),
            parameters=num_parameters(cell),  # not `params`, which for some cells is of other networks
            test=row.number(TEST, 100) / 100,
            estimated=cell_id not in measured,
            latency_ms=latencies[row.whole_number(NUMBER, NUM_CELLS - 1)] if latencies else None,
        )
    return Table(name=name, answers=answers, key=key, test_of=TEST_OF)


def key(architecture: Architecture) -> str:
    """Return the cell of the network, as the table names it.

    Raises:
        InvalidArchitecture: it is no network of the benchmark.
    """
    return cell_name(cell_of(architecture))


def child_seconds(training: float, evaluation: float, epochs: int = SHORT) -> float:
    """Return the seconds that the search pays for one child.

    They are of its epochs on 25,000 images, and one validation on the other 25,000.

    The benchmark's seconds are proportional to the number of images, by its own correction of them.

    Args:
        training: seconds of 12 epochs on 50,000 images.
        evaluation: seconds of one evaluation of 10,000 images.
        epochs: of the child; each takes as long as one of the 12.
    """
    return training * 25 / 50 * epochs / SHORT + evaluation * 25 / 10


def _measured(path: Path, epochs: int) -> dict[str, float]:
    return {
        name: child_seconds(row.number(TRAINING), row.number(EVALUATION) / 12, epochs)
        for name, row in _cells(path, ("arch", TRAINING, EVALUATION), NUM_MEASURED)
    }


def _cells(path: Path, columns: Sequence[str], count: int) -> Iterator[tuple[str, Row]]:
    """Yield the rows, each with its cell.

    Raises:
        TaskError: the file is damaged, or has not so many different cells.
    """
    known: set[str] = set()
    for row in read_rows(path, columns):
        name = row.text("arch")
        try:
            cell_from_name(name)
        except ValueError as error:
            raise TaskError(f"{row.place}: {error}") from error
        if name in known:
            raise TaskError(f"{row.place}: the cell {name} occurs twice; the file must have each once")
        known.add(name)
        yield name, row
    if len(known) != count:
        raise TaskError(f"{path} must have {count:,} cells, got {len(known):,}")


def _latencies(path: Path, device: str) -> dict[int, float]:
    """Return the latency of each cell on a device in ms, by the cell's number.

    Raises:
        TaskError: the file is damaged, or has not each cell once.
    """
    latencies: dict[int, float] = {}
    for row in read_rows(path, (NUMBER, device)):
        number = row.whole_number(NUMBER, NUM_CELLS - 1)
        if number in latencies:
            raise TaskError(f"{row.place}: the cell {number} occurs twice; the file must have each once")
        latencies[number] = row.number(device)
    if len(latencies) != NUM_CELLS:
        raise TaskError(f"{path} must have {NUM_CELLS:,} cells, got {len(latencies):,}")
    return latencies


def _model(path: Path, epochs: int) -> Seconds:
    """Return the estimate of `child_seconds` for a cell: an intercept, and a number for each edge's operation."""
    try:
        models: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))["models"]
        training, evaluation = _additive(models[TRAINING]), _additive(models[LONG_EVALUATION])
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}); it must be the model of seconds") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TaskError(
            f"{path} is damaged ({error!r}); it must have the models {TRAINING} and {LONG_EVALUATION}, an intercept and"
            f" {len(EDGES)} lists of {len(CELL_OPERATIONS) - 1} numbers each"
        ) from error
    return lambda cell: child_seconds(training(cell), evaluation(cell) / 200, epochs)


def _additive(model: Mapping[str, Any]) -> Seconds:
    intercept = float(model["intercept"])
    # `none` is what the others are compared to.
    added = [{"none": 0.0} | dict(zip(CELL_OPERATIONS[1:], map(float, c), strict=True)) for c in model["coef"]]
    numbers = [intercept, *(value for edge in added for value in edge.values())]
    if len(added) != len(EDGES) or not all(map(math.isfinite, numbers)):
        raise ValueError("not a finite number for each operation of each edge")
    return lambda cell: intercept + sum(edge[operation] for edge, operation in zip(added, cell, strict=True))
