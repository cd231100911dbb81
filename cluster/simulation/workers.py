"""Simulated workers, each on a machine of its own that may be preempted, behind the pool's protocol (`WorkerGroup`).

The pool's own code makes all decisions: the workers only let time pass, and report as they would on Ray.
"""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Steps
from cluster.pool.background_tasks import POLL_INTERVAL_S
from cluster.pool.protocol import CallLost, NotStarted, ProcessExit, Report, TrainingOrder
from cluster.pool.supervision import Nodes, Rules
from cluster.search.evaluator import Assignment
from cluster.simulation.cluster_model import RESTART_S, ClusterModel
from cluster.simulation.step_clock import StepClock, StepTimer
from cluster.simulation.worker_log import BusyInterval, WorkerLog

MAX_POLLED = 1000
"""Number of workers up to which the pool polls every `POLL_INTERVAL_S`; n times as many are polled n times less often.

Polling 100,000 workers every virtual second would take hours; a preempted child waits for the next poll.
"""

TimedTraining = Callable[[Assignment], tuple[Outcome, float]]
"""Returns the outcome of a child's training, and its seconds."""


@dataclass(slots=True)
class _Training:
    """A training in progress: its order, its start, the seconds that remain and that the whole child takes.

    Steps on shared weights have another timer, which tells how many are made; their seconds are not known before.
    """

    order: TrainingOrder
    started_at: float
    seconds: float
    whole_s: float
    answer: asyncio.Future[Outcome]
    timer: asyncio.TimerHandle | None = None
    steps: StepTimer | None = None


@dataclass(slots=True)
class _Worker:
    """A slot: the state of its process and its machine."""

    slot: int
    place: str = ""
    node: str = ""
    up: bool = False
    trained: int = 0
    key: str | None = None
    outcome: Outcome | None = None
    previous_exit: ProcessExit | None = None
    training: _Training | None = None
    free: asyncio.Future[None] | None = None


