"""The replicas' loops on a virtual clock: what they wait for takes time there, and they may die and start again.

A loop is the real one (`cluster/replica.py`). What it computes takes no time; what it asks of others does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, TypeVar

from child_trainer.outcome import Outcome
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.replica import Replica, replica_loop
from cluster.simulation.shards import SimulatedShards, Turn
from ps.store import Ack

T = TypeVar("T")

PAUSE_S = 0.5
"""Virtual seconds after which a replica that is ahead of the others asks again whether it may go on."""

MOST_PAUSES = 1000
"""Pauses without a step of the shards, after which a replica asks all the same."""

Wait = Literal["children", "shards", "failed shards", "ledger", "other replicas", "own failures"]
"""What a replica waits for."""

WAITS: tuple[Wait, ...] = ("children", "shards", "failed shards", "ledger", "other replicas", "own failures")


@dataclass(slots=True)
class Log:
    """What the replicas did.

    Attributes:
        waited_s: seconds of one replica, by what it waited for.
        failures: how often one died.
        staleness: of each push, in versions, the mean over the shards.
        ended_at: when the last of them came to its end.
    """

    waited_s: dict[Wait, float] = field(default_factory=lambda: dict.fromkeys(WAITS, 0.0))
    failures: int = 0
    staleness: list[float] = field(default_factory=list)
    ended_at: float = 0.0


class PooledEvaluator:
    """A replica's view of the pool; see `cluster.search.evaluator.Evaluator`.

    Args:
        evaluate: the pool's.
        delay: seconds that a child's way to the pool takes now.
        back_s: seconds of the way back.
    """

    def __init__(
        self, evaluate: Callable[[Assignment], Awaitable[Outcome]], delay: Callable[[], float], back_s: float
    ) -> None:
        self._evaluate, self._delay, self._back_s = evaluate, delay, back_s
        self._ready: list[tuple[int, Outcome]] = []
        self._out: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.waits = False
        """The last look was in vain."""

    def submit(self, assignment: Assignment) -> None:
        """Hand the child to the pool."""
        task = asyncio.create_task(self._have_trained(assignment, self._delay()))
        self._out.add(task)  # a task that nobody holds may be collected before it is done
        task.add_done_callback(self._out.discard)

    def completed(self) -> list[tuple[int, Outcome]]:
        """The children that have ended by now; does not wait."""
        found, self._ready = self._ready, []
        self.waits = not found
        return found

    async def news(self) -> None:
        """Returns when a child has ended."""
        self._news.clear()
        if not self._ready:
            await self._news.wait()

    async def _have_trained(self, assignment: Assignment, delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        outcome = await self._evaluate(assignment)
        if self._back_s:
            await asyncio.sleep(self._back_s)
        self._ready.append((assignment.child_id, outcome))
        self._news.set()


class _Asked:
    """The ledger as its callers see it over a network: every call takes the time that `spend` is told."""

    def __init__(self, ledger: Any, spend: Callable[[], None]) -> None:
        self._ledger, self._spend = ledger, spend

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._ledger, method)

        def asked(*args: Any, **kwargs: Any) -> Any:
            self._spend()
            return call(*args, **kwargs)

        return asked


class Steps:
    """Told of every step of the shards, for the replicas that wait until others have caught up."""

    def __init__(self) -> None:
        self._next = asyncio.get_running_loop().create_future()

    def tell(self) -> None:
        """The shards have taken a push, or know that a replica has come to its end."""
        self._next.set_result(None)
        self._next = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Returns where one who asks every `PAUSE_S` whether it may go on would ask after the next step."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.wait({self._next}, timeout=MOST_PAUSES * PAUSE_S)
        await asyncio.sleep(PAUSE_S - (loop.time() - begun) % PAUSE_S)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a replica is made of.

    Attributes:
        make: a replica with a number, an evaluator, and a ledger.
        evaluate: the pool's.
        ledger: the run's.
        shards: how long they take, and when they are away.
        steps: of the shards.
        delay_s: seconds of a message.
        mtbf_s: mean seconds between two deaths of one replica, or `None` for never.
        recovery_s: seconds until it goes on.
    """

    make: Callable[[int, Evaluator, Any], Replica]
    evaluate: Callable[[Assignment], Awaitable[Outcome]]
    ledger: Any
    shards: SimulatedShards
    steps: Steps
    delay_s: float
    mtbf_s: float | None
    recovery_s: float


