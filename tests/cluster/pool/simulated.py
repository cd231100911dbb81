"""A pool with simulated workers, time and failures: real pool, supervision and ledger, virtual seconds."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from child_trainer.outcome import FUSED, Cause, Failure, Outcome
from cluster.pool.child_weights import LostWeights
from cluster.pool.failure_policy import FailurePolicy
from cluster.pool.pool import Pool
from cluster.pool.protocol import CallLost, FusionRefused, NotStarted, ProcessExit, Report, TrainingOrder, WorkerLost
from cluster.pool.supervision import Gpu, Nodes, PoolOptions, Rules
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, AttemptEnd, end_calls, made_together, start_calls
from cluster.simulation.clock import VirtualLoop
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Proposal
from controller.spaces.convolutional import ConvolutionalSpace

HEARTBEAT_INTERVAL_S = 2.0
MAX_WAIT_S = 3.0
"""How long the record of an attempt's end waits if it may."""

START_S = 1.5
"""How long a worker's process takes to start."""

SPACE = ConvolutionalSpace(initial_depth=1)
ARCHITECTURE = SPACE.decode((0, 0, 0))


def run_virtually(work: Coroutine[Any, Any, None]) -> None:
    with closing(VirtualLoop()) as loop:
        loop.run_work(work)


def good(seed: int) -> Outcome:
    return Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=seed)


def bad(seed: int, cause: Cause) -> Outcome:
    failure = Failure(cause=cause, message="why")
    return Outcome(curve=(), seconds=1.0, parameters=None, flops=None, seed=seed, failure=failure)


@dataclass
class Process:
    """One life of a worker."""

    place: str
    node: str
    previous_exit: ProcessExit | None = None
    up: asyncio.Event = field(default_factory=asyncio.Event)
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    give_back: asyncio.Event = field(default_factory=asyncio.Event)
    key: str | None = None
    began: str | None = None
    last: tuple[str, tuple[Outcome, ...]] | None = None
    trained: int = 0
    mute: bool = False
    deaf: bool = False


@dataclass(frozen=True)
class Trained:
    """A training that came to its own end."""

    child_id: int
    key: str
    batch_size: int | None
    at: float