class SimulatedWorkers:
    """The simulated workers; see `cluster.pool.protocol.WorkerGroup`. Requires a running `VirtualLoop`.

    Args:
        workers: number of workers.
        trains: returns the outcome of a child and its seconds.
        model: rates of loss and delays of messages.
        rules: the child timeout, and whether children save checkpoints.
        epochs: epochs of a child, after each of which it may save a checkpoint.
        seed: seed of the preemptions.
        clock: counts the steps of children that make some.
    """

    def __init__(
        self,
        workers: int,
        trains: TimedTraining,
        model: ClusterModel,
        rules: Rules,
        epochs: int,
        seed: int,
        clock: StepClock | None = None,
    ):
        self._trains, self._model, self._rules, self._epochs, self._clock = trains, model, rules, epochs, clock
        self._rng = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._lives = itertools.count()
        self._alive: set[str] = set()
        self._nodes: Nodes | None = None
        self._saved: dict[int, float] = {}  # by child, the share of its training in its checkpoint
        self._started_children: set[int] = set()
        self._polls: set[float] = set()
        self._poll_interval_s = POLL_INTERVAL_S * max(1, workers // MAX_POLLED)
        self._poll_due = asyncio.Event()
        self.worker_log = WorkerLog()
        self.beat: Callable[[int, str, str | None], Awaitable[object]] | None = None
        """The pool's heartbeat method, which each process calls when it comes up."""
        self._beats: set[asyncio.Future[object]] = set()
        self._workers = [_Worker(slot) for slot in range(workers)]
        for worker in self._workers:
            self._machine_starts(worker)

    # The protocol that the pool calls.

    async def report(self, slot: int) -> Report:
        """See `WorkerGroup.report`."""
        await self._delay_message()
        worker = self._workers[slot]
        while not worker.up or worker.training:
            worker.free = worker.free or self._loop.create_future()
            await worker.free
        await self._delay_message()
        return Report(
            place=worker.place,
            node=worker.node,
            trained=worker.trained,
            key=worker.key,
            outcomes=(worker.outcome,) if worker.outcome else (),
            previous_exit=worker.previous_exit,
        )

    async def train(self, slot: int, order: TrainingOrder) -> tuple[Outcome, ...]:
        """See `WorkerGroup.train`."""
        await self._delay_message()
        worker = self._workers[slot]
        if not worker.up:
            self._poll_after(self._loop.time())
            raise CallLost(f"{order.place} is unavailable")
        if worker.place != order.place:
            raise NotStarted(order.place)
        outcome = await self._start_training(worker, order)
        await self._delay_message()
        return (outcome,)

    async def restart(self, slot: int, place: str) -> None:
        """See `WorkerGroup.restart`."""
        worker = self._workers[slot]
        if worker.up and worker.place == place:
            worker.previous_exit = ProcessExit(place=place, key=worker.key)
            self._interrupt(worker)
            worker.up = False
            node = worker.node
            self._loop.call_later(RESTART_S, lambda: node in self._alive and self._process_starts(worker))

    async def nodes(self) -> Nodes:
        """See `WorkerGroup.nodes`."""
        self._nodes = self._nodes or Nodes(alive=frozenset(self._alive))
        return self._nodes

    def forget(self, child_id: int) -> None:
        """See `WorkerGroup.forget`."""
        self._saved.pop(child_id, None)

    async def look(self) -> None:
        """Wait for the next of the pool's polls that can find a change.

        The polls between would find nothing: live workers send heartbeats in time.
        """
        await self._poll_due.wait()
        self._poll_due.clear()

    # Events of processes and machines.

    def _start_training(self, worker: _Worker, order: TrainingOrder) -> asyncio.Future[Outcome]:
        child_id, now = order.assignment.child_id, self._loop.time()
        if child_id not in self._started_children:
            self._started_children.add(child_id)
            self.worker_log.last_child_started_at = now
        outcome, whole_s = self._trains(order.assignment)
        left = 1 - self._saved.get(child_id, 0.0)
        seconds = whole_s * left
        training = worker.training = _Training(order, now, seconds, whole_s, self._loop.create_future())
        worker.key, worker.outcome = order.key, None
        job, limit = order.assignment.job, self._rules.child_timeout_s
        if isinstance(job, Steps):
            assert self._clock is not None
            training.steps = self._clock.start(job.count * left, lambda: self._end(worker, outcome))
        else:
            training.timer = self._loop.call_later(seconds, self._end, worker, outcome)
        if limit is not None and (training.steps or seconds > limit):
            self._poll_after(now + limit)
        return training.answer

    def _end(self, worker: _Worker, outcome: Outcome) -> None:
        training = worker.training
        assert training is not None
        worker.training, worker.outcome = None, outcome
        worker.trained += 1
        now, child_id = self._loop.time(), training.order.assignment.child_id
        self.worker_log.intervals.append(BusyInterval(child_id, training.started_at, now, now - training.started_at))
        training.answer.set_result(outcome)
        self._notify_free(worker)

    def _interrupt(self, worker: _Worker) -> None:
        """End a worker's training without an outcome; the child's checkpoint stays."""
        training = worker.training
        if training is None:
            return
        worker.training = None
        child_id, now = training.order.assignment.child_id, self._loop.time()
        useful = 0.0
        if training.timer:
            training.timer.cancel()
        if training.steps:
            useful = self._keep_steps(training, training.steps)
        elif self._rules.checkpoints:
            before = self._saved.get(child_id, 0.0)
            done = before + (now - training.started_at) / training.whole_s
            after = self._saved[child_id] = max(before, math.floor(done * self._epochs) / self._epochs)
            useful = (after - before) * training.whole_s
        self.worker_log.intervals.append(BusyInterval(child_id, training.started_at, now, useful))
        training.answer.set_exception(CallLost(f"{worker.place} is lost"))

    def _keep_steps(self, training: _Training, timer: StepTimer) -> float:
        """End steps before their end: the shards have the whole ones; return the seconds that these took."""
        assignment = training.order.assignment
        assert self._clock is not None
        assert isinstance(assignment.job, Steps)
        made = self._clock.cancel(timer)
        whole = math.floor(made)
        self._saved[assignment.child_id] = self._saved.get(assignment.child_id, 0.0) + whole / assignment.job.count
        return (self._loop.time() - training.started_at) * whole / made if made else 0.0

    def _machine_starts(self, worker: _Worker) -> None:
        life = next(self._lives)
        worker.node, worker.previous_exit = f"machine-{life}", None
        self._alive.add(worker.node)
        self._nodes = None
        self._process_starts(worker)
        if rate := self._model.preempted_per_s:
            self._loop.call_later(self._rng.expovariate(rate), self._machine_is_lost, worker)

    def _process_starts(self, worker: _Worker) -> None:
        worker.place = f"worker-{worker.slot}@{worker.node}:{next(self._lives)}"
        worker.up, worker.trained, worker.key, worker.outcome = True, 0, None, None
        self._notify_free(worker)
        if self.beat:
            beat = asyncio.ensure_future(self.beat(worker.slot, worker.place, None))
            self._beats.add(beat)  # without a reference a task may be garbage-collected before it is done
            beat.add_done_callback(self._beats.discard)

    def _machine_is_lost(self, worker: _Worker) -> None:
        now = self._loop.time()
        self.worker_log.preemptions += 1
        self.worker_log.interrupted += worker.training is not None
        self._alive.discard(worker.node)
        self._nodes = None
        worker.up = False
        self._interrupt(worker)
        self._poll_after(now)
        place = len(self.worker_log.outages)
        self.worker_log.outages.append((now, math.inf))

        def back() -> None:
            self.worker_log.outages[place] = (now, self._loop.time())
            self._machine_starts(worker)

        self._loop.call_later(self._model.replace_after_s, back)

    def _notify_free(self, worker: _Worker) -> None:
        if worker.free and worker.up and not worker.training:
            worker.free.set_result(None)
            worker.free = None

    def _poll_after(self, after: float) -> None:
        """Let the pool's first poll after this time run."""
        at = (math.floor(after / self._poll_interval_s) + 1) * self._poll_interval_s
        if at not in self._polls:
            self._polls.add(at)

            def poll() -> None:
                self._polls.discard(at)
                self._poll_due.set()

            self._loop.call_at(at, poll)

    async def _delay_message(self) -> None:
        if self._model.delay_s:
            await asyncio.sleep(self._model.delay_s)
