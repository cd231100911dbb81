"""The values of a run's metrics at one moment, as data. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.monitoring.metrics.histogram import Histogram
from controller.catalogue import Figure

WINDOW = 100
"""The number of the latest ended children over which recent values are computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetCounts:
    """Values counted from the children that have a job on shared weights.

    Attributes:
        steps: steps of training of the children that finished.
        loss, accuracy: means of the training over the last `WINDOW` children that made steps.
        path_metric: mean validation accuracy, or perplexity, of the last `WINDOW` paths that were scored.
        traffic: pulls, pushes, their bytes and the seconds that they took, by the measurement's name.
        staleness: staleness of pushes in versions, one observation for each child that made steps, the mean of its own.
    """

    steps: int
    loss: float | None
    accuracy: float | None
    path_metric: float | None
    traffic: Mapping[str, float]
    staleness: Histogram


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsSnapshot:
    """Values counted from the ledger. Counts cover all starts of the run together, and never decrease.

    Attributes:
        readable: whether all of the ledger can be read now; what cannot has the values of the last successful read.
        started_at: Unix time of this start; `None` while the run is being set up.
        seconds: how long the run has run, without pauses between a stop and a resume.
        heartbeat_age_s: seconds since the last recorded heartbeat; one is sent every second.
        last_child_at: Unix time at which the last child ended, or of the start if that is later.
        children_max: number of children after which the search ends.
        replicas, workers: the number of each.
        sampled, running: children recorded; children in training now.
        finished: children that ended with a metric.
        failed: children that ended without a metric, by cause.
        child_seconds: training time of the finished children.
        attempts: attempts started.
        attempts_ended: attempts that ended, by verdict.
        attempts_failed: attempts that failed, by cause; includes preemptions.
        attempt_seconds: time that workers spent on attempts that have ended, with any verdict.
        recent_reward: mean reward of the last `WINDOW` children that ended and have a reward.
        best_reward: the highest reward so far.
        distinct_ratio: distinct architectures among the last `WINDOW` children that ended, as a fraction.
        depth: mean number of nodes of their architectures, without joins (add, concat).
        figures: the searcher's own numbers after the last learned batch: `baseline`, `entropy`, ...
        listed: the figures that the searcher lists, with their words and units.
        learned: batches that the searcher learned from.
        pushed: those of them that had a push, with or without gradients.
        queue_wait: seconds between a child's sampling and its first attempt.
        epoch: mean seconds per epoch, one observation for each child that trained an epoch.
        gpu_memory: peak bytes of GPU memory, one observation for each child that used a GPU.
        pull, push: seconds that replicas waited for a pull, and for a push.
        staleness: staleness of pushes with gradients in versions, one observation for each shard.
        supernet: what concerns the weights that children share; `None` before a child with such a job has ended.
        stopped: finished children that were stopped early.
        fused: children in training now whose worker trains another one with them as one network.
    """

    readable: bool
    started_at: float | None
    seconds: float
    heartbeat_age_s: float | None
    last_child_at: float | None
    children_max: int
    replicas: int
    workers: int
    sampled: int
    running: int
    finished: int
    failed: Mapping[str, int]
    child_seconds: float
    attempts: int
    attempts_ended: Mapping[str, int]
    attempts_failed: Mapping[str, int]
    attempt_seconds: float
    recent_reward: float | None
    best_reward: float | None
    distinct_ratio: float | None
    depth: float | None
    figures: Mapping[str, float]
    listed: tuple[Figure, ...]
    learned: int
    pushed: int
    queue_wait: Histogram
    epoch: Histogram
    gpu_memory: Histogram
    pull: Histogram
    push: Histogram
    staleness: Histogram
    supernet: SupernetCounts | None = None
    stopped: int = 0
    fused: int = 0

    @property
    def busy(self) -> int:
        """Workers that are training a child."""
        return min(self.running - self.fused, self.workers)

    @property
    def waiting(self) -> int:
        """Children that were sampled, have not ended and are not being trained."""
        return max(0, self.sampled - self.finished - sum(self.failed.values()) - self.running)