class ReplicaLife:
    """One replica from its start to the end of the search, however often it dies in between.

    Args:
        index: which.
        parts: what it is made of.
        log: of all replicas.
        rng: says when it dies.
    """

    def __init__(self, index: int, parts: Parts, log: Log, rng: random.Random) -> None:
        self._index, self._parts, self._log, self._rng = index, parts, log, rng
        self._loop = asyncio.get_running_loop()
        self._owed_s = 0.0  # that calls of the ledger took since the loop was last waited for
        self._next: tuple[Wait, float] | None = None
        self._paused = False

    async def run(self) -> None:
        """Returns when it has come to its end."""
        while True:
            life = asyncio.create_task(self._live())
            mtbf_s = self._parts.mtbf_s
            death = self._loop.call_later(self._rng.expovariate(1 / mtbf_s), life.cancel) if mtbf_s else None
            try:
                await life
                break
            except asyncio.CancelledError:
                if not life.cancelled() or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                self._log.failures += 1
                await self._sleep("own failures", self._parts.recovery_s)
            finally:
                if death:
                    death.cancel()
                life.cancel()
        self._parts.steps.tell()
        self._log.ended_at = max(self._log.ended_at, self._loop.time())

    async def _live(self) -> None:
        parts = self._parts
        self._owed_s, self._next, self._paused = 0.0, None, False
        evaluator = PooledEvaluator(parts.evaluate, lambda: self._owed_s + parts.delay_s, parts.delay_s)
        ledger = _Asked(parts.ledger, self._owe) if parts.delay_s else parts.ledger
        replica = parts.make(self._index, evaluator, ledger)
        replica = replace(replica, pause=self._pause, clock=self._loop.time, call=self._call)
        for _ in replica_loop(replica):
            await self._pay()
            if wait := self._asked_for():
                await self._sleep(*wait)
            elif self._paused:
                self._paused = False
                await self._timed("other replicas", parts.steps.wait())
            elif evaluator.waits:
                await self._timed("children", evaluator.news())
        await self._pay()

    def _asked_for(self) -> tuple[Wait, float] | None:
        """What the loop has asked to wait for, once."""
        wait, self._next = self._next, None
        return wait

    def _owe(self) -> None:
        self._owed_s += 2 * self._parts.delay_s

    async def _pay(self) -> None:
        if self._owed_s:
            owed_s, self._owed_s = self._owed_s, 0.0
            await self._sleep("ledger", owed_s)

    def _pause(self) -> None:
        self._paused = True

    def _call(self, request: Callable[[], T]) -> Generator[None, None, T]:
        """See `cluster.search.replica.Calls`: there, through the shards' line, and back."""
        shards, delay_s = self._parts.shards, self._parts.delay_s
        yield from self._waiting("shards", delay_s)
        yield from self._in_line(shards.answer())
        answer = request()
        if isinstance(answer, Ack):
            if not answer.duplicate:  # else its replica died before it heard
                self._log.staleness.append(fmean(answer.staleness))
            self._parts.steps.tell()
            yield from self._in_line(shards.keep())
        yield from self._waiting("shards", delay_s)
        return answer

    def _in_line(self, turn: Turn) -> Generator[None, None, None]:
        while wait := self._parts.shards.wait(turn):
            yield from self._waiting(*wait)

    def _waiting(self, what: Wait, seconds: float) -> Generator[None, None, None]:
        if seconds > 0 or self._owed_s:
            self._next = (what, seconds)
            yield

    async def _sleep(self, what: Wait, seconds: float) -> None:
        await self._timed(what, asyncio.sleep(seconds))

    async def _timed(self, what: Wait, work: Awaitable[None]) -> None:
        begun = self._loop.time()
        try:
            await work
        finally:
            self._log.waited_s[what] += self._loop.time() - begun
