"""Simulated workers, each a machine of its own that may be taken away, as the pool reaches them (`WorkerGroup`).

What follows is the pool's own code to say: these only let time pass, and tell what they would tell on Ray.
"""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from child_trainer.outcome import Outcome
from cluster.pool.background_tasks import POLL_INTERVAL_S
from cluster.pool.protocol import CallLost, NotStarted, ProcessExit, Report, TrainingOrder
from cluster.pool.supervision import Nodes, Rules
from cluster.search.evaluator import Assignment
from cluster.simulation.conditions import RESTART_S, Conditions

MOST_LOOKED_AT = 1000
"""Workers of a fleet that the pool looks at every `POLL_INTERVAL_S`; at one of n times as many every n times that.

To look at 100,000 for every virtual second would take hours; a child that was preempted waits for the look.
"""

TimedTraining = Callable[[Assignment], tuple[Outcome, float]]
"""What a child's training gives, and the seconds that it takes."""


class Stint(NamedTuple):
    """A worker's time with a child, in seconds since the start; `useful_s` of it became part of an outcome."""

    child_id: int
    began_at: float
    ended_at: float
    useful_s: float


@dataclass(slots=True)
class Diary:
    """What the workers did.

    Attributes:
        stints: with children, in the order of their ends.
        away: from when to when a worker's machine was gone; one that is still gone comes back at infinity.
        preemptions: how many machines were taken away.
        cut: how many children were in training there.
        first_begun_at: when the last of all children was begun for the first time.
    """

    stints: list[Stint] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    preemptions: int = 0
    cut: int = 0
    first_begun_at: float = 0.0

    def away_s(self, until: float) -> float:
        """Seconds of one worker for which machines were gone, up to a time."""
        return sum(min(back, until) - gone for gone, back in self.away if gone < until)

    def busy_s(self, until: float) -> float:
        """Seconds of one worker in which children were trained, for good or for nothing, up to a time."""
        return sum(min(s.ended_at, until) - s.began_at for s in self.stints if s.began_at < until)

    def useful_s(self, until: float) -> float:
        """Seconds of these that became, or later become, part of outcomes."""
        return sum(min(s.useful_s, until - s.began_at) for s in self.stints if s.began_at < until)

    def write_off(self, failed: Collection[int]) -> None:
        """These children were given up: what was trained of them, saved or not, is of no use."""
        self.stints = [s._replace(useful_s=0.0) if s.child_id in failed else s for s in self.stints]


@dataclass(slots=True)
class _OpenStint:
    """A stint that goes on: an attempt, when it began, how long the rest of the child takes, and what it gives then."""

    order: TrainingOrder
    began_at: float
    seconds: float
    whole_s: float
    answer: asyncio.Future[Outcome]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Worker:
    """A slot: its process and its machine, and what they do."""

    slot: int
    place: str = ""
    node: str = ""
    up: bool = False
    trained: int = 0
    key: str | None = None
    outcome: Outcome | None = None
    previous_exit: ProcessExit | None = None
    training: _OpenStint | None = None
    free: asyncio.Future[None] | None = None


