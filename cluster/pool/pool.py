"""The pool hands children to workers, and settles what each attempt gave. Knows neither Ray nor the clock.

A child on its way from the searcher to a worker, and what wraps it:

    Proposal       tokens and architecture, from the searcher          controller/searcher.py
      -> Child     with an id and later an outcome, in the ledger      controller/searcher.py
      -> Assignment    id, architecture and seed, from the replica     cluster/search/evaluator.py
      -> TrainingOrder    an attempt's key, a worker's process and the batch size, from the pool    protocol.py
      -> Attempt   the order at a slot from a time on, in the ledger; ended by an outcome and a verdict    records.py

The pool's parts:

    pool.py             sends orders to workers, and carries out what the pure parts decide
    backlog.py          the children that wait or are in training
    failure_policy.py   what follows an attempt: another one, or the child's outcome (pure)
    supervision.py      which worker gets which child, and which worker hangs (pure)
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
from cluster.pool.backlog import Backlog, NewChildren
from cluster.pool.child_weights import LostWeights
from cluster.pool.gpu_shares import GpuSharing, MemoryUses, assign_to_gpus, memory_uses
from cluster.pool.protocol import (
    CallLost,
    Collected,
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
from cluster.search.records import Attempt, Verdict


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
        )
        self._sharing = GpuSharing(options.workers_per_gpu) if options.workers_per_gpu else None
        self._memory = MemoryUses()
        self._news: asyncio.Queue[str | BaseException] = asyncio.Queue()
        self._stopping = self._gives_back = self._shortage_reported = self._ever_up = False
        self._opening: asyncio.Task[None] | None = None
        self._tasks = Tasks(on_error=self._news.put_nowait)
        self._concluding: dict[str, asyncio.Task[None]] = {}  # of attempts that the pool itself ends, by their keys

    async def opened(self) -> None:
        """Load, once, what is known of the workers and their attempts; every call awaits it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def evaluate(self, assignment: Assignment) -> Outcome:
        """Return the child's outcome: trained on the next idle worker, or as the ledger already has it."""
        await self.opened()
        # A caller that dies must not cancel the training: its successor requests the same child.
        return await asyncio.shield(await self._backlog.request(assignment))

    async def collect(self, assignments: Sequence[Assignment], known: Collection[int] = ()) -> Collected:
        """Do `evaluate` for several children, and return as soon as some have their outcomes; see `Collected`.

        The caller calls again for the others. A call may be repeated.

        Args:
            assignments: children to be trained, unless they have been.
            known: the ids of further ones, whose assignments the pool has from earlier calls.
        """
        await self.opened()
        requested = await asyncio.gather(*(self._backlog.request(assignment) for assignment in assignments))
        results = {assignment.child_id: result for assignment, result in zip(assignments, requested, strict=True)}
        found = {child_id: self._backlog.requested(child_id) for child_id in known}
        results |= {child_id: result for child_id, result in found.items() if result is not None}
        unknown = frozenset(found.keys() - results.keys())
        ended = await first_results(results, wait=not unknown)
        return Collected(ended=tuple(ended), unknown=unknown)

    async def beat(self, slot: int, place: str, key: str | None) -> bool:
        """Accept a worker's heartbeat; return whether it must give back the child of the attempt `key`."""
        await self.opened()
        worker = self._workers.get(slot)
        if worker is None:
            return False
        attempt = worker.attempt
        if place == worker.place or (attempt is not None and place == attempt.worker):
            worker.heard_at = self._clock()
        elif worker.slot in self._idle and place not in worker.ended:
            self._request_report(worker)  # its process ended while it was idle, and this is the next one
        return key is not None and (worker.preempt_requested or attempt is None or attempt.key != key)

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
        while self._backlog.settling or self._concluding or any(w.attempt for w in self._workers.values()):
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
        for attempt in sorted(running, key=lambda attempt: attempt.started_at):
            await self._backlog.resume(attempt)
            # A worker that was added after the start is unknown until the next call of `grow`.
            worker = self._workers.setdefault(attempt.slot, WorkerState(slot=attempt.slot))
            if worker.attempt is not None:  # a slot has one attempt: the end of the older one cannot be known any more
                await self._backlog.void(worker.attempt, Verdict.LOST)
            worker.attempt, worker.last_place, worker.gpu_use = attempt, attempt.worker, attempt.gpu
        for worker in self._workers.values():
            worker.heard_at = self._clock()
            self._request_report(worker)
        self._tasks.start(self._keep_watch())

    def _assign(self) -> None:
        waiting, nodes = self._backlog.waiting, self._nodes
        if self._idle and waiting and not self._stopping:
            if self._sharing:
                self._assign_to_gpus(self._sharing)
                return
            for begin in assign(candidates(self._idle, waiting, nodes), waiting.values(), nodes, living=self._living):
                self._begin(begin)

    def _assign_to_gpus(self, sharing: GpuSharing) -> None:
        in_use: dict[str, float] = {}
        for use in [worker.gpu_use for worker in self._workers.values() if worker.gpu_use]:
            in_use[use.gpu] = in_use.get(use.gpu, 0.0) + use.share
        idle, waiting = list(self._idle.values()), list(self._backlog.waiting.values())
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
        attempt = order.attempt(worker.slot, self._clock())
        worker.attempt, worker.preempt_requested, worker.heard_at = attempt, False, attempt.started_at
        self._tasks.start(self._run(worker, attempt, order))

    async def _run(self, worker: WorkerState, attempt: Attempt, order: TrainingOrder) -> None:
        await self._ledger.start(attempt)
        if worker.attempt is attempt:
            try:
                outcome = await self._group.train(worker.slot, order)
            except CallLost:
                pass  # the worker's report settles the attempt
            except NotStarted:
                await self._backlog.void(attempt)
                if worker.attempt is attempt:
                    worker.attempt = None
            except LostWeights:
                # An attempt that was given up may come too late: its child has ended, and the weights were removed.
                if worker.attempt is attempt:
                    # The run ends with this error, and the child may begin when it is resumed.
                    self._stopping = True
                    await self._backlog.void(attempt)
                    raise
            else:
                await self._backlog.conclude(attempt, outcome, preempt_requested=worker.preempt_requested)
                if worker.attempt is attempt:
                    self._free(worker, outcome)
                    return
        await self._enlist(worker)

    def _free(self, worker: WorkerState, outcome: Outcome) -> None:
        """Free a worker that has returned its attempt's outcome for another child."""
        worker.trained += 1
        worker.restart_reason = restart_reason_after(
            outcome, preempt_requested=worker.preempt_requested, renew_crashed=self._options.renew_crashed
        )
        worker.attempt, worker.preempt_requested = None, False
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
        """Wait for the worker's report, settle the attempt that it may have ended by, and use the worker."""
        worker.place = None
        while True:
            try:
                report = await self._group.report(worker.slot)
            except WorkerLost as error:
                await self._lose(worker, str(error))
                return
            attempt = worker.attempt
            if attempt is not None:
                await self._settle_lost_call(worker, attempt, report)
            if report.key and (attempt is None or attempt.key != report.key):
                if concluding := self._concluding.get(report.key):
                    await concluding  # if the late outcome were recorded first, the child would never be retried
                await self._ledger.end_attempt(report.key, report.outcome, Verdict.LATE)
            if report.place not in worker.ended:
                break
            await asyncio.sleep(RETRY_DELAY_S)  # the report came from a process that is being ended
        if worker.last_place not in (None, report.place, *worker.ended):
            worker.ended.append(worker.last_place)
        worker.place = worker.last_place = report.place
        worker.node, worker.trained, worker.gpu = report.node, report.trained, report.gpu
        worker.attempt, worker.preempt_requested, worker.restart_reason, worker.abandoned_at = None, False, None, None
        self._ever_up = True
        self._use(worker)

    async def _settle_lost_call(self, worker: WorkerState, attempt: Attempt, report: Report) -> None:
        outcome = outcome_of_lost_call(report, attempt, await self._cause_of_exit(worker))
        if outcome is None:
            await self._backlog.void(attempt)
        else:
            await self._backlog.conclude(attempt, outcome)
        if worker.attempt is attempt:
            worker.attempt = None

    async def _lose(self, worker: WorkerState, reason: str) -> None:
        self._workers.pop(worker.slot, None)
        if worker.attempt is not None:
            cause = await self._cause_of_exit(worker)
            outcome = Outcome.failed(cause, reason, seed=worker.attempt.seed)
            await self._backlog.conclude(worker.attempt, outcome)
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
        attempt = worker.attempt
        match action:
            case Preempt():
                worker.preempt_requested = True
            case Abandon():
                worker.attempt, worker.abandoned_at = None, self._clock()
            case Restart():
                self._restart(action)
        if attempt is not None and not isinstance(action, Preempt) and action.cause is not None:
            outcome = Outcome.failed(action.cause, action.reason, seed=attempt.seed)
            concluding = self._concluding[attempt.key] = self._tasks.start(self._backlog.conclude(attempt, outcome))
            concluding.add_done_callback(lambda _: self._concluding.pop(attempt.key))

    def _restart(self, action: Restart) -> None:
        """End the worker's process; a task that waits for its report, or a new one, enlists the next process."""
        worker = self._workers[action.slot]
        waited_for = worker.attempt is not None or worker.place is None
        assert worker.last_place is not None
        worker.ended.append(worker.last_place)
        worker.attempt, worker.place, worker.abandoned_at = None, None, None
        self._idle.pop(worker.slot, None)
        self._tasks.start(self._group.restart(worker.slot, worker.last_place))
        if not waited_for:
            self._request_report(worker)
