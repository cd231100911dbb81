"""The options of the task of a table of one's own. Standard library only."""

from dataclasses import dataclass, replace
from typing import Literal

from child_trainer.field_types import check_types
from child_trainer.outcome import Measure
from child_trainer.tasks.entry import TaskEntry


@dataclass(frozen=True, kw_only=True)
class TableFileOptions:
    """How a table of one's own is read.

    Raises:
        ValueError: an option is impossible.
    """

    table_metric: Literal["accuracy", "perplexity", "score"] = "accuracy"
    """The column of the table that has the metric, and what that is: an accuracy from 0 to 1, a perplexity, or a score,
    any number of which more is better."""

    def __post_init__(self) -> None:
        check_types(self)


def described(entry: TaskEntry, options: TableFileOptions) -> TaskEntry:
    """Return the task's row of the catalogue with the measure that the options name."""
    return replace(entry, measure=Measure(options.table_metric))
