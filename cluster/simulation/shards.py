"""How long the shards take, and when one of them is away: every pull and push needs all of them.

What they hold and answer is the real store's to say (`ps/`).
"""

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Literal

from cluster.simulation.conditions import PULL_SHARE, Conditions


@dataclass(slots=True)
class ShardLog:
    """How often a shard failed, and the seconds in which at least one was away."""

    failures: int = 0
    away_s: float = 0.0


@dataclass(slots=True)
class Turn:
    """One in the line of all requests; it is carried out at `done_at`, if no shard fails before that."""

    done_at: float


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
        self._line = deque[Turn]()  # those that were not carried out when the last one came
        self._back_at, self._fails_at = 0.0, math.inf
        self.log = ShardLog()
        self._plan()

    def close(self, ended_at: float) -> None:
        """The search is over: what a shard is away for later does not count."""
        self.log.away_s -= max(0.0, self._back_at - ended_at)

    def answer(self) -> Turn:
        """A request comes now, to be carried out first come, first served."""
        return self._come(self._share_s * PULL_SHARE)

    def keep(self) -> Turn:
        """What a push has changed is to be made durable from now on."""
        return self._come(self._share_s * (1 - PULL_SHARE))

    def wait(self, turn: Turn) -> tuple[Literal["shards", "failed shards"], float] | None:
        """For what one whose turn this is waits, and how many seconds until it asks again; `None` once it was had."""
        now = self._loop.time()
        if turn.done_at <= now:
            return None
        if self._back_at > now:
            return "failed shards", self._back_at - now
        # The next failure is known here, so that what is waited for after it can be told apart.
        until = min(turn.done_at, self._fails_at) if self._fails_at > now else turn.done_at
        return "shards", until - now

    def _come(self, seconds: float) -> Turn:
        now = self._loop.time()
        while self._line and self._line[0].done_at <= now:
            self._line.popleft()
        free_at = self._line[-1].done_at if self._line else now
        self._line.append(Turn(max(now, free_at, self._back_at) + seconds))
        return self._line[-1]

    def _plan(self) -> None:
        if self._mtbf_s:
            seconds = self._rng.expovariate(1 / self._mtbf_s)
            self._fails_at = self._loop.time() + seconds
            self._loop.call_at(self._fails_at, self._fail)

    def _fail(self) -> None:
        now = self._loop.time()
        back_at = max(now + self._recovery_s, self._back_at)
        longer_s = back_at - max(now, self._back_at)
        for turn in self._line:
            if turn.done_at > now:
                turn.done_at += longer_s  # nothing is done of the line meanwhile
        self.log.failures += 1
        self.log.away_s += longer_s
        self._back_at = back_at
        self._plan()
