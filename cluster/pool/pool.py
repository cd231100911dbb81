"""The pool: hands children to workers and settles what became of each attempt. Knows neither Ray nor the clock.

What the pool knows is in the ledger or can be asked of the workers, so that it may die at any moment and be
started again: a worker keeps the outcome of its last attempt until it gets another child.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

from child_trainer.outcome import Cause, Outcome
from cluster.pool.background_tasks import AGAIN_S, Tasks, next_look
from cluster.pool.backlog import Backlog
from cluster.pool.protocol import (
    BrokenOff,
    Crew,
    Gone,
    Muster,
    NotBegun,
    NoWorkers,
    Order,
    PoolLedger,
    Report,
    settled_by,
)
from cluster.pool.supervision import (
    Begin,
    Decision,
    GiveUp,
    Nodes,
    Restart,
    TakeBack,
    Terms,
    WorkerState,
    assign,
    cause_of_death,
    enough,
    shortage,
    watch,
    wear,
    worn_by,
)
from cluster.search.evaluator import Assignment
from cluster.search.records import Attempt, Verdict


class Pool:
    """Hands children to workers, first come, first served. A child that is asked for twice is trained once.

    Args:
        slots: how many workers there are, numbered from 0.
        crew: the workers.
        ledger: told of every attempt before it begins and when it has ended.
        terms: what the pool goes by.
        clock: gives the Unix time.
        new_key: names an attempt.
        look: returns when the fleet is to be looked at again.
    """

    def __init__(
        self,
        slots: int,
        crew: Crew,
        ledger: PoolLedger,
        terms: Terms,
        *,
        clock: Callable[[], float],
        new_key: Callable[[], str],
        look: Callable[[], Awaitable[None]] = next_look,
    ) -> None:
        self._crew, self._ledger, self._terms = crew, ledger, terms
        self._clock, self._new_key, self._look = clock, new_key, look
        self._slots = slots
        self._workers = {slot: WorkerState(slot=slot) for slot in range(slots)}
        self._idle: dict[int, WorkerState] = {}  # in the order in which they became so
        self._nodes = Nodes()
        self._backlog = Backlog(
            ledger, terms.reactions, terms.batch_size, on_waiting=self._assign, on_settled=crew.forget
        )
        self._news: asyncio.Queue[str | BaseException] = asyncio.Queue()
        self._stopping = self._short = self._ever_up = False
        self._opening: asyncio.Task[None] | None = None
        self._tasks = Tasks(on_error=self._news.put_nowait)
        self._verdicts: dict[str, asyncio.Task[None]] = {}  # of attempts that are being given up, by their keys

    async def opened(self) -> None:
        """Take up, once, what is known of the workers and of what they train; every call awaits it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def evaluate(self, assignment: Assignment) -> Outcome:
        """The child's outcome: trained on the next idle worker, or as the ledger already has it."""
        await self.opened()
        return await self._backlog.result(assignment)

    async def beat(self, slot: int, place: str, key: str | None) -> bool:
        """A worker's sign of life; whether it is to give back the child of the attempt `key`."""
        await self.opened()
        worker = self._workers.get(slot)
        if worker is None:
            return False
        attempt = worker.attempt
        if place == worker.place or (attempt is not None and place == attempt.worker):
            worker.heard_at = self._clock()
        elif worker.slot in self._idle and place not in worker.ended:
            self._ask(worker)  # it died while it was idle, and this is the next process
        return key is not None and (worker.asked_back or attempt is None or attempt.key != key)

    async def grow(self, slots: int, again: Collection[int] = ()) -> Muster:
        """From now on there are `slots` workers; of those that were lost, others were started for the ones in `again`.

        May be repeated, and must be: a pool that was started again knows of the first workers only.
        """
        await self.opened()
        for slot in (*range(self._slots, slots), *again):
            if slot not in self._workers:
                self._workers[slot] = WorkerState(slot=slot, heard_at=self._clock())
                self._ask(self._workers[slot])
        self._slots = max(self._slots, slots)
        up = Counter(worker.node for worker in self._workers.values() if worker.node is not None)
        return Muster(up=up, lost=tuple(slot for slot in range(self._slots) if slot not in self._workers))

    async def stop(self) -> None:
        """Begin nothing more; returns when nothing is in training, and all that ended is in the ledger.

        Where children save their state, those in training are asked to give their places back.
        """
        await self.opened()
        self._stopping = True
        self._watch()
        while self._backlog.settling or self._verdicts or any(w.attempt for w in self._workers.values()):
            if self._tasks.failure:
                raise self._tasks.failure
            await asyncio.sleep(AGAIN_S)

    async def next_news(self) -> str:
        """Waits for what whoever runs the search should know of its workers: a line for people.

        Raises:
            NoWorkers: with the reason, if the last worker is lost and there is no hope of another.
            Exception: whatever keeps the pool from its work, such as a ledger that cannot be written.
        """
        await self.opened()
        news = await self._news.get()
        if isinstance(news, BaseException):
            raise news
        return news

    async def _open(self) -> None:
        self._nodes = await self._crew.nodes()
        for attempt in sorted(await self._ledger.running(), key=lambda attempt: attempt.started_at):
            await self._backlog.resume(attempt)
            # A worker that came later than the first ones is made known again by `grow`.
            worker = self._workers.setdefault(attempt.slot, WorkerState(slot=attempt.slot))
            if worker.attempt is not None:  # a slot has one attempt: of the older one nobody can tell any more
                await self._backlog.void(worker.attempt, Verdict.LOST)
            worker.attempt, worker.last_place = attempt, attempt.worker
        for worker in self._workers.values():
            worker.heard_at = self._clock()
            self._ask(worker)
        self._tasks.start(self._keep_watch())

    def _assign(self) -> None:
        waiting, nodes = self._backlog.waiting, self._nodes
        if self._idle and waiting and not self._stopping:
            for begin in assign(enough(self._idle, waiting, nodes), waiting.values(), nodes, living=self._living):
                self._begin(begin)

    def _living(self) -> set[int]:
        return {w.slot for w in self._workers.values() if w.place and w.node not in self._nodes.draining}

    def _begin(self, begin: Begin) -> None:
        worker = self._idle.pop(begin.slot)
        assert worker.place is not None
        order = self._backlog.give_out(begin.child_id, self._new_key(), worker.place)
        attempt = order.begun(worker.slot, self._clock())
        worker.attempt, worker.asked_back, worker.heard_at = attempt, False, attempt.started_at
        self._tasks.start(self._run(worker, attempt, order))

    async def _run(self, worker: WorkerState, attempt: Attempt, order: Order) -> None:
        await self._ledger.start(attempt)
        if worker.attempt is attempt:
            try:
                outcome = await self._crew.train(worker.slot, order)
            except BrokenOff:
                pass  # what the worker reports settles the attempt
            except NotBegun:
                await self._backlog.void(attempt)
                if worker.attempt is attempt:
                    worker.attempt = None
            else:
                await self._backlog.conclude(attempt, outcome, taken_back=worker.asked_back)
                if worker.attempt is attempt:
                    self._free(worker, outcome)
                    return
        await self._enlist(worker)

    def _free(self, worker: WorkerState, outcome: Outcome) -> None:
        """The worker has answered for its attempt and may get another child."""
        worker.trained += 1
        worker.worn = worn_by(outcome, asked_back=worker.asked_back, renew_crashed=self._terms.renew_crashed)
        worker.attempt, worker.asked_back = None, False
        self._use(worker)

    def _use(self, worker: WorkerState) -> None:
        if reason := wear(worker, self._terms.rules):
            self._restart(Restart(slot=worker.slot, cause=None, reason=reason))
        else:
            self._idle[worker.slot] = worker
            self._assign()

    def _ask(self, worker: WorkerState) -> None:
        """Have it report by and by; from this moment on it gets nothing, and is not asked a second time."""
        self._idle.pop(worker.slot, None)
        worker.place = None
        self._tasks.start(self._enlist(worker))

    async def _enlist(self, worker: WorkerState) -> None:
        """Have the worker report, settle the attempt that it is suspected to have ended, and use it."""
        worker.place = None
        while True:
            try:
                report = await self._crew.report(worker.slot)
            except Gone as error:
                await self._lose(worker, str(error))
                return
            attempt = worker.attempt
            if attempt is not None:
                await self._settle_suspect(worker, attempt, report)
            if report.key and (attempt is None or attempt.key != report.key):
                if verdict := self._verdicts.get(report.key):
                    await verdict  # a late word that came first would leave the child with nobody
                await self._ledger.end_attempt(report.key, report.outcome, Verdict.LATE)
            if report.place not in worker.ended:
                break
            await asyncio.sleep(AGAIN_S)  # the process that answered is one that was ended
        if worker.last_place not in (None, report.place, *worker.ended):
            worker.ended.append(worker.last_place)
        worker.place = worker.last_place = report.place
        worker.node, worker.trained = report.node, report.trained
        worker.attempt, worker.asked_back, worker.worn, worker.given_up_at = None, False, None, None
        self._ever_up = True
        self._use(worker)

    async def _settle_suspect(self, worker: WorkerState, attempt: Attempt, report: Report) -> None:
        outcome = settled_by(report, attempt, await self._cause_of_death(worker))
        if outcome is None:
            await self._backlog.void(attempt)
        else:
            await self._backlog.conclude(attempt, outcome)
        if worker.attempt is attempt:
            worker.attempt = None

    async def _lose(self, worker: WorkerState, reason: str) -> None:
        self._workers.pop(worker.slot, None)
        if worker.attempt is not None:
            cause = await self._cause_of_death(worker)
            outcome = Outcome.failed(cause, reason, seed=worker.attempt.seed)
            await self._backlog.conclude(worker.attempt, outcome)
        last = NoWorkers(f"no worker is left; the last one said: {reason}")
        hope = self._workers or (self._terms.replaced and self._ever_up)
        self._news.put_nowait(f"A worker is lost: {reason}" if hope else last)

    async def _cause_of_death(self, worker: WorkerState) -> Cause:
        self._nodes = await self._crew.nodes()
        return cause_of_death(worker.node, self._nodes)

    async def _keep_watch(self) -> None:
        while True:
            await self._look()
            self._nodes = await self._crew.nodes()
            self._watch()
            self._assign()

    def _watch(self) -> None:
        now, workers = self._clock(), list(self._workers.values())
        for decision in watch(now, workers, self._nodes, self._terms.rules, stopping=self._stopping):
            self._carry_out(decision)
        waiting = 0 if self._stopping else len(self._backlog.waiting)
        if line := shortage(now, workers, self._nodes, waiting, told=self._short):
            self._short = not self._short
            self._news.put_nowait(line)

    def _carry_out(self, decision: Decision) -> None:
        worker = self._workers[decision.slot]
        attempt = worker.attempt
        match decision:
            case TakeBack():
                worker.asked_back = True
            case GiveUp():
                worker.attempt, worker.given_up_at = None, self._clock()
            case Restart():
                self._restart(decision)
        if attempt is not None and not isinstance(decision, TakeBack) and decision.cause is not None:
            outcome = Outcome.failed(decision.cause, decision.reason, seed=attempt.seed)
            verdict = self._verdicts[attempt.key] = self._tasks.start(self._backlog.conclude(attempt, outcome))
            verdict.add_done_callback(lambda _: self._verdicts.pop(attempt.key))

    def _restart(self, decision: Restart) -> None:
        """End the worker's process; whoever waits for its word, if anyone does, enlists the next one."""
        worker = self._workers[decision.slot]
        waited_for = worker.attempt is not None or worker.place is None
        assert worker.last_place is not None
        worker.ended.append(worker.last_place)
        worker.attempt, worker.place, worker.given_up_at = None, None, None
        self._idle.pop(worker.slot, None)
        self._tasks.start(self._crew.restart(worker.slot, worker.last_place))
        if not waited_for:
            self._ask(worker)
