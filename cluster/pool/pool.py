"""The pool hands children to workers, and settles what each attempt gave. Knows neither Ray nor the clock.

A child on its way from the searcher to a worker, and what wraps it:

    Proposal       tokens and architecture, from the searcher          controller/searcher.py
      -> Child     with an id and later an outcome, in the ledger      controller/searcher.py
      -> Assignment    id, architecture and seed, from the replica     cluster/search/evaluator.py
      -> TrainingOrder    an attempt's key, a worker's process and the batch size, from the pool    protocol.py
      -> Attempt   the order at a slot from a time on, in the ledger; ended by an outcome and a verdict    records.py

With `--fuse-seeds` an order may have several children: seeds of one architecture that waited at the same time, and that
a worker trains as one network. The attempts at them begin and end together, and each child has its own outcome.

The pool's parts:

    pool.py             sends orders to workers, and carries out what the pure parts decide
    backlog.py          the children that wait or are in training
    new_children.py     which of them nobody can have attempted
    seed_groups.py      which of them are trained as one network (pure)
    failure_policy.py   what follows an attempt: another one, or the child's outcome (pure)
    supervision.py      which worker gets which child, and which worker hangs (pure)
    lack_of_memory.py   whether an attempt lacked memory that another one may have (pure)
    gpu_shares.py       which part of which GPU a child gets, where that is not the same for all (pure)
    protocol.py         the messages to and from workers, and the protocols of workers and ledger
    worker_process.py   the other side: a worker's process; output_*.py and checkpoints.py keep its children's files

All that the pool knows is in the ledger or in the workers' reports, so that it may be killed at any moment and
started again: a worker keeps the outcome of its last attempt until it gets another child.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence

from child_trainer.outcome import Cause, Outcome
from cluster.pool.background_tasks import RETRY_DELAY_S, Tasks, first_results, next_poll
from cluster.pool.backlog import Backlog
from cluster.pool.child_weights import LostWeights
from cluster.pool.gpu_shares import GpuSharing, MemoryUses, assign_to_gpus, memory_uses
from cluster.pool.new_children import NewChildren
from cluster.pool.protocol import (
    CallLost,
    Collected,
    FusionRefused,
    NotStarted,
    NoWorkers,
    PoolLedger,
    Report,
    TrainingOrder,
    WorkerCensus,
    WorkerGroup,
    WorkerLost,
    outcome_of_lost_call,
)
from cluster.pool.supervision import (
    Abandon,
    Begin,
    Nodes,
    PoolOptions,
    Preempt,
    Restart,
    Waiting,
    WorkerAction,
    WorkerState,
    assign,
    candidates,
    cause_of_exit,
    restart_reason,
    restart_reason_after,
    shortage,
    watch,
)
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, AttemptEnd, Verdict, key_of_all


class Pool:
    """Hands children to workers, first come, first served. A child that is requested twice is trained once.

    Args:
        slots: how many workers there are, numbered from 0.
        group: the workers.
        ledger: records every attempt before it begins and when it has ended.
        options: see `PoolOptions`.
        clock: returns the Unix time.
        new_key: returns a name for an attempt.
        next_poll: returns when all workers must be checked again.
    """

    def __init__(
        self,
        slots: int,
        group: WorkerGroup,
        ledger: PoolLedger,
        options: PoolOptions,
        *,
        clock: Callable[[], float],
        new_key: Callable[[], str],
        next_poll: Callable[[], Awaitable[None]] = next_poll,
    ) -> None:
        self._group, self._ledger, self._options = group, ledger, options
        self._clock, self._new_key, self._next_poll = clock, new_key, next_poll
        self._slots = slots
        self._workers = {slot: WorkerState(slot=slot) for slot in range(slots)}
        self._idle: dict[int, WorkerState] = {}  # in the order in which they became idle
        self._nodes = Nodes()
        self._backlog = Backlog(
            ledger,
            options.policy,
            options.batch_size,
            on_waiting=self._assign,
            on_settled=group.forget,
            on_trained=self._learn_memory,
            fuse_seeds=options.fuse_seeds,
        )
        self._sharing = GpuSharing(options.workers_per_gpu) if options.workers_per_gpu else None
        self._memory = MemoryUses()
        self._news: asyncio.Queue[str | BaseException] = asyncio.Queue()
        self._stopping = self._gives_back = self._shortage_reported = self._ever_up = False
        self._opening: asyncio.Task[None] | None = None
        self._tasks = Tasks(on_error=self._news.put_nowait)
        # Of attempts that the pool itself ends, by the keys of their orders.
        self._concluding: dict[str, asyncio.Task[None]] = {}
        self._refusals: set[str] = set()  # why seeds are trained alone, as far as it was reported

    async def opened(self) -> None:
        """Load, once, what is known of the workers and their attempts; every call awaits it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def evaluate(self, assignment: Assignment) -> Outcome:
        """Return the child's outcome: trained on the next idle worker, or as the ledger already has it."""
        await self.opened()
        # A caller that dies must not cancel the training: its successor requests the same child.
        (result,) = await self._backlog.request([assignment])
        return await asyncio.shield(result)

    async def collect(self, assignments: Sequence[Assignment], known: Collection[int] = ()) -> Collected:
        """Do `evaluate` for several children, and return as soon as some have their outcomes; see `Collected`.

        The caller calls again for the others. A call may be repeated.

        Args:
            assignments: children to be trained, unless they have been.
            known: the ids of further ones, whose assignments the pool has from earlier calls.
        """
        await self.opened()
        requested = await self._backlog.request(assignments)
        results = {assignment.child_id: result for assignment, result in zip(assignments, requested, strict=True)}
        found = {child_id: self._backlog.requested(child_id) for child_id in known}
        results |= {child_id: result for child_id, result in found.items() if result is not None}
        unknown = frozenset(found.keys() - results.keys())
        ended = await first_results(results, wait=not unknown)
        return Collected(ended=tuple(ended), unknown=unknown)

    async def beat(self, slot: int, place: str, key: str | None) -> bool:
        """Accept a worker's heartbeat; return whether it must give back the children of the order `key`."""
        await self.opened()
        worker = self._workers.get(slot)
        if worker is None:
            return False
        if place == worker.place or (worker.attempts and place == worker.attempts[0].worker):
            worker.heard_at = self._clock()
        elif worker.slot in self._idle and place not in worker.ended:
            self._request_report(worker)  # its process ended while it was idle, and this is the next one
        return key is not None and (worker.preempt_requested or worker.key != key)

    async def grow(self, slots: int, again: Collection[int] = ()) -> WorkerCensus:
        """Raise the number of workers to `slots`; those of the slots in `again`, which were lost, have been replaced.

        Must be called repeatedly: a pool that was started again knows the first workers only.
        """
        await self.opened()
        for slot in (*range(self._slots, slots), *again):
            if slot not in self._workers:
                self._workers[slot] = WorkerState(slot=slot, heard_at=self._clock())
                self._request_report(self._workers[slot])
        self._slots = max(self._slots, slots)
        up = Counter(worker.node for worker in self._workers.values() if worker.node is not None)
        return WorkerCensus(up=up, lost=tuple(slot for slot in range(self._slots) if slot not in self._workers))

    async def stop(self, *, give_back: bool = True) -> None:
        """Begin nothing more; return when nothing is in training, and all that ended is in the ledger.

        With `give_back`, those in training are preempted where children save their state.
        """
        await self.opened()
        self._stopping = True
        self._gives_back |= give_back
        self._watch()
        while self._backlog.settling or self._concluding or any(w.attempts for w in self._workers.values()):
            if self._tasks.failure:
                raise self._tasks.failure
            await asyncio.sleep(RETRY_DELAY_S)

    async def next_news(self) -> str:
        """Wait for the next line about the workers that the user should read, and return it.

        Raises:
            NoWorkers: with the reason, if the last worker is lost and no other can be expected.
            LostWeights: a child cannot begin, and no other is begun.
            Exception: any error that keeps the pool from its work, such as a ledger that cannot be written.
        """
        await self.opened()
        news = await self._news.get()
        if isinstance(news, BaseException):
            raise news
        return news

    async def _open(self) -> None:
        self._nodes = await self._group.nodes()
        if self._sharing:
            self._memory = memory_uses(await self._ledger.memory_uses())
        last, running = await asyncio.gather(self._ledger.last_child(), self._ledger.running())
        self._backlog.new = NewChildren(last)
        for attempts in _by_order(running):
            await self._backlog.resume(attempts)
            # A worker that was added after the start is unknown until the next call of `grow`.
            worker = self._workers.setdefault(attempts[0].slot, WorkerState(slot=attempts[0].slot))
            if worker.attempts:  # a slot has one order: the end of the older one cannot be known any more
                await self._backlog.void(worker.attempts, Verdict.LOST)
            worker.attempts, worker.last_place, worker.gpu_use = attempts, attempts[0].worker, attempts[0].gpu
        for worker in self._workers.values():
            worker.heard_at = self._clock()
            self._request_report(worker)
        self._tasks.start(self._keep_watch())

    def _assign(self) -> None:
        if self._idle and self._backlog.waiting and not self._stopping:
            waiting, nodes = self._backlog.groups(), self._nodes
            if self._sharing:
                self._assign_to_gpus(list(waiting.values()), self._sharing)
                return
            for begin in assign(candidates(self._idle, waiting, nodes), waiting.values(), nodes, living=self._living):
                self._begin(begin)

    def _assign_to_gpus(self, waiting: Sequence[Waiting], sharing: GpuSharing) -> None:
        in_use: dict[str, float] = {}
        for use in [worker.gpu_use for worker in self._workers.values() if worker.gpu_use]:
            in_use[use.gpu] = in_use.get(use.gpu, 0.0) + use.share
        idle = list(self._idle.values())
        for begin in assign_to_gpus(idle, waiting, self._nodes, in_use, sharing, self._memory.correction()):
            self._begin(begin)

    def _learn_memory(self, attempt: Attempt, outcome: Outcome) -> None:
        if attempt.gpu:
            self._memory.add(attempt.gpu.predicted_bytes, outcome.gpu_bytes)

    def _living(self) -> set[int]:
        return {w.slot for w in self._workers.values() if w.place and w.node not in self._nodes.draining}

    def _begin(self, begin: Begin) -> None:
        worker = self._idle.pop(begin.slot)
        assert worker.place is not None
        order = self._backlog.hand_out(begin, self._new_key(), worker.place)
        worker.gpu_use = begin.gpu
        worker.attempts = attempts = order.attempts(worker.slot, now := self._clock())
        worker.preempt_requested, worker.heard_at = False, now
        self._tasks.start(self._run(worker, attempts, order))

    async def _run(self, worker: WorkerState, attempts: tuple[Attempt, ...], order: TrainingOrder) -> None:
        await self._ledger.start(attempts)
        if worker.attempts is attempts:
            try:
                outcomes = await self._group.train(worker.slot, order)
            except CallLost:
                pass  # the worker's report settles the attempts
            except NotStarted as error:
                if isinstance(error, FusionRefused):
                    self._train_alone(order.assignment, str(error))
                await self._backlog.void(attempts)
                if worker.attempts is attempts:
                    worker.attempts = ()
            except LostWeights:
                # An attempt that was given up may come too late: its child has ended, and the weights were removed.
                if worker.attempts is attempts:
                    # The run ends with this error, and the child may begin when it is resumed.
                    self._stopping = True
                    await self._backlog.void(attempts)
                    raise
            else:
                await self._backlog.conclude(attempts, outcomes, preempt_requested=worker.preempt_requested)
                if worker.attempts is attempts:
                    self._free(worker, outcomes)
                    return
        await self._enlist(worker)

    def _train_alone(self, assignment: Assignment, reason: str) -> None:
        self._backlog.train_alone(assignment)
        if reason not in self._refusals:
            self._refusals.add(reason)
            self._news.put_nowait(f"`--fuse-seeds` trains no seeds of a network as one: {reason}.")

    def _free(self, worker: WorkerState, outcomes: Sequence[Outcome]) -> None:
        """Free a worker that has returned its attempts' outcomes for another child."""
        worker.trained += len(outcomes)
        worker.restart_reason = restart_reason_after(
            outcomes, preempt_requested=worker.preempt_requested, renew_crashed=self._options.renew_crashed
        )
        worker.attempts, worker.preempt_requested = (), False
        self._use(worker)

    def _use(self, worker: WorkerState) -> None:
        worker.gpu_use = None
        if reason := restart_reason(worker, self._options.rules):
            self._restart(Restart(slot=worker.slot, cause=None, reason=reason))
        else:
            self._idle[worker.slot] = worker
            self._assign()

    def _request_report(self, worker: WorkerState) -> None:
        """Request the worker's report in the background; until it comes, the worker gets no child."""
        self._idle.pop(worker.slot, None)
        worker.place = None
        self._tasks.start(self._enlist(worker))

    async def _enlist(self, worker: WorkerState) -> None:
        """Wait for the worker's report, settle the attempts that it may have ended by, and use the worker."""
        worker.place = None
        while True:
            try:
                report = await self._group.report(worker.slot)
            except WorkerLost as error:
                await self._lose(worker, str(error))
                return
            key = worker.key
            if attempts := worker.attempts:
                await self._settle_lost_call(worker, attempts, report)
            if report.key and report.key != key:
                if concluding := self._concluding.get(report.key):
                    await concluding  # if the late outcome were recorded first, the child would never be retried
                await self._ledger.end([AttemptEnd(*late, Verdict.LATE) for late in report.by_key()])
            if report.place not in worker.ended:
                break
            await asyncio.sleep(RETRY_DELAY_S)  # the report came from a process that is being ended
        if worker.last_place not in (None, report.place, *worker.ended):
            worker.ended.append(worker.last_place)
        worker.place = worker.last_place = report.place
        worker.node, worker.trained, worker.gpu = report.node, report.trained, report.gpu
        worker.attempts, worker.preempt_requested, worker.restart_reason, worker.abandoned_at = (), False, None, None
        self._ever_up = True
        self._use(worker)

    async def _settle_lost_call(self, worker: WorkerState, attempts: tuple[Attempt, ...], report: Report) -> None:
        cause = await self._cause_of_exit(worker)
        found = [outcome_of_lost_call(report, attempt, cause) for attempt in attempts]
        if outcomes := [outcome for outcome in found if outcome is not None]:  # all have one, or none has
            await self._backlog.conclude(attempts, outcomes)
        else:
            await self._backlog.void(attempts)
        if worker.attempts is attempts:
            worker.attempts = ()

    async def _lose(self, worker: WorkerState, reason: str) -> None:
        self._workers.pop(worker.slot, None)
        if attempts := worker.attempts:
            cause = await self._cause_of_exit(worker)
            await self._backlog.conclude(attempts, _failed(attempts, cause, reason))
        last = NoWorkers(f"no worker is left; the last one reported: {reason}")
        others_expected = self._workers or (self._options.replaced and self._ever_up)
        self._news.put_nowait(f"A worker is lost: {reason}" if others_expected else last)

    async def _cause_of_exit(self, worker: WorkerState) -> Cause:
        self._nodes = await self._group.nodes()
        return cause_of_exit(worker.node, self._nodes)

    async def _keep_watch(self) -> None:
        while True:
            await self._next_poll()
            self._nodes = await self._group.nodes()
            self._watch()
            self._assign()

    def _watch(self) -> None:
        now, workers = self._clock(), list(self._workers.values())
        for action in watch(now, workers, self._nodes, self._options.rules, stopping=self._gives_back):
            self._carry_out(action)
        waiting = 0 if self._stopping else len(self._backlog.waiting)
        if line := shortage(now, workers, self._nodes, waiting, reported=self._shortage_reported):
            self._shortage_reported = not self._shortage_reported
            self._news.put_nowait(line)

    def _carry_out(self, action: WorkerAction) -> None:
        worker = self._workers[action.slot]
        attempts, key = worker.attempts, worker.key
        match action:
            case Preempt():
                worker.preempt_requested = True
            case Abandon():
                worker.attempts, worker.abandoned_at = (), self._clock()
            case Restart():
                self._restart(action)
        if key is not None and not isinstance(action, Preempt) and action.cause is not None:
            ends = self._backlog.conclude(attempts, _failed(attempts, action.cause, action.reason))
            concluding = self._concluding[key] = self._tasks.start(ends)
            concluding.add_done_callback(lambda _: self._concluding.pop(key))

    def _restart(self, action: Restart) -> None:
        """End the worker's process; a task that waits for its report, or a new one, enlists the next process."""
        worker = self._workers[action.slot]
        waited_for = bool(worker.attempts) or worker.place is None
        assert worker.last_place is not None
        worker.ended.append(worker.last_place)
        worker.attempts, worker.place, worker.abandoned_at = (), None, None
        self._idle.pop(worker.slot, None)
        self._tasks.start(self._group.restart(worker.slot, worker.last_place))
        if not waited_for:
            self._request_report(worker)


def _by_order(attempts: Sequence[Attempt]) -> list[tuple[Attempt, ...]]:
    """Return attempts that have not ended, the oldest first, those of an order together."""
    orders: dict[str, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.started_at):
        orders.setdefault(key_of_all(attempt.key), []).append(attempt)
    return [tuple(order) for order in orders.values()]


def _failed(attempts: Sequence[Attempt], cause: Cause, reason: str) -> list[Outcome]:
    return [Outcome.failed(cause, reason, seed=attempt.seed) for attempt in attempts]
