"""The simulated shards: their times and outages. Every pull and push needs all of them.

The real store (`ps/`) holds the values and computes the replies.
"""

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Literal

from cluster.simulation.cluster_model import PULL_SHARE, ClusterModel


@dataclass(slots=True)
class ShardLog:
    """The number of failures, and the seconds in which at least one shard was unavailable."""

    failures: int = 0
    outage_s: float = 0.0


@dataclass(slots=True)
class QueuedRequest:
    """A request in the shards' queue; it is done at `done_at`, unless a shard fails before."""

    done_at: float


class SimulatedShards:
    """All shards together, which share each request evenly. Requires a running `VirtualLoop`.

    Args:
        shards: number of shards.
        model: their times and rates of failure.
        seed: seed of the failures.
    """

    def __init__(self, shards: int, model: ClusterModel, seed: int) -> None:
        self._share_s = model.push_s / shards
        self._recovery_s = model.shard_recovery_s
        self._mtbf_s = model.shard_mtbf_s and model.shard_mtbf_s / shards
        self._rng = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._queue = deque[QueuedRequest]()  # requests that were not done when the latest one arrived
        self._back_at, self._fails_at = 0.0, math.inf
        self.log = ShardLog()
        self._schedule_failure()

    def close(self, ended_at: float) -> None:
        """End the record at the end of the search: a later part of an outage does not count."""
        self.log.outage_s -= max(0.0, self._back_at - ended_at)

    def enqueue_request(self) -> QueuedRequest:
        """Enqueue a request now, first come, first served."""
        return self._enqueue(self._share_s * PULL_SHARE)

    def enqueue_write(self) -> QueuedRequest:
        """Enqueue the durable write of a push now."""
        return self._enqueue(self._share_s * (1 - PULL_SHARE))

    def wait(self, request: QueuedRequest) -> tuple[Literal["shards", "failed shards"], float] | None:
        """Return the reason to wait for a request and the seconds until the next poll; `None` once it is done."""
        now = self._loop.time()
        if request.done_at <= now:
            return None
        if self._back_at > now:
            return "failed shards", self._back_at - now
        # Poll at the next failure, so that the wait after it counts as one for failed shards.
        until = min(request.done_at, self._fails_at) if self._fails_at > now else request.done_at
        return "shards", until - now

    def _enqueue(self, seconds: float) -> QueuedRequest:
        now = self._loop.time()
        while self._queue and self._queue[0].done_at <= now:
            self._queue.popleft()
        free_at = self._queue[-1].done_at if self._queue else now
        self._queue.append(QueuedRequest(max(now, free_at, self._back_at) + seconds))
        return self._queue[-1]

    def _schedule_failure(self) -> None:
        if self._mtbf_s:
            seconds = self._rng.expovariate(1 / self._mtbf_s)
            self._fails_at = self._loop.time() + seconds
            self._loop.call_at(self._fails_at, self._fail)

    def _fail(self) -> None:
        now = self._loop.time()
        back_at = max(now + self._recovery_s, self._back_at)
        longer_s = back_at - max(now, self._back_at)
        for request in self._queue:
            if request.done_at > now:
                request.done_at += longer_s  # the whole queue waits during the outage
        self.log.failures += 1
        self.log.outage_s += longer_s
        self._back_at = back_at
        self._schedule_failure()
