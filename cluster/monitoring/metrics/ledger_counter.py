"""Counts a run's ledger incrementally: an update reads only the rows that changed since the last one."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from child_trainer.outcome import Cause
from cluster.config.run_config import RunConfig
from cluster.monitoring.metrics.histogram import VERSIONS, Histogram
from cluster.monitoring.metrics.snapshot import WINDOW, MetricsSnapshot
from cluster.monitoring.metrics.supernet_counter import SupernetCounter
from cluster.search.records import Verdict
from cluster.storage.errors import LedgerError
from cluster.storage.ledger.queries.metrics import (
    Recent,
    changed_attempts,
    changed_batches,
    ended_children,
    recent_children,
)
from cluster.storage.ledger.queries.run import knows_changes, last_child, last_revision, run_values
from cluster.storage.ledger.reader import LedgerConnection

WAITS_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
EPOCHS_S = (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
CALLS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
GPU_BYTES = tuple(2**power for power in range(26, 38))
"""Bounds of the histograms, in seconds and bytes (64 MiB to 128 GiB)."""


READ_ERRORS = (LedgerError, ValueError, TypeError, KeyError)
"""What reading a part of the ledger raises: the file is damaged, or a row is one that this version does not know."""


class LedgerCounter:
    """Counts of a ledger so far. Not thread-safe.

    Args:
        config: configuration of the run that the ledger belongs to.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        # The last changes that were counted; `None` before the first.
        self._attempts_revision: int | None = None
        self._batches_revision: int | None = None
        self._completion = self._attempt = 0  # the last child and the last attempt that were counted
        self._open: set[int] = set()  # attempts that had not ended
        self._fused: set[int] = set()  # those of them that are made as one with another
        self._stopped = 0
        self._finished, self._failed = 0, Counter({str(cause): 0 for cause in Cause})
        self._child_seconds = self._attempt_seconds = 0.0
        self._best_reward: float | None = None
        self._ended = Counter({str(verdict): 0 for verdict in Verdict})
        self._attempts_failed = Counter({str(cause): 0 for cause in Cause})
        self._last_child_at = 0.0
        self._queue_wait, self._epoch = Histogram(WAITS_S), Histogram(EPOCHS_S)
        self._gpu_memory = Histogram(GPU_BYTES)
        self._begin_batches()
        self._supernet: SupernetCounter | None = None
        self._run: dict[str, Any] = {}
        self._sampled, self._recent = 0, Recent(None, None, None)

    def _begin_batches(self) -> None:
        self._figures: dict[str, float] = {}
        self._learned = self._pushed = 0
        self._learned_at = 0.0
        self._pull, self._push, self._staleness = Histogram(CALLS_S), Histogram(CALLS_S), Histogram(VERSIONS)

    def count(self, db: LedgerConnection, now: float) -> MetricsSnapshot:
        """Count the new rows, and return all counts.

        A part of the ledger that cannot be read keeps its counts, and the others are counted nevertheless.

        Args:
            db: the ledger, in one read transaction.
            now: Unix time.
        """
        # Each reads all of its rows before it counts one, so that none is counted twice.
        parts = (self._count_children, self._count_attempts, self._count_batches, self._read_run, self._read_recent)
        return self._snapshot(now, readable=all([_read(part, db) for part in parts]))

    def _count_children(self, db: LedgerConnection) -> None:
        for child in ended_children(db, self._completion):
            self._completion = child.completion
            self._last_child_at = max(self._last_child_at, child.ended_at)
            reward = child.reward
            if reward is not None:
                self._best_reward = reward if self._best_reward is None else max(reward, self._best_reward)
            if child.state == "finished":
                self._finished += 1
                self._stopped += child.stopped
                self._child_seconds += child.seconds
            else:
                self._failed[str(child.cause)] += 1
            if child.job is not None:
                self._supernet = self._supernet or SupernetCounter()
                self._supernet.observe(child)
            elif child.epochs:
                self._epoch.observe(child.seconds / child.epochs)
            if child.gpu_bytes is not None:
                self._gpu_memory.observe(child.gpu_bytes)

    def _count_attempts(self, db: LedgerConnection) -> None:
        since = self._attempts_revision
        if since is not None and not knows_changes(db, since):
            since = None  # of all attempts, those that were counted are passed over
        revision, rows = last_revision(db), changed_attempts(db, since)
        self._attempts_revision = revision
        for row, number, sampled_at, started_at, ended_at, verdict, cause, is_other in rows:
            if row > self._attempt:
                self._attempt = row
                self._open.add(row)
                if is_other:
                    self._fused.add(row)
                if number == 1 and not is_other:  # the others of a group begin with its first
                    self._queue_wait.observe(started_at - sampled_at)
            if ended_at is None or row not in self._open:  # a late result of an attempt that has already ended
                continue
            self._open.remove(row)
            self._fused.discard(row)
            self._ended[str(verdict)] += 1
            self._attempt_seconds += max(0.0, ended_at - started_at)
            if cause is not None:
                self._attempts_failed[cause] += 1

    def _count_batches(self, db: LedgerConnection) -> None:
        since = self._batches_revision
        if again := since is None or not knows_changes(db, since):
            since = None
        revision, rows = last_revision(db), changed_batches(db, since)
        self._batches_revision = revision
        if again:
            self._begin_batches()
        for learned_at, pushed, staleness, figures, pull_seconds, push_seconds in rows:
            self._learned += 1
            self._pushed += pushed
            for versions in staleness:
                self._staleness.observe(versions)
            if pull_seconds is not None:
                self._pull.observe(pull_seconds)
            if push_seconds is not None:
                self._push.observe(push_seconds)
            if figures and learned_at >= self._learned_at:
                self._learned_at, self._figures = learned_at, figures

    def _read_run(self, db: LedgerConnection) -> None:
        self._run, self._sampled = run_values(db), last_child(db)

    def _read_recent(self, db: LedgerConnection) -> None:
        self._recent = recent_children(db, WINDOW)

    def _snapshot(self, now: float, *, readable: bool) -> MetricsSnapshot:
        run, recent = self._run, self._recent
        started_at, heartbeat_at = run.get("started_at"), run.get("beat_at")
        return MetricsSnapshot(
            readable=readable,
            started_at=started_at,
            seconds=run.get("seconds_before", 0.0) + (max(0.0, now - started_at) if started_at else 0.0),
            heartbeat_age_s=None if heartbeat_at is None else max(0.0, now - heartbeat_at),
            last_child_at=None if started_at is None else max(started_at, self._last_child_at),
            children_max=self._config.max_children,
            replicas=self._config.topology.replicas,
            workers=run.get("workers", 0),
            sampled=self._sampled,
            running=len(self._open),
            fused=len(self._fused),
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
            supernet=self._supernet and self._supernet.counts(),
            stopped=self._stopped,
        )


def _read(part: Callable[[LedgerConnection], None], db: LedgerConnection) -> bool:
    """Count a part of the ledger; return whether it can be read."""
    try:
        part(db)
    except READ_ERRORS:  # perhaps temporary; neither the search nor the other parts depend on it
        return False
    return True
