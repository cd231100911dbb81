"""The data of a report, of bounded size for any number of children. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

from child_trainer.architectures.architecture import Architecture
from cluster.config.known_config import KnownConfig
from cluster.config.run_config import RunConfig
from cluster.monitoring.benchmark_results import TableFacts
from cluster.monitoring.status import Best, Status
from cluster.storage.ledger.queries.final_tests import NetworkTests
from cluster.storage.ledger.queries.lineage import Ancestor
from cluster.storage.ledger.queries.report_children import Prediction
from cluster.storage.ledger.queries.supernet import SupernetSlice
from controller.preferences import Preference
from controller.searcher import OptionValues


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A value and the point of the search at which it was reached.

    Attributes:
        children: number of children that had ended.
        seconds: since the first child was sampled, pauses between a stop and a resume included.
        work: seconds that workers had spent on these children.
        value: the metric or reward reached.
    """

    children: int
    seconds: float
    work: float
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressCurve:
    """How a search improved over time.

    Attributes:
        name: the run's name.
        searcher: the name of its searcher.
        best: each place at which the best metric so far improved, and the last place.
        rewards: mean reward of the last `window` children, at evenly spaced places.
        window: number of children in each mean.
        gpus_per_child: as configured, or otherwise as used by the finished children; `None` before one finished.
        unlike: for a run compared with another, the settings that differ but that a fair comparison needs equal.
    """

    name: str
    searcher: str
    best: tuple[Place, ...]
    rewards: tuple[Place, ...]
    window: int
    gpus_per_child: float | None
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """Means and quantiles over some successive learned batches; each is `None` if unknown.

    Attributes:
        seconds: when the last of the batches was learned, in seconds since the first child was sampled.
        figures: the mean of each of the searcher's figures, by name.
        staleness, worst_staleness: mean and largest staleness over pushes and shards, in versions.
        pull, slow_pull, push, slow_push: median and 95th percentile of the replicas' waiting times, in seconds.
    """

    seconds: float
    figures: Mapping[str, float]
    staleness: float | None
    worst_staleness: float | None
    pull: float | None
    slow_pull: float | None
    push: float | None
    slow_push: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildPoint:
    """A finished child in a plot: its id, cost and metric."""

    id: int
    cost: float
    metric: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """The finished children by one kind of cost: every child, or the number of children in each cell.

    Attributes:
        cost: `parameters`, `flops`, `latency` or `seconds`.
        count: number of children whose cost is known.
        lowest, highest: lowest and highest cost and metric.
        log: for cost and metric, whether the axis of the cells and of the plot is logarithmic.
        children: every child if there are few; otherwise empty.
        cells: number of children by column and row (of `COLUMNS` and `ROWS`, from the lowest), if there are many.
        front: the Pareto front by cost: the children that no cheaper one equals.
    """

    cost: str
    count: int
    lowest: tuple[float, float]
    highest: tuple[float, float]
    log: tuple[bool, bool]
    children: tuple[ChildPoint, ...]
    cells: Mapping[tuple[int, int], int]
    front: tuple[ChildPoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """An architecture that a searcher derived from the strengths of a supernet's options.

    Attributes:
        child_id, tokens, metric: of the child with which it was scored.
        values: the probability of each option of each choice at that time.
        connections: what the architecture has at each choice that gives it anything, by the choice's gate.
        architecture: its graph; only of the first and the last.
    """

    child_id: int
    tokens: tuple[int, ...]
    metric: float | None
    values: tuple[OptionValues, ...]
    connections: Mapping[str, str]
    architecture: Architecture | None


COLUMNS, ROWS = 44, 26
"""The size of a `Cloud` in cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Troubles:
    """The failures of a run.

    Attributes:
        attempts: failed attempts, by cause.
        retried: those of them after which the child was retried, by cause.
        children: children that failed permanently, by cause.
        verdicts: ended attempts, by verdict.
        latest: the latest failures: child, cause and the error's last line.
    """

    attempts: Mapping[str, int]
    retried: Mapping[str, int]
    children: Mapping[str, int]
    verdicts: Mapping[str, int]
    latest: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """How the workers' time was used.

    Attributes:
        seconds: duration of all attempts with any verdict; running attempts count up to now.
        useful: duration of the attempts that gave a metric, in seconds.
        attempts: number of attempts started.
        busy: for each time slice, its end in seconds since the first child was sampled, and the mean number of busy
            workers in it.
    """

    seconds: float
    useful: float
    attempts: int
    busy: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All data of a report.

    Attributes:
        status: the run's status.
        config: the run's configuration, with stand-ins for what this version does not know.
        known: the configuration as far as this version knows it.
        place: the path or URL of the run's folder.
        now: Unix time at which the data were read.
        distinct: number of distinct architectures.
        with_architecture: number of children that have one; a child that trains shared weights may have none.
        best: the best children with distinct architectures, best first.
        table_facts: what the task's table contains about each of `best`; `None` if the task is not a table.
        progress: progress of this run.
        other: progress of the run that it is compared with, if any.
        learned: the learned batches, in slices of successive batches.
        clouds: one for each kind of cost that is known for some child.
        preferences: what the searcher sampled at each decision.
        option_values: the values that the searcher learnt of the options along its best sample, if it learns values.
        values_missing: why those are not known though the searcher learns values; or empty.
        derived: the architectures that the searcher has derived from strengths, if it learns such.
        supernet: the jobs on weights that children share, in slices of successive children; none if they share none.
        predictions: the rewards that the searcher predicted, if it predicts any.
        tested: the networks that have looked at the test data; none of a search.
        lineage: the best child's line, from its first ancestor on; none if it has no parent.
        troubles: the failures.
        work: how the workers' time was used.
        versions: versions of the driver's programs by name; each distinct set once, in order.
    """

    status: Status
    config: RunConfig
    known: KnownConfig
    place: str
    now: float
    distinct: int
    with_architecture: int
    best: tuple[Best, ...]
    table_facts: tuple[TableFacts, ...] | None
    progress: ProgressCurve
    other: ProgressCurve | None
    learned: tuple[Learned, ...]
    clouds: tuple[Cloud, ...]
    preferences: tuple[Preference, ...]
    option_values: tuple[OptionValues, ...]
    values_missing: str
    derived: tuple[Derived, ...]
    supernet: tuple[SupernetSlice, ...]
    predictions: tuple[Prediction, ...]
    tested: tuple[NetworkTests, ...]
    lineage: tuple[Ancestor, ...]
    troubles: Troubles
    work: Work
    versions: tuple[Mapping[str, str], ...]

    @property
    def gpus_per_child(self) -> float | None:
        """GPUs per child in this run."""
        return self.progress.gpus_per_child

    @property
    def gpu_seconds(self) -> float | None:
        """GPU seconds of all attempts; `None` if the number of GPUs per child is unknown."""
        return None if self.gpus_per_child is None else self.gpus_per_child * self.work.seconds

    @property
    def utilisation(self) -> float | None:
        """Share of the workers' time spent on training, for the number of workers of the last start."""
        available = self.status.workers * self.status.seconds
        return min(1.0, self.work.seconds / available) if available else None

    def version(self, program: str) -> str:
        """Return the versions of a program that the run used, in order of its starts."""
        return ", then ".join(dict.fromkeys(start.get(program, "unknown") for start in self.versions))