class SimulatedWorkers:
    """The workers; see `cluster.pool.protocol.WorkerGroup`. To be made on the loop whose time they live by.

    Args:
        workers: how many.
        trains: what a child's training gives, and how long it takes.
        conditions: what is lost, and how slow messages are.
        rules: what a child may take, and whether it saves its state.
        epochs: of a child: it saves its state after each.
        seed: of what is lost.
    """

    def __init__(
        self, workers: int, trains: TimedTraining, conditions: Conditions, rules: Rules, epochs: int, seed: int
    ):
        self._trains, self._conditions, self._rules, self._epochs = trains, conditions, rules, epochs
        self._rng = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._lives = itertools.count()
        self._alive: set[str] = set()
        self._nodes: Nodes | None = None
        self._saved: dict[int, float] = {}  # by child, the share of its training that its checkpoint has
        self._begun: set[int] = set()
        self._looks: set[float] = set()
        self._look_s = POLL_INTERVAL_S * max(1, workers // MOST_LOOKED_AT)
        self._seen = asyncio.Event()
        self.diary = Diary()
        self.beat: Callable[[int, str, str | None], Awaitable[object]] | None = None
        """The pool's, to whom a process that comes up says so."""
        self._beats: set[asyncio.Future[object]] = set()
        self._workers = [_Worker(slot) for slot in range(workers)]
        for worker in self._workers:
            self._machine_comes(worker)

    # How the pool reaches them.

    async def report(self, slot: int) -> Report:
        """See `WorkerGroup.report`."""
        await self._hop()
        worker = self._workers[slot]
        while not worker.up or worker.training:
            worker.free = worker.free or self._loop.create_future()
            await worker.free
        await self._hop()
        return Report(
            place=worker.place,
            node=worker.node,
            trained=worker.trained,
            key=worker.key,
            outcome=worker.outcome,
            previous_exit=worker.previous_exit,
        )

    async def train(self, slot: int, order: TrainingOrder) -> Outcome:
        """See `WorkerGroup.train`."""
        await self._hop()
        worker = self._workers[slot]
        if not worker.up:
            self._have_looked(self._loop.time())
            raise CallLost(f"{order.place} is away")
        if worker.place != order.place:
            raise NotStarted(order.place)
        outcome = await self._begin(worker, order)
        await self._hop()
        return outcome

    async def restart(self, slot: int, place: str) -> None:
        """See `WorkerGroup.restart`."""
        worker = self._workers[slot]
        if worker.up and worker.place == place:
            worker.previous_exit = ProcessExit(place=place, key=worker.key)
            self._cut(worker)
            worker.up = False
            node = worker.node
            self._loop.call_later(RESTART_S, lambda: node in self._alive and self._process_comes(worker))

    async def nodes(self) -> Nodes:
        """See `WorkerGroup.nodes`."""
        self._nodes = self._nodes or Nodes(alive=frozenset(self._alive))
        return self._nodes

    def forget(self, child_id: int) -> None:
        """See `WorkerGroup.forget`."""
        self._saved.pop(child_id, None)

    async def look(self) -> None:
        """Returns at the next of the pool's looks that has something to see.

        Between them nothing happens that a look would find: workers that are there are heard of in time.
        """
        await self._seen.wait()
        self._seen.clear()

    # What becomes of them.

    def _begin(self, worker: _Worker, order: TrainingOrder) -> asyncio.Future[Outcome]:
        child_id, now = order.assignment.child_id, self._loop.time()
        if child_id not in self._begun:
            self._begun.add(child_id)
            self.diary.first_begun_at = now
        outcome, whole_s = self._trains(order.assignment)
        seconds = whole_s * (1 - self._saved.get(child_id, 0.0))
        training = worker.training = _OpenStint(order, now, seconds, whole_s, self._loop.create_future())
        worker.key, worker.outcome = order.key, None
        training.timer = self._loop.call_later(seconds, self._end, worker, outcome)
        limit = self._rules.child_timeout_s
        if limit is not None and seconds > limit:
            self._have_looked(now + limit)
        return training.answer

    def _end(self, worker: _Worker, outcome: Outcome) -> None:
        training = worker.training
        assert training is not None
        worker.training, worker.outcome = None, outcome
        worker.trained += 1
        now, child_id = self._loop.time(), training.order.assignment.child_id
        self.diary.stints.append(Stint(child_id, training.began_at, now, now - training.began_at))
        training.answer.set_result(outcome)
        self._tell_free(worker)

    def _cut(self, worker: _Worker) -> None:
        """What it trains ends without a word; what the child has saved of it stays."""
        training = worker.training
        if training is None:
            return
        assert training.timer is not None
        training.timer.cancel()
        worker.training = None
        child_id, now = training.order.assignment.child_id, self._loop.time()
        useful = 0.0
        if self._rules.checkpoints:
            before = self._saved.get(child_id, 0.0)
            done = before + (now - training.began_at) / training.whole_s
            after = self._saved[child_id] = max(before, math.floor(done * self._epochs) / self._epochs)
            useful = (after - before) * training.whole_s
        self.diary.stints.append(Stint(child_id, training.began_at, now, useful))
        training.answer.set_exception(CallLost(f"{worker.place} is gone"))

    def _machine_comes(self, worker: _Worker) -> None:
        life = next(self._lives)
        worker.node, worker.previous_exit = f"machine-{life}", None
        self._alive.add(worker.node)
        self._nodes = None
        self._process_comes(worker)
        if rate := self._conditions.preempted_per_s:
            self._loop.call_later(self._rng.expovariate(rate), self._machine_goes, worker)

    def _process_comes(self, worker: _Worker) -> None:
        worker.place = f"worker-{worker.slot}@{worker.node}:{next(self._lives)}"
        worker.up, worker.trained, worker.key, worker.outcome = True, 0, None, None
        self._tell_free(worker)
        if self.beat:
            beat = asyncio.ensure_future(self.beat(worker.slot, worker.place, None))
            self._beats.add(beat)  # a task that nobody holds may be collected before it is done
            beat.add_done_callback(self._beats.discard)

    def _machine_goes(self, worker: _Worker) -> None:
        now = self._loop.time()
        self.diary.preemptions += 1
        self.diary.cut += worker.training is not None
        self._alive.discard(worker.node)
        self._nodes = None
        worker.up = False
        self._cut(worker)
        self._have_looked(now)
        place = len(self.diary.away)
        self.diary.away.append((now, math.inf))

        def back() -> None:
            self.diary.away[place] = (now, self._loop.time())
            self._machine_comes(worker)

        self._loop.call_later(self._conditions.replace_after_s, back)

    def _tell_free(self, worker: _Worker) -> None:
        if worker.free and worker.up and not worker.training:
            worker.free.set_result(None)
            worker.free = None

    def _have_looked(self, after: float) -> None:
        """Have the pool look at its fleet the next time that it would after this."""
        at = (math.floor(after / self._look_s) + 1) * self._look_s
        if at not in self._looks:
            self._looks.add(at)

            def see() -> None:
                self._looks.discard(at)
                self._seen.set()

            self._loop.call_at(at, see)

    async def _hop(self) -> None:
        if self._conditions.delay_s:
            await asyncio.sleep(self._conditions.delay_s)
