"""The tasks that are tables, by name. Standard library only."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from child_trainer.tasks import nasbench201_table as nasbench201
from child_trainer.tasks.lookup_table import Table
from child_trainer.training.task import TaskError

TABLES: Mapping[str, Callable[[Path | None], Table]] = MappingProxyType({"nasbench201": nasbench201.load})
"""What reads each of them, from the folder of `--data`."""


def load_table(name: str, *, data: Path | None = None) -> Table:
    """The table that answers for a task; also what it keeps from the search (`Table.test_metric`).

    Raises:
        TaskError: there is no table of this name, or a file of it is not there or damaged.
    """
    if name not in TABLES:
        raise TaskError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
    return TABLES[name](data)
