"""Results in a benchmark table that a run itself does not use, looked up when its best children are shown.

They never reach a searcher or the ledger: a test metric that influences a choice is no longer a test. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from child_trainer.tasks.catalogue import load_table
from cluster.config.run_config import RunConfig
from cluster.storage.dataset_cache import local_data
from cluster.storage.ledger.queries.status import Best

HIDDEN = "hidden while the search runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFacts:
    """What a table contains about one architecture.

    Attributes:
        test: the test metric, which the search never uses; `None` if the table has none or `untold` gives the reason.
        test_of: the training that it belongs to, in a few words, if the table says so.
        estimated: whether the seconds are estimated rather than measured; `None` if the table cannot be read.
        timed: whether the table says how long the training took.
        untold: why the test metric is not shown; empty if it is.
    """

    test: float | None = None
    test_of: str = ""
    estimated: bool | None = None
    timed: bool = True
    untold: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self)


def table_facts(config: RunConfig, children: Sequence[Best], *, running: bool) -> tuple[TableFacts, ...] | None:
    """Look up finished children in the table of the run's task; return `None` if the task is not a table.

    Args:
        config: the run's configuration.
        children: the children.
        running: whether the search is running, so that test metrics are hidden.
    """
    if config.task.entry.family != "table":
        return None
    try:
        with config.task.own_file():
            table = load_table(
                config.task.task,
                data=local_data(config.task.data),
                options=config.task.options,
                decode=config.search_space.decode,
            )
        answers = [table.answer(child.architecture) for child in children]
    except (ValueError, OSError) as error:  # the run may come from another machine; the rest of it can still be shown
        return (TableFacts(untold=HIDDEN if running else f"unknown here: {error}"),) * len(children)
    if running:
        return tuple(
            TableFacts(estimated=answer.estimated, timed=answer.seconds is not None, untold=HIDDEN)
            for answer in answers
        )
    return tuple(
        TableFacts(
            test=answer.test,
            test_of=table.test_of,
            estimated=answer.estimated,
            timed=answer.seconds is not None,
        )
        for answer in answers
    )


def describe_seconds(seconds: str, facts: TableFacts | None, *, scored: bool = False) -> str:
    """Return how long a child took and how that is known.

    Args:
        seconds: as text.
        facts: of a table; `None` for a child that no table answers for.
        scored: it was scored with shared weights, and not trained.
    """
    if facts is None:
        return f"scored with shared weights in {seconds}" if scored else f"trained in {seconds}"
    if not facts.timed:
        return "seconds unknown to the table"
    kind = {True: " (estimated)", False: " (measured)", None: ""}[facts.estimated]
    return f"{seconds} by the table{kind}"


def describe_test(measure: str, facts: TableFacts | None) -> str:
    """Return the test metric, or why it is not shown; empty if the table has none."""
    if facts is None:
        return ""
    if facts.untold:
        return f"test {measure} {facts.untold}"
    training = f"{facts.test_of}, " if facts.test_of else ""
    return "" if facts.test is None else f"test {measure} {facts.test:.4f} ({training}shown only after the search)"


def describe_coverage(measured: int, known: int) -> str:
    """Return a sentence on how many of a table's times are measured; empty if all are."""
    if measured == known:
        return ""
    share = f"{measured:,} of its {known:,} architectures"
    return f"The table's training times are measured for {share} and estimated for the others."
