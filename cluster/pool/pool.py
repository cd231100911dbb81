"""The pool: hands children to workers and settles what became of each attempt. Knows neither Ray nor the clock.

What the pool knows is in the ledger or can be asked of the workers, so that it may die at any moment and be
started again: a worker keeps the outcome of its last attempt until it gets another child.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from child_trainer.outcome import Cause, Outcome
from cluster.evaluator import Assignment
from cluster.pool.backlog import Backlog
from cluster.pool.crew import BrokenOff, Crew, Gone, NotBegun, NoWorkers, Order, PoolLedger, Report, settled_by
from cluster.pool.supervision import (
    Begin,
    Decision,
    GiveUp,
    Member,
    Nodes,
    Restart,
    TakeBack,
    Terms,
    assign,
    cause_of_death,
    shortage,
    watch,
    wear,
    worn_by,
)
from cluster.pool.tasks import Tasks
from cluster.records import Attempt, Verdict

WATCH_S = 1.0
"""Seconds between two looks at the whole fleet."""

AGAIN_S = 0.05
"""Seconds between two questions to a worker whose process is ending."""


class Pool:
    """Hands children to workers, first come, first served. A child that is asked for twice is trained once.

    Args:
        slots: how many workers there are, numbered from 0.
        crew: the workers.
        ledger: told of every attempt before it begins and when it has ended.
        terms: what the pool goes by.
        clock: gives the Unix time.
        new_key: names an attempt.
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
    ) -> None:
        self._crew, self._ledger, self._terms = crew, ledger, terms
        self._clock, self._new_key = clock, new_key
        self._slots = slots
        self._members = {slot: Member(slot=slot) for slot in range(slots)}
        self._idle: dict[int, Member] = {}  # in the order in which they became so
        self._nodes = Nodes()
        self._backlog = Backlog(
            ledger, terms.reactions, terms.batch_size, on_waiting=self._assign, on_settled=crew.forget
        )
        self._news: asyncio.Queue[str | BaseException] = asyncio.Queue()
        self._stopping = self._short = False
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
        member = self._members.get(slot)
        if member is None:
            return False
        attempt = member.attempt
        if place == member.place or (attempt is not None and place == attempt.worker):
            member.heard_at = self._clock()
        elif member.slot in self._idle and place not in member.ended:
            self._ask(member)  # it died while it was idle, and this is the next process
        return key is not None and (member.asked_back or attempt is None or attempt.key != key)

    async def grow(self, slots: int) -> Mapping[str, int]:
        """From now on there are `slots` workers; those that are known and those that were lost stay so.

        May be repeated, and must be: a pool that was started again knows of the first workers only.

        Returns:
            How many workers are up on each node, by its id.
        """
        await self.opened()
        for slot in range(self._slots, slots):
            if slot not in self._members:
                self._members[slot] = Member(slot=slot, heard_at=self._clock())
                self._ask(self._members[slot])
        self._slots = max(self._slots, slots)
        return Counter(member.node for member in self._members.values() if member.node is not None)

    async def stop(self) -> None:
        """Begin nothing more; returns when nothing is in training, and all that ended is in the ledger.

        Where children save their state, those in training are asked to give their places back.
        """
        await self.opened()
        self._stopping = True
        self._watch()
        while self._backlog.settling or self._verdicts or any(m.attempt for m in self._members.values()):
            if self._tasks.failure:
                raise self._tasks.failure
            await asyncio.sleep(AGAIN_S)

    async def next_news(self) -> str:
        """Waits for what whoever runs the search should know of its workers: a line for people.

        Raises:
            NoWorkers: with the reason, if the last worker can never be started again.
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
            member = self._members.setdefault(attempt.slot, Member(slot=attempt.slot))
            if member.attempt is not None:  # a slot has one attempt: of the older one nobody can tell any more
                await self._backlog.void(member.attempt, Verdict.LOST)
            member.attempt, member.last_place = attempt, attempt.worker
        for member in self._members.values():
            member.heard_at = self._clock()
            self._ask(member)
        self._tasks.start(self._keep_watch())

    def _assign(self) -> None:
        if not self._stopping:
            idle, nodes = list(self._idle.values()), self._nodes
            living = {m.slot for m in self._members.values() if m.place and m.node not in nodes.draining}
            for begin in assign(idle, self._backlog.waiting.values(), nodes, living=living):
                self._begin(begin)

    def _begin(self, begin: Begin) -> None:
        member = self._idle.pop(begin.slot)
        assert member.place is not None
        order = self._backlog.give_out(begin.child_id, self._new_key(), member.place)
        attempt = order.begun(member.slot, self._clock())
        member.attempt, member.asked_back, member.heard_at = attempt, False, attempt.started_at
        self._tasks.start(self._run(member, attempt, order))

    async def _run(self, member: Member, attempt: Attempt, order: Order) -> None:
        await self._ledger.start(attempt)
        if member.attempt is attempt:
            try:
                outcome = await self._crew.train(member.slot, order)
            except BrokenOff:
                pass  # what the worker reports settles the attempt
            except NotBegun:
                await self._backlog.void(attempt)
                if member.attempt is attempt:
                    member.attempt = None
            else:
                await self._backlog.conclude(attempt, outcome, taken_back=member.asked_back)
                if member.attempt is attempt:
                    self._free(member, outcome)
                    return
        await self._enlist(member)

    def _free(self, member: Member, outcome: Outcome) -> None:
        """The worker has answered for its attempt and may get another child."""
        member.trained += 1
        member.worn = worn_by(outcome, asked_back=member.asked_back, renew_crashed=self._terms.renew_crashed)
        member.attempt, member.asked_back = None, False
        self._use(member)

    def _use(self, member: Member) -> None:
        if reason := wear(member, self._terms.rules):
            self._restart(Restart(slot=member.slot, cause=None, reason=reason))
        else:
            self._idle[member.slot] = member
            self._assign()

    def _ask(self, member: Member) -> None:
        """Have it report by and by; from this moment on it gets nothing, and is not asked a second time."""
        self._idle.pop(member.slot, None)
        member.place = None
        self._tasks.start(self._enlist(member))

    async def _enlist(self, member: Member) -> None:
        """Have the worker report, settle the attempt that it is suspected to have ended, and use it."""
        member.place = None
        while True:
            try:
                report = await self._crew.report(member.slot)
            except Gone as error:
                await self._lose(member, str(error))
                return
            attempt = member.attempt
            if attempt is not None:
                await self._settle_suspect(member, attempt, report)
            if report.key and (attempt is None or attempt.key != report.key):
                if verdict := self._verdicts.get(report.key):
                    await verdict  # a late word that came first would leave the child with nobody
                await self._ledger.end_attempt(report.key, report.outcome, Verdict.LATE)
            if report.place not in member.ended:
                break
            await asyncio.sleep(AGAIN_S)  # the process that answered is one that was ended
        if member.last_place not in (None, report.place, *member.ended):
            member.ended.append(member.last_place)
        member.place = member.last_place = report.place
        member.node, member.trained = report.node, report.trained
        member.attempt, member.asked_back, member.worn, member.given_up_at = None, False, None, None
        self._use(member)

    async def _settle_suspect(self, member: Member, attempt: Attempt, report: Report) -> None:
        outcome = settled_by(report, attempt, await self._cause_of_death(member))
        if outcome is None:
            await self._backlog.void(attempt)
        else:
            await self._backlog.conclude(attempt, outcome)
        if member.attempt is attempt:
            member.attempt = None

    async def _lose(self, member: Member, reason: str) -> None:
        self._members.pop(member.slot, None)
        if member.attempt is not None:
            cause = await self._cause_of_death(member)
            outcome = Outcome.failed(cause, reason, seed=member.attempt.seed)
            await self._backlog.conclude(member.attempt, outcome)
        last = NoWorkers(f"no worker is left; the last one said: {reason}")
        self._news.put_nowait(f"A worker is lost: {reason}" if self._members else last)

    async def _cause_of_death(self, member: Member) -> Cause:
        self._nodes = await self._crew.nodes()
        return cause_of_death(member.node, self._nodes)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self._nodes = await self._crew.nodes()
            self._watch()
            self._assign()

    def _watch(self) -> None:
        now, members = self._clock(), list(self._members.values())
        for decision in watch(now, members, self._nodes, self._terms.rules, stopping=self._stopping):
            self._carry_out(decision)
        waiting = 0 if self._stopping else len(self._backlog.waiting)
        if line := shortage(now, members, self._nodes, waiting, told=self._short):
            self._short = not self._short
            self._news.put_nowait(line)

    def _carry_out(self, decision: Decision) -> None:
        member = self._members[decision.slot]
        attempt = member.attempt
        match decision:
            case TakeBack():
                member.asked_back = True
            case GiveUp():
                member.attempt, member.given_up_at = None, self._clock()
            case Restart():
                self._restart(decision)
        if attempt is not None and not isinstance(decision, TakeBack) and decision.cause is not None:
            outcome = Outcome.failed(decision.cause, decision.reason, seed=attempt.seed)
            verdict = self._verdicts[attempt.key] = self._tasks.start(self._backlog.conclude(attempt, outcome))
            verdict.add_done_callback(lambda _: self._verdicts.pop(attempt.key))

    def _restart(self, decision: Restart) -> None:
        """End the worker's process; whoever waits for its word, if anyone does, enlists the next one."""
        member = self._members[decision.slot]
        waited_for = member.attempt is not None or member.place is None
        assert member.last_place is not None
        member.ended.append(member.last_place)
        member.attempt, member.place, member.given_up_at = None, None, None
        self._idle.pop(member.slot, None)
        self._tasks.start(self._crew.restart(member.slot, member.last_place))
        if not waited_for:
            self._ask(member)
