"""The replicas' loops on a virtual clock: waiting takes virtual time, and replicas may die and restart.

The loop is the real one (`cluster/search/replica.py`). Its computation takes no time; its requests do.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, TypeVar

from child_trainer.outcome import Outcome
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.replica import Replica
from cluster.search.replica_loop import replica_loop
from cluster.simulation.shards import QueuedRequest, SimulatedShards
from ps.store import Ack

T = TypeVar("T")

POLL_INTERVAL_S = 0.5
"""Virtual seconds between two polls of a replica that waits for slower replicas."""

MAX_SKIPPED_POLLS = 1000
"""Polls that a waiting replica skips at most while the shards make no step."""

Wait = Literal["children", "shards", "failed shards", "ledger", "other replicas", "own failures"]
"""Reasons for which a replica waits."""

WAITS: tuple[Wait, ...] = ("children", "shards", "failed shards", "ledger", "other replicas", "own failures")


@dataclass(slots=True)
class ReplicaLog:
    """The record of all replicas.

    Attributes:
        waited_s: seconds of waiting, summed over replicas, by reason.
        failures: number of failures.
        staleness: staleness of each push in versions, the mean over the shards.
        ended_at: when the last replica ended.
    """

    waited_s: dict[Wait, float] = field(default_factory=lambda: dict.fromkeys(WAITS, 0.0))
    failures: int = 0
    staleness: list[float] = field(default_factory=list)
    ended_at: float = 0.0


class PooledEvaluator:
    """A replica's evaluator on top of the pool; see `cluster.search.evaluator.Evaluator`.

    Args:
        evaluate: the pool's method.
        delay: returns the current seconds of a message to the pool.
        back_s: seconds of a message back.
    """

    def __init__(
        self, evaluate: Callable[[Assignment], Awaitable[Outcome]], delay: Callable[[], float], back_s: float
    ) -> None:
        self._evaluate, self._delay, self._back_s = evaluate, delay, back_s
        self._ready: list[tuple[int, Outcome]] = []
        self._out: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.waits = False
        """Whether the last call of `completed` returned nothing."""

    def submit(self, *assignments: Assignment) -> None:
        """Hand the children to the pool."""
        for assignment in assignments:
            task = asyncio.create_task(self._have_trained(assignment, self._delay()))
            self._out.add(task)  # without a reference a task may be garbage-collected before it is done
            task.add_done_callback(self._out.discard)

    def completed(self) -> list[tuple[int, Outcome]]:
        """Return the children that have ended by now, without waiting."""
        ended, self._ready = self._ready, []
        self.waits = not ended
        return ended

    async def news(self) -> None:
        """Wait until a child has ended."""
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


class _DelayedLedger:
    """The ledger behind a network: each message reports its delay through `spend`.

    Some of a batch's calls need no message of their own; see `cluster.runners.on_ray.shared_messages.RemoteLedger`.
    """

    def __init__(self, ledger: Any, spend: Callable[[], None]) -> None:
        self._ledger, self._spend = ledger, spend
        self._knows_completed = False
        self._admitted: int | None = None
        self._learned: int | None = None

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._ledger, method)

        def delayed(*args: Any, **kwargs: Any) -> Any:
            if not self._needs_no_message(method, args):
                self._spend()
            return call(*args, **kwargs)

        return delayed

    def _needs_no_message(self, method: str, args: tuple[Any, ...]) -> bool:
        """Return whether the call goes with the next one, or the replica knows its answer."""
        if method == "learned":
            self._learned = args[1]
            return True
        if method == "turn":
            known, self._admitted = self._admitted == self._learned is not None, None
            return known and args[1] in (None, self._learned)
        if method == "admit":
            self._admitted = args[1]
        known = self._knows_completed and method == "completed"
        if method in ("finish_all", "completed"):
            self._knows_completed = method == "finish_all"
        return known


class ShardSteps:
    """Signals every step of the shards to the replicas that wait for slower ones."""

    def __init__(self) -> None:
        self._next = asyncio.get_running_loop().create_future()

    def notify(self) -> None:
        """Signal that the shards have applied a push, or that a replica has ended."""
        self._next.set_result(None)
        self._next = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Wait until the first poll after the next step, where polls are `POLL_INTERVAL_S` apart."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        await asyncio.wait({self._next}, timeout=MAX_SKIPPED_POLLS * POLL_INTERVAL_S)
        await asyncio.sleep(POLL_INTERVAL_S - (loop.time() - started_at) % POLL_INTERVAL_S)


@dataclass(frozen=True, kw_only=True)
class ReplicaParts:
    """What a replica needs.

    Attributes:
        make: makes a replica from an index, an evaluator and a ledger.
        evaluate: the pool's method.
        ledger: the run's ledger.
        shards: the simulated shards.
        steps: signals their steps.
        delay_s: seconds per message.
        mtbf_s: mean seconds between two failures of one replica, or `None` for never.
        recovery_s: seconds until a failed replica resumes.
    """

    make: Callable[[int, Evaluator, Any], Replica]
    evaluate: Callable[[Assignment], Awaitable[Outcome]]
    ledger: Any
    shards: SimulatedShards
    steps: ShardSteps
    delay_s: float
    mtbf_s: float | None
    recovery_s: float


class ReplicaLife:
    """One replica from its start to the end of the search, restarts included.

    Args:
        index: index of the replica.
        parts: what it needs.
        log: the record of all replicas.
        rng: draws the times of its failures.
    """

    def __init__(self, index: int, parts: ReplicaParts, log: ReplicaLog, rng: random.Random) -> None:
        self._index, self._parts, self._log, self._rng = index, parts, log, rng
        self._loop = asyncio.get_running_loop()
        self._owed_s = 0.0  # seconds of ledger calls for which the loop has not waited yet
        self._next: tuple[Wait, float] | None = None
        self._paused = False

    async def run(self) -> None:
        """Run the replica until it has ended."""
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
        self._parts.steps.notify()
        self._log.ended_at = max(self._log.ended_at, self._loop.time())

    async def _live(self) -> None:
        parts = self._parts
        self._owed_s, self._next, self._paused = 0.0, None, False
        evaluator = PooledEvaluator(parts.evaluate, lambda: self._owed_s + parts.delay_s, parts.delay_s)
        ledger = _DelayedLedger(parts.ledger, self._owe) if parts.delay_s else parts.ledger
        replica = parts.make(self._index, evaluator, ledger)
        replica = replace(replica, pause=self._pause, clock=self._loop.time, call=self._call)
        for _ in replica_loop(replica):
            await self._pay()
            if wait := self._requested_wait():
                await self._sleep(*wait)
            elif self._paused:
                self._paused = False
                await self._timed("other replicas", parts.steps.wait())
            elif evaluator.waits:
                await self._timed("children", evaluator.news())
        await self._pay()

    def _requested_wait(self) -> tuple[Wait, float] | None:
        """Return the wait that the loop has requested, once."""
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
        """See `cluster.search.replica.Calls`: to the shards, through their queue, and back."""
        shards, delay_s = self._parts.shards, self._parts.delay_s
        yield from self._waiting("shards", delay_s)
        yield from self._through_queue(shards.enqueue_request())
        reply = request()
        if isinstance(reply, Ack):
            if not reply.duplicate:  # a duplicate follows a replica that died before the reply
                self._log.staleness.append(fmean(reply.staleness))
            self._parts.steps.notify()
            yield from self._through_queue(shards.enqueue_write())
        yield from self._waiting("shards", delay_s)
        return reply

    def _through_queue(self, request: QueuedRequest) -> Generator[None, None, None]:
        while wait := self._parts.shards.wait(request):
            yield from self._waiting(*wait)

    def _waiting(self, what: Wait, seconds: float) -> Generator[None, None, None]:
        if seconds > 0 or self._owed_s:
            self._next = (what, seconds)
            yield

    async def _sleep(self, what: Wait, seconds: float) -> None:
        await self._timed(what, asyncio.sleep(seconds))

    async def _timed(self, what: Wait, work: Awaitable[None]) -> None:
        started_at = self._loop.time()
        try:
            await work
        finally:
            self._log.waited_s[what] += self._loop.time() - started_at
