"""How good architectures are by a table: NAS-Bench-201's, or one of the user's own."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.tasks.catalogue import load_table
from child_trainer.tasks.lookup_table import Answer, Table, read_rows
from child_trainer.tasks.nasbench201_table import LONG_NAME, RESULTS, TEST_OF
from cluster.config.flags import UsageError
from cluster.correlation.shared_scores import Sample
from controller.space import SearchSpace, first_tokens, genotypes_of
from controller.spaces.checks import space_words

NOTATION = "NAS-Bench-201"
"""The notation that NAS-Bench-201's table names its cells in; the supernet's networks may have any size."""

ARCHITECTURE, ACCURACY, TEST = "architecture", "accuracy", "test"
"""The columns of a table of the user's own."""


@dataclass(frozen=True, slots=True)
class TableTruth:
    """The accuracies of a table.

    Attributes:
        words: what they are, for people.
        of: returns that of a sample, `None` where the table has none.
    """

    words: str
    of: Callable[[Sample], float | None]


def read_truth(place: str, space: SearchSpace) -> TableTruth:
    """Return the truth about a space by a table.

    Args:
        place: a folder with NAS-Bench-201's files; a file (.csv or .json) with the columns `architecture`, a canonical
            id or a sample in the space's notation, and `accuracy`; or `FILE.py:NAME` of a task that is a table.
        space: whose samples it is asked for.

    Raises:
        UsageError: there is no such table, or NAS-Bench-201's does not have the space's architectures.
        TaskError: the table is damaged.
        OwnFileError: the file cannot be loaded, or does not define a task.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        return _benchmark(path, space)
    if path.is_file():
        return _file(path, space)
    if own_files.is_own(place):
        table = load_table(place)
        return TableTruth(_words(table, place), lambda sample: _value(table, sample.architecture))
    raise UsageError(
        f"`--data` must be a folder with {RESULTS}, a .csv or .json file with the columns {ARCHITECTURE} and"
        f" {ACCURACY}, or FILE.py:NAME of a table, got {place!r}"
    )


def _benchmark(folder: Path, space: SearchSpace) -> TableTruth:
    if NOTATION not in genotypes_of(space, first_tokens(space, 0, random.Random(0))):
        raise UsageError(
            f"the table in {folder} is of NAS-Bench-201's cells, which {space_words(space)} has not: give a table"
            " of its own, or leave out `--data` to train the architectures"
        )
    answers = load_table(LONG_NAME, data=folder).answers

    def of(sample: Sample) -> float | None:
        return answers[genotypes_of(space, sample.tokens)[NOTATION]].test

    return TableTruth(f"CIFAR-10 test accuracy after {TEST_OF} by the table in {folder}", of)


def _file(path: Path, space: SearchSpace) -> TableTruth:
    rows = read_rows(path, (ARCHITECTURE, ACCURACY))
    column = TEST if all(row.has(TEST) for row in rows) else ACCURACY
    values: Mapping[str, float] = {row.text(ARCHITECTURE): row.number(column, 1) for row in rows if row.has(column)}

    def of(sample: Sample) -> float | None:
        keys = (sample.architecture.id, *genotypes_of(space, sample.tokens).values())
        return next((values[key] for key in keys if key in values), None)

    return TableTruth(f"{'test accuracy' if column == TEST else 'accuracy'} by the table {path}", of)


def _words(table: Table, place: str) -> str:
    tested = all(answer.test is not None for answer in table.answers.values())
    what = "test accuracy" + (f" after {table.test_of}" if table.test_of else "") if tested else f"{table.measure}"
    return f"{what} by the table {place}"


def _value(table: Table, architecture: Architecture) -> float | None:
    try:
        answer: Answer = table.answer(architecture)
    except InvalidArchitecture:
        return None
    return answer.metric if answer.test is None else answer.test
