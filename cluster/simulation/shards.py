"""How long the shards take, and when one of them is away: every pull and push needs all of them.

What they hold and answer is the real store's to say (`ps/`).
"""

import asyncio
import random
from dataclasses import dataclass

from cluster.simulation.conditions import PULL_SHARE, Conditions


@dataclass(slots=True)
class ShardLog:
    """How often a shard failed, and the seconds in which at least one was away."""

    failures: int = 0
    away_s: float = 0.0


class SimulatedShards:
    """All of them together, as they share each request evenly. To be made on the loop whose time they live by.

    Args:
        shards: how many.
        conditions: what a request takes of them, and how often they fail.
        seed: of when they fail.
    """

    def __init__(self, shards: int, conditions: Conditions, seed: int) -> None:
        self._share_s = conditions.push_s / shards
        self._recovery_s = conditions.shard_recovery_s
        self._mtbf_s = conditions.shard_mtbf_s and conditions.shard_mtbf_s / shards
        self._rng = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._back_at = self._free_at = 0.0
        self.log = ShardLog()
        self._plan()

    def close(self, ended_at: float) -> None:
        """The search is over: what a shard is away for later does not count."""
        self.log.away_s -= max(0.0, self._back_at - ended_at)

    def away_s(self) -> float:
        """Seconds until all are there; 0 if they are."""
        return max(0.0, self._back_at - self._loop.time())

    def answer_s(self) -> float:
        """Seconds until a request that comes now is carried out: first come, first served."""
        return self._line(self._share_s * PULL_SHARE)

    def keep_s(self) -> float:
        """Seconds until what a push has changed is durable."""
        return self._line(self._share_s * (1 - PULL_SHARE))

    def _line(self, seconds: float) -> float:
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + seconds
        return self._free_at - now

    def _plan(self) -> None:
        if self._mtbf_s:
            self._loop.call_later(self._rng.expovariate(1 / self._mtbf_s), self._fail)

    def _fail(self) -> None:
        back_at = self._loop.time() + self._recovery_s
        self.log.failures += 1
        self.log.away_s += back_at - max(self._back_at, self._loop.time())
        self._back_at = max(back_at, self._back_at)
        self._plan()
