"""Ledgers with a history that is known to the last second, for metrics to be counted from."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from child_trainer.outcome import Cause, Outcome
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.monitoring.metrics.histogram import Histogram
from cluster.monitoring.metrics.snapshot import MetricsSnapshot, SupernetCounts
from cluster.monitoring.metrics.supernet_counter import TRAFFIC
from cluster.search.records import BatchResult, Verdict
from cluster.storage.ledger.ledger import Ledger
from controller.catalogue import SEARCHERS
from controller.searcher import Proposal
from controller.spaces.convolutional import ConvolutionalSpace
from ps.status import ShardStatus

SPACE = ConvolutionalSpace(initial_depth=1)
CONFIG = RunConfig(max_children=20, topology=Topology(replicas=3, shards=2, children=4))


class History:
    """A ledger whose clock is given."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.path = path
        self.ledger = Ledger(path, 0, CONFIG.max_children, lambda: self.now)

    def sample(self, tokens: Sequence[tuple[int, ...]], replica: int = 0, batch: int = 1) -> None:
        self.ledger.admit(replica, batch, [Proposal(tokens=t, architecture=SPACE.decode(t)) for t in tokens], (0, 0))

    def start(self, child: int, key: str) -> None:
        self.ledger.start(child, "worker", key)

    def give(
        self,
        child: int,
        key: str,
        reward: float,
        *,
        epochs: int = 4,
        seconds: float = 8.0,
        gpu_bytes: int | None = None,
    ) -> None:
        outcome = Outcome(curve=(0.5,) * epochs, seconds=seconds, parameters=1, flops=1, seed=1, gpu_bytes=gpu_bytes)
        self.ledger.end_attempt(key, outcome, Verdict.OUTCOME)
        self.ledger.finish(child, outcome, reward)

    def fail(self, key: str, cause: Cause, verdict: Verdict) -> Outcome:
        outcome = Outcome.failed(cause, "why", seed=1)
        self.ledger.end_attempt(key, outcome, verdict)
        return outcome

    def learn(self, batch: int, staleness: tuple[int, ...] | None, **figures: float) -> None:
        result = BatchResult(staleness=staleness, figures=figures, pull_seconds=0.02, push_seconds=0.2)
        self.ledger.learned(0, batch, result)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as db:
            yield db


def shard_status(index: int, **values: float) -> ShardStatus:
    counts = {"version": 7, "incarnation": 1, "pushes": 7, "dropped": 0, "duplicates": 1, "rejected": 0}
    counts |= {"elements": 100, "clients": 3, "writes": 8, "snapshot_bytes": 4096}
    return ShardStatus(index=index, initialized=True, **(counts | values))  # pyright: ignore[reportArgumentType]


def full_snapshot() -> MetricsSnapshot:
    """Return a snapshot in which every value is known."""
    waited = Histogram((1.0, 10.0))
    waited.observe(2.0)
    causes = {str(cause): 1 for cause in Cause}
    return MetricsSnapshot(
        readable=True, started_at=1000.0, seconds=60.0, heartbeat_age_s=0.5, last_child_at=1050.0, children_max=12_800,
        replicas=100, workers=800, sampled=900, running=700, finished=94, failed=causes, child_seconds=500.0,
        attempts=800, attempts_ended={str(verdict): 2 for verdict in Verdict}, attempts_failed=causes,
        attempt_seconds=600.0, recent_reward=0.5, best_reward=0.9, distinct_ratio=0.8, depth=6.0,
        listed=SEARCHERS["reinforce"].figures,
        figures={"baseline": 0.4, "entropy": 9.0, "importance_weight": 0.9, "importance_clipped": 0.1},
        learned=10, pushed=9,
        queue_wait=waited, epoch=waited, gpu_memory=waited, pull=waited, push=waited, staleness=waited,
    )  # fmt: skip


def shared_snapshot() -> MetricsSnapshot:
    """Return a snapshot of a run whose children share weights, in which every value is known."""
    snapshot = full_snapshot()
    counts = SupernetCounts(
        steps=500,
        loss=1.5,
        accuracy=0.5,
        path_metric=0.4,
        traffic=dict.fromkeys(TRAFFIC, 10.0),
        staleness=snapshot.staleness,
    )
    return replace(snapshot, supernet=counts)
