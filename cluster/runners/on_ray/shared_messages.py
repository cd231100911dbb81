"""Calls between actors that share messages: those that are made while one is on its way share the next.

A message costs Ray about as much for one call as for a hundred, and a hundred that the ledger makes in one transaction
cost one write to the disk. A call that is alone waits for nothing, unless it may (`MAX_WAIT_S`).
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from cluster.runners.on_ray.handles import LEDGER, Handle, actor, answer
from cluster.search.records import (
    Attempt,
    AttemptEnd,
    Batch,
    BatchResult,
    Ended,
    LedgerCall,
    Turn,
    end_calls,
    start_calls,
)
from controller.searcher import ChildRecord
from ps.rpc.shared_calls import SharedCalls

_Call = TypeVar("_Call")
_Answer = TypeVar("_Answer")

MAX_WAIT_S = 0.05
"""Seconds that a call of the pool may wait for one that may not wait: within these, nothing is lost by it."""

_ALONE = object()
"""The answer to a call that has to be made without others: one of those that shared its message has failed."""


class _OfReplica(threading.local):
    """What a thread knows of its replica, besides what the ledger has.

    Attributes:
        learned: a call that waits for the next message.
        last_learned, last_admitted: batches that it has learnt from, and sampled when no batch was open.
        ended: how many children had ended when its last ones had.
        completed: the same number, until it is asked for.
    """

    learned: LedgerCall | None = None
    last_learned: int | None = None
    last_admitted: int | None = None
    ended: int = 0
    completed: int | None = None


class RemoteLedger:
    """A proxy of the ledger for the threads of a process: it has the ledger's methods, and waits for their answers.

    Each thread has one replica, whose calls share messages where one follows the other: `learned`, which needs no
    answer, goes with the next call, and `completed`, which is asked before a batch is learnt from, with `finish_all`.
    The `turn` after a batch that this thread itself has sampled and learnt from needs no message.
    """

    def __init__(self, host: Handle) -> None:
        self._host = host
        self._calls: SharedCalls[Sequence[LedgerCall], Sequence[Any]] = SharedCalls()
        self._replica = _OfReplica()

    def learned(self, replica: int, number: int, result: BatchResult) -> None:
        """See `ReplicaLedger.learned`."""
        self._replica.learned = LedgerCall("learned", (replica, number, result))
        self._replica.last_learned = number

    def turn(self, replica: int, applied: int | None = None) -> Turn:
        """See `ReplicaLedger.turn`."""
        own, number = self._replica, self._replica.last_learned
        if number is not None and own.last_admitted == number and applied in (None, number):
            # It was the replica's newest batch, there was none to learn from before it, and every shard has its push.
            own.last_admitted = None
            return Turn(batch=None, last_batch=number, completed=own.ended)
        return self._make(LedgerCall("turn", (replica, applied)))

    def admit(self, replica: int, number: int, *arguments: Any, **keywords: Any) -> Batch | None:
        """See `ReplicaLedger.admit`."""
        batch: Batch | None = self._make(LedgerCall("admit", (replica, number, *arguments), keywords))
        self._replica.last_admitted = number if batch and batch.number == number else None
        return batch

    def finish_all(self, children: Sequence[Ended]) -> Sequence[ChildRecord]:
        """See `ReplicaLedger.finish_all`."""
        records, ended = self._make_together(LedgerCall("finish_all", (children,)), LedgerCall("completed"))
        self._replica.ended = self._replica.completed = ended
        return records

    def completed(self) -> int:
        """See `ReplicaLedger.completed`; the first call after `finish_all` returns what was so then."""
        known, self._replica.completed = self._replica.completed, None
        return self._make(LedgerCall("completed")) if known is None else known

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments, **keywords: self._make(LedgerCall(method, arguments, keywords))

    def _make(self, call: LedgerCall) -> Any:
        """Make one call, and return its answer."""
        return self._make_together(call)[0]

    def _make_together(self, *asked: LedgerCall) -> Sequence[Any]:
        """Make these calls in order, after what is left from before, and return their answers."""
        learned, self._replica.learned = self._replica.learned, None
        calls = [learned, *asked] if learned else list(asked)
        made = self._calls.call("ledger", calls, self._make_all)
        if made[0] is _ALONE:
            methods = [(getattr(self._host, call.method), call) for call in calls]
            made = [answer(self._host, method.remote(*call.arguments, **call.keywords)) for method, call in methods]
        return made[len(calls) - len(asked) :]

    def _make_all(self, members: Sequence[Sequence[LedgerCall]]) -> Sequence[Sequence[Any]]:
        try:
            calls = [call for member in members for call in member]
            answers = answer(self._host, self._host.make_all.remote(calls))
        except Exception:  # the ledger has ended, which each caller learns from a call of its own
            answers = None
        if answers is None:
            return [(_ALONE,)] * len(members)
        return _divided(answers, members)


class SharedMessages(Generic[_Call, _Answer]):
    """Sends the calls of one event loop's tasks, in one message at a time.

    Args:
        send: sends a message with these calls, and returns their answers, or errors, in the same order. The next
            message begins after that.
    """

    def __init__(self, send: Callable[[Sequence[_Call]], Awaitable[Sequence[_Answer | Exception]]]) -> None:
        self._send = send
        self._waiting: list[tuple[_Call, asyncio.Future[_Answer]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._is_due = False  # whether a call is waiting that is to be sent as soon as no message is on its way

    async def __call__(self, call: _Call, *, wait_s: float = 0.0) -> _Answer:
        """Return the answer to this call; raise its error, or that of the message that had it.

        The call may wait so many seconds for one that may not, or for `send`.
        """
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self.send)
        else:
            self.send()
        return await answer

    def send(self) -> None:
        """Send what waits now, or as soon as no message is on its way."""
        self._is_due = bool(self._waiting)
        if self._is_due and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._is_due:
            self._is_due = False
            sent, self._waiting = self._waiting, []
            try:
                answers = await self._send([call for call, _ in sent])
            except Exception as error:
                answers = [error] * len(sent)
            for (_, future), one in zip(sent, answers, strict=True):
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(one, Exception):
                    future.set_exception(one)
                else:
                    future.set_result(one)


class AwaitedLedger:
    """The pool's proxy of the ledger; see `cluster.pool.protocol.PoolLedger`."""

    def __init__(self) -> None:
        self._calls = SharedMessages(_make_all)

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """See `PoolLedger.attempts`."""
        return (await self._make(LedgerCall("attempts", (child_id,))))[0]

    async def running(self) -> Sequence[Attempt]:
        """See `PoolLedger.running`."""
        return (await self._make(LedgerCall("running")))[0]

    async def last_child(self) -> int:
        """See `PoolLedger.last_child`."""
        return (await self._make(LedgerCall("last_child")))[0]

    async def memory_uses(self) -> Sequence[tuple[int, int]]:
        """See `PoolLedger.memory_uses`."""
        return (await self._make(LedgerCall("memory_uses")))[0]

    async def start(self, attempts: Sequence[Attempt]) -> None:
        """See `PoolLedger.start`."""
        await self._make(*start_calls(attempts))

    async def end(self, ends: Sequence[AttemptEnd], *, can_wait: bool = False) -> Sequence[bool]:
        """See `PoolLedger.end`."""
        return (await self._make(*end_calls(ends), wait_s=MAX_WAIT_S if can_wait else 0.0))[: len(ends)]

    def hasten(self) -> None:
        """See `PoolLedger.hasten`."""
        self._calls.send()

    async def _make(self, *calls: LedgerCall, wait_s: float = 0.0) -> Sequence[Any]:
        """Make these calls in one transaction, and return their answers."""
        return await self._calls(calls, wait_s=wait_s)


async def _make_all(members: Sequence[Sequence[LedgerCall]]) -> Sequence[Sequence[Any] | Exception]:
    """Make the calls of all members in one transaction, or those of each in one of its own if one of them fails."""
    answers = await actor(LEDGER).make_all.remote([call for member in members for call in member])
    if answers is not None:
        return _divided(answers, members)
    return [await _make_alone(member) for member in members]


async def _make_alone(member: Sequence[LedgerCall]) -> Sequence[Any] | Exception:
    ledger = actor(LEDGER)
    try:
        answers = await ledger.make_all.remote(member)
        if answers is not None:
            return answers
        # One of these has failed. By itself it says why.
        return [await getattr(ledger, call.method).remote(*call.arguments, **call.keywords) for call in member]
    except Exception as error:
        return error


def _divided(answers: Sequence[Any], members: Sequence[Sequence[LedgerCall]]) -> list[Sequence[Any]]:
    """Return the answers to each member's calls."""
    left = iter(answers)
    return [list(islice(left, len(member))) for member in members]
