"""What a simulated search says about a cluster: pure, from what its parts did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.simulation.replicas import Wait
from cluster.simulation.search import Course, workers_of

HOUR_S = 3600.0

NO_TIME = (
    "by the table all children of this search take 0 s, which leaves nothing to simulate: say how long they take, as in"
    " --child-seconds lognormal:3600:0.5"
)

LEAST_STEADY = 0.05
"""The part of a search that must lie before its last child's start to be told apart from its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staleness:
    """Of pushes, in versions."""

    mean: float
    p50: float
    p95: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Of one search.

    Attributes:
        children: how many have ended.
        failed: how many of them were given up.
        seconds: until the search was over.
        steady_seconds: until its last child was begun: from then on there is too little to do for all.
        worker_hours: for which workers were there, busy or not: what is leased. The next two are of that.
        useful_hours: that trained what became part of an outcome.
        lost_hours: that trained for nothing, as the worker was taken away or the child took too long.
        steady_worker_hours, steady_busy_hours: the same until the last child was begun; busy with either.
        steady_useful_hours: of these, the useful ones.
        gpu_hours: worker hours times the GPUs of a worker.
        attempts: at the children.
        preemptions: workers that were taken away.
        preempted: children that were in training there.
        staleness: of the pushes, or `None` if nothing was pushed.
        pushes: how many.
        waits: shares of the replicas' time, by what they waited for; what they compute takes no time.
        shard_failures, replica_failures: how many.
        shards_away_s: seconds in which a shard was away.
    """

    children: int
    failed: int
    seconds: float
    steady_seconds: float
    worker_hours: float
    useful_hours: float
    lost_hours: float
    steady_worker_hours: float
    steady_busy_hours: float
    steady_useful_hours: float
    gpu_hours: float
    attempts: int
    preemptions: int
    preempted: int
    staleness: Staleness | None
    pushes: int
    waits: dict[Wait, float]
    shard_failures: int
    replica_failures: int
    shards_away_s: float

    @property
    def children_per_hour(self) -> float:
        """Over the whole search."""
        return self.children / self.seconds * HOUR_S

    @property
    def utilisation(self) -> float:
        """The share of the workers' time in which they train."""
        return (self.useful_hours + self.lost_hours) / self.worker_hours

    @property
    def is_steady(self) -> bool:
        """Whether there was a time in which there was enough to do, and not only a start and an end."""
        return self.steady_seconds >= LEAST_STEADY * self.seconds

    @property
    def steady_utilisation(self) -> float:
        """The same until the last child was begun, where that is a time worth speaking of."""
        return self.steady_busy_hours / self.steady_worker_hours if self.is_steady else self.utilisation

    @property
    def goodput(self) -> float:
        """The share of the workers' time that became part of outcomes."""
        return self.useful_hours / self.worker_hours

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self) | {
            "children_per_hour": self.children_per_hour,
            "utilisation": self.utilisation,
            "steady_utilisation": self.steady_utilisation,
            "goodput": self.goodput,
        }


def figures(config: RunConfig, course: Course) -> Figures:
    """What the search of this configuration came to.

    Raises:
        ValueError: it has taken no time, so that there is no pace and no share of it.
    """
    workers, diary, replicas, until = workers_of(config), course.diary, course.replicas, course.ended_at
    if not until:
        raise ValueError(NO_TIME)
    steady = diary.first_begun_at
    lives_s = config.topology.replicas * until

    def leased(then: float) -> float:
        return (workers * then - diary.away_s(then)) / HOUR_S

    useful = sum(stint.useful_s for stint in diary.stints) / HOUR_S
    gpus = config.topology.gpus_per_child
    return Figures(
        children=course.children,
        failed=course.failed,
        seconds=until,
        steady_seconds=steady,
        worker_hours=leased(until),
        useful_hours=useful,
        lost_hours=diary.busy_s(until) / HOUR_S - useful,
        steady_worker_hours=leased(steady),
        steady_busy_hours=diary.busy_s(steady) / HOUR_S,
        steady_useful_hours=diary.useful_s(steady) / HOUR_S,
        gpu_hours=leased(until) * (1.0 if gpus is None else gpus),
        attempts=course.attempts,
        preemptions=diary.preemptions,
        preempted=diary.cut,
        staleness=staleness_of(replicas.staleness),
        pushes=len(replicas.staleness),
        waits={what: seconds / lives_s for what, seconds in replicas.waited_s.items()},
        shard_failures=course.shards.failures,
        replica_failures=replicas.failures,
        shards_away_s=course.shards.away_s,
    )


def staleness_of(pushes: Sequence[float]) -> Staleness | None:
    """How stale these pushes were, or `None` of none; quantiles are the smallest value that so many do not exceed."""
    if not pushes:
        return None
    ordered = sorted(pushes)

    def quantile(percent: int) -> float:
        return ordered[(percent * len(ordered) + 99) // 100 - 1]

    return Staleness(mean=sum(ordered) / len(ordered), p50=quantile(50), p95=quantile(95), max=ordered[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a search of many children would take, by a simulation of fewer.

    Attributes:
        hours: until it is over.
        gpu_hours: that are leased for it.
        given_up: the part of its children that is.
    """

    hours: float
    gpu_hours: float
    given_up: float


def estimate(found: Figures, children: int) -> Estimate:
    """The same search with more children: what is more goes at the pace of before its last child was begun."""
    hours, given_up = found.seconds / HOUR_S, found.failed / found.children
    if children == found.children or not (found.is_steady and found.steady_useful_hours):
        times = children / found.children
        return Estimate(hours=hours * times, gpu_hours=found.gpu_hours * times, given_up=given_up)
    more = (children - found.children) * found.useful_hours / found.children / found.steady_useful_hours
    gpus = found.gpu_hours / found.worker_hours
    return Estimate(
        hours=hours + more * found.steady_seconds / HOUR_S,
        gpu_hours=found.gpu_hours + more * found.steady_worker_hours * gpus,
        given_up=given_up,
    )
