"""What a report shows, as data whose size is bounded however many children there are. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config.run_config import RunConfig
from cluster.monitoring.benchmark_results import TableFacts
from cluster.monitoring.status import Best, Status
from controller.preferences import Preference


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A value and where in the search it was reached.

    Attributes:
        children: children that had ended.
        seconds: since the first child was sampled, pauses between a stop and a resume included.
        work: seconds that workers had spent on these children.
        value: what was reached.
    """

    children: int
    seconds: float
    work: float
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How a search got better.

    Attributes:
        name, searcher: whose, and what decided which architectures to try.
        best: each place at which the best metric so far got better, and the last place.
        rewards: the mean reward of the last `window` children.
        window: how many these are.
        gpus_per_child: as configured, or else as the children that finished had them; `None` before one has.
        unlike: of a run beside another one, what they differ in that a comparison of searchers needs equal.
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
    """Some successive batches that were learnt from; a mean over them and quantiles, each `None` where unknown.

    Attributes:
        seconds: since the first child was sampled, of the last of them.
        figures: the mean of each of the searcher's own figures, by its name.
        staleness, worst_staleness: mean and largest, in versions, over pushes and shards.
        pull, slow_pull, push, slow_push: median and 95th percentile of what the replicas waited, in seconds.
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
class Child:
    """A finished child in a plot: what it costs and what it reaches."""

    id: int
    cost: float
    metric: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """The finished children by one kind of cost; either all of them, or how many there are in each cell.

    Attributes:
        cost: `parameters`, `flops` or `seconds`.
        count: children whose cost is known.
        lowest, highest: the ranges of cost and metric.
        log: of cost and metric: whether the cells are even in its logarithm, as the plot is to be.
        children: every child, if they are few; else none.
        cells: column and row (of `COLUMNS` and `ROWS`, from the lowest) with the number of children, if they are many.
        front: the Pareto front: the children that no cheaper one equals, by cost.
    """

    cost: str
    count: int
    lowest: tuple[float, float]
    highest: tuple[float, float]
    log: tuple[bool, bool]
    children: tuple[Child, ...]
    cells: Mapping[tuple[int, int], int]
    front: tuple[Child, ...]


COLUMNS, ROWS = 44, 26
"""Cells of a `Cloud`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Troubles:
    """What failed.

    Attributes:
        attempts: failed attempts, by cause.
        retried: those of them after which the child was trained again.
        children: children that were given up, by cause.
        verdicts: ended attempts, by what they meant for their child.
        latest: the errors of the children that failed last: child, cause and the error's last line.
    """

    attempts: Mapping[str, int]
    retried: Mapping[str, int]
    children: Mapping[str, int]
    verdicts: Mapping[str, int]
    latest: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the workers did.

    Attributes:
        seconds: of all attempts, whatever came of them; of those that run, up to now.
        useful: of those that gave a metric.
        attempts: how many were begun.
        busy: seconds since the first child was sampled, and how many workers were busy on average up to there, slice by
            slice.
    """

    seconds: float
    useful: float
    attempts: int
    busy: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All that a report is made of.

    Attributes:
        status: where the run stands.
        config: its configuration.
        place: where everything is.
        now: Unix time at which this was read.
        distinct: different architectures among all children.
        best: the best children, each of another architecture, the best first.
        told: what a table knows of each of these; `None` where the task is no table.
        progress: of this run.
        other: of the run that it is compared with.
        learned: the batches, in slices by the order in which they were learnt from.
        clouds: one for each kind of cost that is known of a child.
        preferences: what was sampled at each decision.
        troubles, work: what failed; what the workers did.
        versions: of the programs that its driver ran, by their names, each set of them once, in order.
    """

    status: Status
    config: RunConfig
    place: str
    now: float
    distinct: int
    best: tuple[Best, ...]
    told: tuple[TableFacts, ...] | None
    progress: Progress
    other: Progress | None
    learned: tuple[Learned, ...]
    clouds: tuple[Cloud, ...]
    preferences: tuple[Preference, ...]
    troubles: Troubles
    work: Work
    versions: tuple[Mapping[str, str], ...]

    @property
    def gpus_per_child(self) -> float | None:
        """Those of this run."""
        return self.progress.gpus_per_child

    @property
    def gpu_seconds(self) -> float | None:
        """GPU time of all attempts, or `None` where it is not known how many GPUs a child has."""
        return None if self.gpus_per_child is None else self.gpus_per_child * self.work.seconds

    @property
    def utilisation(self) -> float | None:
        """Share of the workers' time in which they trained, at the number that the last start had."""
        available = self.status.workers * self.status.seconds
        return min(1.0, self.work.seconds / available) if available else None

    def version(self, program: str) -> str:
        """Return the versions of a program that the run used, in order of its starts."""
        return ", then ".join(dict.fromkeys(start.get(program, "unknown") for start in self.versions))