@dataclass
class World:
    """The cluster that is simulated.

    Attributes:
        ledger: a real one.
        slots: how many workers.
        seconds: how long a child trains, by its id.
        results: what training it gives.
        gone: slots whose worker can never be started again.
        without_weights: children that cannot begin, as the weights of child 1 are missing.
        found_after_s: how long a worker takes to find that.
        restart_s: how long it takes until a process that is to be started again is killed.
        homeless: set once there is a node for the processes that are to be started.
        gpu_of: the GPU of a slot's process, where children get parts of one.
        takes: the memory that a child's training takes of it, by its id.
        fits: children that fit into a worker's memory as one, where it has no part of a GPU.
        refusal: why workers train no children as one; `None`: they do.
    """

    ledger: Ledger
    slots: int
    seconds: Callable[[int], float] = lambda _: 10.0
    results: Mapping[int, Cause] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    without_weights: set[int] = field(default_factory=set)
    found_after_s: float = 0.0
    restart_s: float = 0.1
    homeless: asyncio.Event | None = None
    gpu_of: Callable[[int], Gpu] | None = None
    takes: Callable[[int], int] = lambda _: 1
    fits: int = 1_000
    refusal: str | None = None
    orders: list[TrainingOrder] = field(default_factory=list)
    nodes_: Nodes = field(default_factory=lambda: Nodes(alive=frozenset({"n0", "n1"})))
    trained: list[Trained] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    pool: Pool | None = None

    def __post_init__(self) -> None:
        self._lives = itertools.count()
        self._work: set[asyncio.Task[None]] = set()
        self.processes = {slot: self._start(slot) for slot in range(self.slots)}

    # Events.

    def kill(self, slot: int) -> None:
        """Kill the worker's process; another one is started, as by Ray."""
        process = self.processes[slot]
        process.dead.set()
        self.processes[slot] = self._start(slot, ProcessExit(place=process.place, key=process.began))

    def add(self, slot: int) -> None:
        """Start the process of another worker."""
        self.processes[slot] = self._start(slot)

    def cut(self, slot: int) -> None:
        """Lose the call to the worker, which trains on."""
        self.processes[slot].cut.set()
        self.processes[slot].cut = asyncio.Event()

    def mute(self, slot: int) -> None:
        """Lose all further heartbeats of the process."""
        self.processes[slot].mute = True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _start(self, slot: int, previous_exit: ProcessExit | None = None) -> Process:
        number = next(self._lives)
        process = Process(place=f"worker-{slot}@n{slot % 2}:{number}", node=f"n{slot % 2}", previous_exit=previous_exit)
        self.spawn(self._live(slot, process))
        return process

    async def _live(self, slot: int, process: Process) -> None:
        if self.homeless:
            await self.homeless.wait()
        await asyncio.sleep(START_S)
        process.up.set()
        while not process.dead.is_set():
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            if self.pool is None or process.mute or process.dead.is_set():
                continue
            key = process.key
            if (
                await self.pool.beat(slot, process.place, key)
                and key is not None
                and process.key == key
                and not process.deaf
            ):
                process.give_back.set()

    # The pool's calls: `cluster.pool.protocol.WorkerGroup`.

    async def report(self, slot: int) -> Report:
        self.reports.append(slot)
        while True:
            if slot in self.gone:
                raise WorkerLost("its data is gone")
            process = self.processes[slot]
            await process.up.wait()
            async with process.busy:  # it answers between two children
                if not process.dead.is_set():
                    key, outcomes = process.last or (None, ())
                    return Report(
                        place=process.place,
                        node=process.node,
                        trained=process.trained,
                        key=key,
                        outcomes=outcomes,
                        previous_exit=process.previous_exit,
                        gpu=self.gpu_of and self.gpu_of(slot),
                    )

    async def train(self, slot: int, order: TrainingOrder) -> tuple[Outcome, ...]:
        process = self.processes[slot]
        work = asyncio.get_running_loop().create_task(self._train(process, order))
        ends = [asyncio.get_running_loop().create_task(e.wait()) for e in (process.dead, process.cut)]
        await asyncio.wait([work, *ends], return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        if work.done() and not process.dead.is_set():
            return work.result()
        self._work.add(work)  # type: ignore[arg-type] - the call is lost, and the training continues
        raise CallLost("the call was lost")

    async def _train(self, process: Process, order: TrainingOrder) -> tuple[Outcome, ...]:
        await process.up.wait()
        if order.place != process.place:
            raise NotStarted(order.place)
        if order.others and self.refusal:
            raise FusionRefused(self.refusal)
        async with process.busy:
            process.give_back.clear()
            process.key = process.began = order.key
            process.last = None
            if order.assignment.child_id in self.without_weights:
                await asyncio.sleep(self.found_after_s)
                process.key = None
                raise LostWeights(order.assignment.child_id, 1, "1" * 64, "is missing")
            children = [one.child_id for one in order.assignments]
            outcomes = self._outcomes(order)
            self.orders.append(order)
            ends = [asyncio.get_running_loop().create_task(e.wait()) for e in (process.dead, process.give_back)]
            seconds = sum(map(self.seconds, children))
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            process.key = None
            if process.dead.is_set():
                raise asyncio.CancelledError
            if process.give_back.is_set():
                outcomes = tuple(bad(one.seed, Cause.PREEMPTED) for one in order.assignments)
            else:
                now = asyncio.get_running_loop().time()
                self.trained += [Trained(child_id, order.key, order.batch_size, now) for child_id in children]
            process.last = order.key, outcomes
            process.trained += len(outcomes)
            return outcomes

    def _outcomes(self, order: TrainingOrder) -> tuple[Outcome, ...]:
        """Return what training gives; too little memory for several as one is the failure of each."""
        each, limit = order.assignments, order.gpu_limit_bytes
        takes = [self.takes(one.child_id) for one in each]
        fits = sum(takes) <= limit if limit is not None else len(each) <= self.fits
        outcomes: list[Outcome] = []
        for one, size in zip(each, takes, strict=True):
            cause = self.results.get(one.child_id) if fits else Cause.OUT_OF_MEMORY
            outcome = good(one.seed) if cause is None else bad(one.seed, cause)
            outcome = outcome if limit is None or cause else replace(outcome, gpu_bytes=size)
            outcomes.append(replace(outcome, measurements={FUSED: float(len(each))}) if order.others else outcome)
        return tuple(outcomes)

    async def restart(self, slot: int, place: str) -> None:
        await asyncio.sleep(self.restart_s)
        if self.processes[slot].place == place:
            self.restarts.append(slot)
            self.kill(slot)

    async def nodes(self) -> Nodes:
        return self.nodes_

    def forget(self, child_id: int) -> None:
        self.forgotten.append(child_id)


class SlowLedger:
    """The ledger with a pause before and after each call, in which anything may happen; what may wait does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._hurry = asyncio.Event()
        self.waiting: list[str] = []

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        return await self._slowly(lambda: self._ledger.attempts(child_id))

    async def running(self) -> Sequence[Attempt]:
        return await self._slowly(self._ledger.running)

    async def last_child(self) -> int:
        return await self._slowly(self._ledger.last_child)

    async def start(self, attempts: Sequence[Attempt]) -> None:
        await self._slowly(lambda: made_together(self._ledger, start_calls(attempts)))

    async def memory_uses(self) -> Sequence[tuple[int, int]]:
        return await self._slowly(self._ledger.memory_uses)

    async def end(self, ends: Sequence[AttemptEnd], *, can_wait: bool = False) -> Sequence[bool]:
        if can_wait:
            self.waiting.append(ends[0].key)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), MAX_WAIT_S)
            self.waiting.remove(ends[0].key)
        return (await self._slowly(lambda: made_together(self._ledger, end_calls(ends))))[: len(ends)]

    def hasten(self) -> None:
        self._hurry.set()
        self._hurry = asyncio.Event()

    async def _slowly(self, call: Callable[[], Any]) -> Any:
        await asyncio.sleep(0.2)
        result = call()
        await asyncio.sleep(0.2)
        return result


@dataclass
class Search:
    """A pool over a simulated world, and replicas that request children until all have ended."""

    children: int
    slots: int = 2
    rules: Rules = field(default_factory=Rules)
    policy: FailurePolicy = field(default_factory=lambda: FailurePolicy(max_attempts=3))
    seconds: Callable[[int], float] = lambda _: 10.0
    results: Mapping[int, Cause] = field(default_factory=dict)
    renew_crashed: bool = False
    replaced: bool = False
    workers_per_gpu: int | None = None
    gpu_of: Callable[[int], Gpu] | None = None
    predicted: Callable[[int], int | None] = lambda _: None
    takes: Callable[[int], int] = lambda _: 1
    fuse_seeds: int = 1
    fits: int = 1_000
    refusal: str | None = None
    new: bool = False
    """Whether the children are sampled once the pool is there."""

    def __post_init__(self) -> None:
        self.now = lambda: asyncio.get_running_loop().time()
        self.ledger = Ledger(Path(":memory:"), 0, self.children, clock=self.now)
        self.keys = (f"k{number}" for number in itertools.count())
        self.ended_at: dict[int, float] = {}

    async def begin(self, *, ask: bool = True) -> None:
        self.ledger.begin(workers=self.slots)
        proposals = [Proposal(tokens=(0, 0, 0), architecture=ARCHITECTURE)] * self.children
        if not self.new:
            self.ledger.admit(0, 1, proposals, ())
        self.world = World(
            self.ledger,
            self.slots,
            self.seconds,
            self.results,
            gpu_of=self.gpu_of,
            takes=self.takes,
            fits=self.fits,
            refusal=self.refusal,
        )
        self.start_pool(ask=ask)
        if self.new:
            await self.pool.opened()
            self.ledger.admit(0, 1, proposals, ())
            self._of_pool = self._request_all() if ask else []

    def start_pool(self, *, ask: bool = True) -> None:
        """Start the pool; if there was one, it is killed first, in the middle of its work."""
        for task in list(getattr(self, "_of_pool", ())):
            task.cancel()
        if self.world.pool is not None:
            for task in [*self.world.pool._tasks.running, *filter(None, [self.world.pool._opening])]:
                task.cancel()
        options = PoolOptions(
            rules=self.rules,
            policy=self.policy,
            batch_size=64,
            renew_crashed=self.renew_crashed,
            replaced=self.replaced,
            workers_per_gpu=self.workers_per_gpu,
            fuse_seeds=self.fuse_seeds,
        )
        self.slow_ledger = SlowLedger(self.ledger)
        self.pool = self.world.pool = Pool(
            self.slots, self.world, self.slow_ledger, options, clock=self.now, new_key=lambda: next(self.keys)
        )
        self._of_pool = self._request_all() if ask else []

    def _request_all(self) -> "list[asyncio.Task[None]]":
        return [asyncio.get_running_loop().create_task(self.replica(child.id)) for child in self.ledger.pending()]

    def die(self) -> None:
        """Kill the driver with all that it has started, and resume the run at once."""
        for slot in range(self.slots):
            self.world.kill(slot)
        self.ledger.begin(workers=self.slots)
        self.start_pool()

    def assignment(self, child_id: int) -> Assignment:
        return Assignment(
            child_id=child_id, architecture=ARCHITECTURE, seed=100 + child_id, gpu_bytes=self.predicted(child_id)
        )

    async def replica(self, child_id: int) -> None:
        outcome = await self.pool.evaluate(self.assignment(child_id))
        self.ledger.finish(child_id, outcome, 0.0)
        self.ended_at[child_id] = self.now()

    async def chain(self, children: Iterable[int]) -> None:
        for child_id in children:
            await self.replica(child_id)

    async def until_idle(self) -> None:
        """Wait until what every worker has trained is recorded."""
        while any(worker.attempts for worker in self.pool._workers.values()):
            await asyncio.sleep(0.1)

    async def until_all_have_ended(self, within_s: float = 10_000.0) -> None:
        while self.ledger.completed() < self.children:
            assert self.now() < within_s, (
                f"only {self.ledger.completed()} of {self.children} have ended by {within_s} s"
            )
            await asyncio.sleep(0.5)

    def slot_of(self, child_id: int) -> int:
        """Return the slot where the child is in training now."""
        (slot,) = [attempt.slot for attempt in self.ledger.running() if attempt.child_id == child_id]
        return slot

    def attempts(self, child_id: int) -> list[tuple[str, str | None]]:
        return [(str(a.verdict), a.cause and str(a.cause)) for a in self.ledger.attempts(child_id)]
