"""What a run's metrics say at one moment, as data. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.monitoring.metrics.histogram import Histogram
from controller.catalogue import Figure

WINDOW = 100
"""Children that ended last, of which what is called recent is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the ledger says. Counts are of the whole run, all its starts together, and never go down.

    Attributes:
        readable: whether the ledger could be read just now; else the rest is as of the last time it could.
        started_at: Unix time of this start; `None` while it is being made.
        seconds: how long the run has run, pauses between a stop and a resume apart.
        beat_age_s: seconds since the last sign of life was recorded; one is sent every second.
        last_child_at: Unix time at which a child ended last, or the start's if that came later.
        children_max, replicas, workers: where the search ends; how many there are.
        sampled, running: children recorded; children in training now.
        finished: children that ended with a metric.
        failed: children that ended without, by cause.
        child_seconds: training time of the finished children.
        attempts: attempts begun.
        attempts_ended: by verdict.
        attempts_failed: by cause; preemptions are among them.
        attempt_seconds: time that workers spent on attempts that have ended, whatever came of them.
        recent_reward: mean reward of the last `WINDOW` children that ended and have one.
        best_reward: the highest so far.
        distinct_ratio: distinct architectures among the last `WINDOW` children that ended, as a fraction.
        depth: mean number of nodes of their architectures, joins (add, concat) apart.
        figures: the searcher's own numbers, as of the last batch learnt from: `baseline`, `entropy`, ...
        listed: the figures that the searcher lists, with their words and units.
        learned, pushed: batches learnt from; those of them with a push.
        queue_wait: seconds from when a child was sampled to its first attempt.
        epoch: seconds of an epoch, the mean of each child that trained one.
        gpu_memory: bytes of its GPU that a child had in use at most, of those that had one.
        pull, push: seconds that replicas waited.
        staleness: of pushes, in versions, shard by shard.
    """

    readable: bool
    started_at: float | None
    seconds: float
    beat_age_s: float | None
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

    @property
    def waiting(self) -> int:
        """Children that were sampled, have not ended and are not in training."""
        return max(0, self.sampled - self.finished - sum(self.failed.values()) - self.running)
