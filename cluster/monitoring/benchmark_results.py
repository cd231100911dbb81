"""What a table knows of a run's best children and the run does not: looked up when they are shown. Imports no torch.

Nothing of it comes to a searcher or into the ledger: a test that something was chosen by is none.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.tasks.catalogue import load_table
from cluster.config.run_config import RunConfig
from cluster.storage.dataset_cache import local_data

NOT_YET = "not told while the search goes on"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFacts:
    """Of one architecture.

    Attributes:
        test: the metric that was kept from the search; `None` where the table has none, or `untold` says why.
        test_of: the training that it is of, in a few words, if the table knows.
        estimated: the seconds were not measured; `None` where the table cannot be read.
        untold: why the test is not told here, if it is not.
    """

    test: float | None = None
    test_of: str = ""
    estimated: bool | None = None
    untold: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self)


def table_facts(
    config: RunConfig, architectures: Sequence[Architecture], *, running: bool
) -> tuple[TableFacts, ...] | None:
    """What the table of the run's task knows of each of these, or `None` if the task is no table.

    Args:
        config: the run's.
        architectures: of children that have finished.
        running: the search goes on, so that the test is not told yet.
    """
    if config.task.entry.family != "table":
        return None
    try:
        with config.task.own_file():
            table = load_table(config.task.task, data=local_data(config.task.data))
        answers = [table.answer(architecture) for architecture in architectures]
    except (ValueError, OSError) as error:  # the run may be of another machine, and all else of it is known here
        return (TableFacts(untold=NOT_YET if running else f"not known here: {error}"),) * len(architectures)
    if running:
        return tuple(TableFacts(estimated=answer.estimated, untold=NOT_YET) for answer in answers)
    return tuple(TableFacts(test=a.test, test_of=table.test_of, estimated=a.estimated) for a in answers)


def told_seconds(seconds: str, facts: TableFacts | None) -> str:
    """What a child took, and by whose clock; `facts` are `None` of a child that was trained."""
    if facts is None:
        return f"trained in {seconds}"
    kind = {True: " (estimated)", False: " (measured)", None: ""}[facts.estimated]
    return f"{seconds} by the table{kind}"


def told_test(measure: str, facts: TableFacts | None) -> str:
    """The test metric, or why it is not there; empty where there is nothing to say."""
    if facts is None:
        return ""
    if facts.untold:
        return f"test {measure} {facts.untold}"
    of = f"{facts.test_of}, " if facts.test_of else ""
    return "" if facts.test is None else f"test {measure} {facts.test:.4f} ({of}told after the search only)"


def told_measured(measured: int, known: int) -> str:
    """For how many of a table's architectures its seconds are measured; empty where for all of them."""
    if measured == known:
        return ""
    of = f"{measured:,} of its {known:,} architectures"
    return f"The table's seconds are measured for {of} and estimated for the others."
