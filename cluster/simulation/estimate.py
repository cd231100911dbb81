"""Figures of a simulated search, and estimates for more children. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.simulation.replicas import Wait
from cluster.simulation.simulator import SimulationResult, workers_of
from cluster.simulation.step_clock import StepLog
from cluster.simulation.steps_model import StepsModel

HOUR_S = 3600.0

NO_TIME = (
    "according to the table all children of this search take 0 s, so there is nothing to simulate: set their times, as"
    " in --child-seconds lognormal:3600:0.5"
)

MIN_STEADY_SHARE = 0.05
"""Share of a search before the start of its last child below which there is no steady state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staleness:
    """The staleness of pushes, in versions."""

    mean: float
    p50: float
    p95: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFigures:
    """The steps on shared weights of one simulated search.

    Attributes:
        steps: how many were made.
        per_second: steps a second, while any were made.
        max_per_second: what no number of workers exceeds, because of the shards.
        seconds: of a step, on average.
        staleness: versions by which a push is stale where no step waits for others: the steps of others meanwhile.
        computing_share: the share of it in which the worker computes.
        shards_share: the share of it in which the worker waits for the shards, their work on its calls included.
        pulled_bytes, pushed_bytes: of shared weights in a step.
        shard_calls_per_s, shard_bytes_per_s: of each shard of the shared weights, while steps were made.
        shard_busy: the share of that time in which such a shard works.
        policy_busy: likewise, of a shard with strengths.
    """

    steps: float
    per_second: float
    max_per_second: float
    seconds: float
    staleness: float
    computing_share: float
    shards_share: float
    pulled_bytes: float
    pushed_bytes: float
    shard_calls_per_s: float
    shard_bytes_per_s: float
    shard_busy: float
    policy_busy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The figures of one simulated search.

    Attributes:
        children: number of ended children.
        failed: number of failed children among them.
        seconds: duration of the search.
        steady_seconds: time until the last child was first started; afterwards there is too little work for all.
        worker_hours: leased hours of workers, busy or not.
        useful_hours: worker hours of training that contributed to an outcome.
        lost_hours: worker hours of training lost to preemptions and timeouts.
        steady_worker_hours: leased hours within `steady_seconds`.
        steady_busy_hours: worker hours of training, useful or lost, within `steady_seconds`.
        steady_useful_hours: useful worker hours within `steady_seconds`.
        gpu_hours: worker hours times the GPUs of a worker.
        attempts: number of attempts at the children.
        preemptions: number of preempted workers.
        preempted: number of children in training on them.
        staleness: staleness of the pushes, or `None` without pushes.
        pushes: number of pushes.
        waits: shares of the replicas' time, by what they waited for; their computation takes no time.
        shard_failures, replica_failures: number of failures.
        shards_outage_s: seconds in which at least one shard was unavailable.
        steps: the steps on shared weights; `None` if the search has none.
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
    shards_outage_s: float
    steps: StepFigures | None = None

    @property
    def children_per_hour(self) -> float:
        """Children per hour, over the whole search."""
        return self.children / self.seconds * HOUR_S

    @property
    def utilisation(self) -> float:
        """Share of the workers' time in which they train."""
        return (self.useful_hours + self.lost_hours) / self.worker_hours

    @property
    def is_steady(self) -> bool:
        """Whether the search had a steady state, and not only a start and an end."""
        return self.steady_seconds >= MIN_STEADY_SHARE * self.seconds

    @property
    def steady_utilisation(self) -> float:
        """Utilisation up to the start of the last child; falls back to `utilisation` for short searches."""
        return self.steady_busy_hours / self.steady_worker_hours if self.is_steady else self.utilisation

    @property
    def goodput(self) -> float:
        """Share of the workers' time that contributed to outcomes."""
        return self.useful_hours / self.worker_hours

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data for `json.dumps`."""
        return asdict(self) | {
            "children_per_hour": self.children_per_hour,
            "utilisation": self.utilisation,
            "steady_utilisation": self.steady_utilisation,
            "goodput": self.goodput,
        }


def step_figures(log: StepLog, model: StepsModel) -> StepFigures | None:
    """Compute the figures of steps on shared weights; return `None` if none was made."""
    if not log.steps:
        return None
    rate, seconds, traffic = log.steps / log.busy_s, log.worker_s / log.steps, model.traffic
    return StepFigures(
        steps=log.steps,
        per_second=rate,
        max_per_second=model.max_rate,
        seconds=seconds,
        staleness=log.worker_s / log.busy_s - 1,
        computing_share=model.compute_s / seconds,
        shards_share=1 - model.alone_s / seconds,
        pulled_bytes=traffic.pulled_bytes,
        pushed_bytes=traffic.pushed_bytes,
        shard_calls_per_s=rate * (traffic.pulls + traffic.pushes),
        shard_bytes_per_s=rate * (traffic.pulled_bytes + traffic.pushed_bytes) / model.shards,
        shard_busy=rate * model.weights_demand_s,
        policy_busy=rate * model.policy_demand_s,
    )


def compute_figures(config: RunConfig, result: SimulationResult, steps: StepsModel | None = None) -> Figures:
    """Compute the figures of a simulated search of this configuration.

    Args:
        config: the run.
        result: of its simulation.
        steps: how long its steps on shared weights took, if it has such.

    Raises:
        ValueError: the search took no time, so that rates and shares are undefined.
    """
    workers, worker_log, replicas, ended_at = workers_of(config), result.worker_log, result.replicas, result.ended_at
    if not ended_at:
        raise ValueError(NO_TIME)
    steady_s = worker_log.last_child_started_at
    lives_s = config.topology.replicas * ended_at

    def leased(until_s: float) -> float:
        return (workers * until_s - worker_log.outage_s(until_s)) / HOUR_S

    useful = sum(interval.useful_s for interval in worker_log.intervals) / HOUR_S
    gpus = config.topology.gpus_per_child
    assert gpus != AUTO, "a simulation has no GPUs whose memory could be divided"
    return Figures(
        children=result.children,
        failed=result.failed,
        seconds=ended_at,
        steady_seconds=steady_s,
        worker_hours=leased(ended_at),
        useful_hours=useful,
        lost_hours=worker_log.busy_s(ended_at) / HOUR_S - useful,
        steady_worker_hours=leased(steady_s),
        steady_busy_hours=worker_log.busy_s(steady_s) / HOUR_S,
        steady_useful_hours=worker_log.useful_s(steady_s) / HOUR_S,
        gpu_hours=leased(ended_at) * (1.0 if gpus is None else gpus),
        attempts=result.attempts,
        preemptions=worker_log.preemptions,
        preempted=worker_log.interrupted,
        staleness=summarize_staleness(replicas.staleness),
        pushes=len(replicas.staleness),
        waits={what: seconds / lives_s for what, seconds in replicas.waited_s.items()},
        shard_failures=result.shards.failures,
        replica_failures=replicas.failures,
        shards_outage_s=result.shards.outage_s,
        steps=step_figures(result.steps, steps) if result.steps and steps else None,
    )


def summarize_staleness(pushes: Sequence[float]) -> Staleness | None:
    """Summarise the staleness of pushes; return `None` without any.

    A quantile is the smallest value that so many pushes do not exceed.
    """
    if not pushes:
        return None
    ordered = sorted(pushes)

    def quantile(percent: int) -> float:
        return ordered[(percent * len(ordered) + 99) // 100 - 1]

    return Staleness(mean=sum(ordered) / len(ordered), p50=quantile(50), p95=quantile(95), max=ordered[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """An estimate for a search, extrapolated from a simulation of fewer children.

    Attributes:
        hours: duration.
        gpu_hours: leased GPU hours.
        failed_share: share of children that fail.
    """

    hours: float
    gpu_hours: float
    failed_share: float


def estimate(figures: Figures, children: int) -> Estimate:
    """Extrapolate a search to more children, at its pace up to the start of its last child."""
    hours, failed_share = figures.seconds / HOUR_S, figures.failed / figures.children
    if children == figures.children or not (figures.is_steady and figures.steady_useful_hours):
        factor = children / figures.children
        return Estimate(hours=hours * factor, gpu_hours=figures.gpu_hours * factor, failed_share=failed_share)
    extra = (children - figures.children) * figures.useful_hours / figures.children / figures.steady_useful_hours
    gpus = figures.gpu_hours / figures.worker_hours
    return Estimate(
        hours=hours + extra * figures.steady_seconds / HOUR_S,
        gpu_hours=figures.gpu_hours + extra * figures.steady_worker_hours * gpus,
        failed_share=failed_share,
    )
