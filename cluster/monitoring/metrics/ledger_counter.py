"""Counts a run's ledger incrementally: an update reads only the rows that changed since the last one."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from child_trainer.outcome import Cause
from cluster.config.run_config import RunConfig
from cluster.monitoring.metrics.histogram import Histogram
from cluster.monitoring.metrics.snapshot import WINDOW, MetricsSnapshot
from cluster.search.records import Verdict
from cluster.storage.ledger.queries.metrics import (
    AttemptTimes,
    EndedChild,
    LearnedBatch,
    Recent,
    changed_attempts,
    changed_batches,
    ended_children,
    recent_children,
)
from cluster.storage.ledger.queries.run import last_child, last_revision, run_values
from cluster.storage.ledger.reader import LedgerConnection

WAITS_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
EPOCHS_S = (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
CALLS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
VERSIONS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
GPU_BYTES = tuple(2**power for power in range(26, 38))
"""Bounds of the histograms, in seconds, versions and bytes (64 MiB to 128 GiB)."""


class LedgerCounter:
    """Counts of a ledger so far. Not thread-safe.

    Args:
        config: configuration of the run that the ledger belongs to.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._revision: int | None = None  # of the last change that was counted; `None` before the first
        self._completion = self._attempt = 0  # the last child and the last attempt that were counted
        self._open: set[int] = set()  # attempts that had not ended
        self._finished, self._failed = 0, Counter({str(cause): 0 for cause in Cause})
        self._child_seconds = self._attempt_seconds = 0.0
        self._best_reward: float | None = None
        self._ended = Counter({str(verdict): 0 for verdict in Verdict})
        self._attempts_failed = Counter({str(cause): 0 for cause in Cause})
        self._figures: dict[str, float] = {}
        self._learned = self._pushed = 0
        self._last_child_at = self._learned_at = 0.0
        self._queue_wait, self._epoch = Histogram(WAITS_S), Histogram(EPOCHS_S)
        self._gpu_memory = Histogram(GPU_BYTES)
        self._pull, self._push, self._staleness = Histogram(CALLS_S), Histogram(CALLS_S), Histogram(VERSIONS)

    def count(self, db: LedgerConnection, now: float) -> MetricsSnapshot:
        """Count the new rows, and return all counts.

        Args:
            db: the ledger, in one read transaction.
            now: Unix time.

        Raises:
            LedgerError: the ledger cannot be read; this call counted nothing.
        """
        revision = last_revision(db)
        children = ended_children(db, self._completion)
        attempts = changed_attempts(db, self._revision)
        batches = changed_batches(db, self._revision)
        run, sampled, recent = run_values(db), last_child(db), recent_children(db, WINDOW)
        # All rows are read: nothing below can fail half-way, so no row is counted twice.
        self._count_children(children)
        self._count_attempts(attempts)
        self._count_batches(batches)
        self._revision = revision
        return self._snapshot(run, sampled, recent, now)

    def _count_children(self, rows: Iterable[EndedChild]) -> None:
        for completion, state, cause, reward, seconds, epochs, gpu_bytes, ended_at in rows:
            self._completion = completion
            self._last_child_at = max(self._last_child_at, ended_at)
            if reward is not None:
                self._best_reward = reward if self._best_reward is None else max(reward, self._best_reward)
            if state == "finished":
                self._finished += 1
                self._child_seconds += seconds
            else:
                self._failed[str(cause)] += 1
            if epochs:
                self._epoch.observe(seconds / epochs)
            if gpu_bytes is not None:
                self._gpu_memory.observe(gpu_bytes)

    def _count_attempts(self, rows: Iterable[AttemptTimes]) -> None:
        for row, number, sampled_at, started_at, ended_at, verdict, cause in rows:
            if row > self._attempt:
                self._attempt = row
                self._open.add(row)
                if number == 1:
                    self._queue_wait.observe(started_at - sampled_at)
            if ended_at is None or row not in self._open:  # a late result of an attempt that has already ended
                continue
            self._open.remove(row)
            self._ended[str(verdict)] += 1
            self._attempt_seconds += max(0.0, ended_at - started_at)
            if cause is not None:
                self._attempts_failed[cause] += 1

    def _count_batches(self, rows: Iterable[LearnedBatch]) -> None:
        for learned_at, pushed, staleness, figures, pull_seconds, push_seconds in rows:
            self._learned += 1
            self._pushed += pushed
            for versions in staleness:
                self._staleness.observe(versions)
            if pull_seconds is not None:
                self._pull.observe(pull_seconds)
            if push_seconds is not None:
                self._push.observe(push_seconds)
            if learned_at >= self._learned_at:
                self._learned_at, self._figures = learned_at, figures

    def _snapshot(self, run: dict[str, Any], sampled: int, recent: Recent, now: float) -> MetricsSnapshot:
        started_at, heartbeat_at = run.get("started_at"), run.get("beat_at")
        return MetricsSnapshot(
            readable=True,
            started_at=started_at,
            seconds=run.get("seconds_before", 0.0) + (max(0.0, now - started_at) if started_at else 0.0),
            heartbeat_age_s=None if heartbeat_at is None else max(0.0, now - heartbeat_at),
            last_child_at=None if started_at is None else max(started_at, self._last_child_at),
            children_max=self._config.max_children,
            replicas=self._config.topology.replicas,
            workers=run.get("workers", 0),
            sampled=sampled,
            running=len(self._open),
            finished=self._finished,
            failed=dict(self._failed),
            child_seconds=self._child_seconds,
            attempts=self._attempt,
            attempts_ended=dict(self._ended),
            attempts_failed=dict(self._attempts_failed),
            attempt_seconds=self._attempt_seconds,
            recent_reward=recent.reward,
            best_reward=self._best_reward,
            distinct_ratio=recent.distinct_ratio,
            depth=recent.nodes,
            figures=dict(self._figures),
            listed=self._config.searcher_entry.figures,
            learned=self._learned,
            pushed=self._pushed,
            queue_wait=self._queue_wait.copy(),
            epoch=self._epoch.copy(),
            gpu_memory=self._gpu_memory.copy(),
            pull=self._pull.copy(),
            push=self._push.copy(),
            staleness=self._staleness.copy(),
        )
