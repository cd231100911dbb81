"""Calls between actors that share messages: those that are made while one is on its way share the next.

A message costs Ray about as much for one call as for a hundred, and a hundred that the ledger makes in one transaction
cost one write to the disk. A call that is alone waits for nothing.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from child_trainer.outcome import Outcome
from cluster.runners.on_ray.handles import LEDGER, Handle, actor, answer
from cluster.search.records import Attempt, BatchResult, Ended, LedgerCall, Turn, Verdict
from controller.searcher import ChildRecord
from ps.rpc.shared_calls import SharedCalls

_Call = TypeVar("_Call")
_Answer = TypeVar("_Answer")

_ALONE = object()
"""The answer to a call that has to be made without others: one of those that shared its message has failed."""


class RemoteLedger:
    """A proxy of the ledger for the threads of a process: it has the ledger's methods, and waits for their answers.

    Each thread has one replica, whose calls share messages where one follows the other: `learned`, which needs no
    answer, goes with the next `turn`, and `completed`, which is asked before a batch is learnt from, with `finish_all`.
    """

    def __init__(self, host: Handle) -> None:
        self._host = host
        self._calls: SharedCalls[Sequence[LedgerCall], Sequence[Any]] = SharedCalls()
        self._replica = threading.local()

    def learned(self, replica: int, number: int, result: BatchResult) -> None:
        """See `ReplicaLedger.learned`."""
        self._replica.learned = LedgerCall("learned", (replica, number, result))

    def turn(self, replica: int, applied: int | None = None) -> Turn:
        """See `ReplicaLedger.turn`."""
        learned: LedgerCall | None = self._replica.__dict__.pop("learned", None)
        return self._make(*([learned] if learned else []), LedgerCall("turn", (replica, applied)))[-1]

    def finish_all(self, children: Sequence[Ended]) -> Sequence[ChildRecord]:
        """See `ReplicaLedger.finish_all`."""
        records, self._replica.completed = self._make(LedgerCall("finish_all", (children,)), LedgerCall("completed"))
        return records

    def completed(self) -> int:
        """See `ReplicaLedger.completed`; the first call after `finish_all` returns what was so then."""
        known: int | None = self._replica.__dict__.pop("completed", None)
        return self._make(LedgerCall("completed"))[0] if known is None else known

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments, **keywords: self._make(LedgerCall(method, arguments, keywords))[0]

    def _make(self, *calls: LedgerCall) -> Sequence[Any]:
        """Make these calls in order, and return their answers."""
        made = self._calls.call("ledger", calls, self._make_all)
        if made[0] is not _ALONE:
            return made
        methods = [(getattr(self._host, call.method), call) for call in calls]
        return [answer(self._host, method.remote(*call.arguments, **call.keywords)) for method, call in methods]

    def _make_all(self, members: Sequence[Sequence[LedgerCall]]) -> Sequence[Sequence[Any]]:
        try:
            calls = [call for member in members for call in member]
            answers = answer(self._host, self._host.make_all.remote(calls))
        except Exception:  # the ledger has ended, which each caller learns from a call of its own
            answers = None
        if answers is None:
            return [(_ALONE,)] * len(members)
        left = iter(answers)
        return [list(islice(left, len(member))) for member in members]


class SharedMessages(Generic[_Call, _Answer]):
    """Sends the calls of one event loop's tasks, in one message at a time.

    Args:
        send: sends a message with these calls, and returns their answers in the same order.
    """

    def __init__(self, send: Callable[[Sequence[_Call]], Awaitable[Sequence[_Answer]]]) -> None:
        self._send = send
        self._waiting: list[tuple[_Call, asyncio.Future[_Answer]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def __call__(self, call: _Call) -> _Answer:
        """Return the answer to this call; raise the error of the message that had it."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self) -> None:
        while self._waiting:
            sent, self._waiting = self._waiting, []
            try:
                answers = await self._send([call for call, _ in sent])
            except Exception as error:
                for _, answer in sent:
                    if not answer.done():  # its caller was cancelled
                        answer.set_exception(error)
            else:
                for (_, answer), one in zip(sent, answers, strict=True):
                    if not answer.done():
                        answer.set_result(one)


class AwaitedLedger:
    """The pool's proxy of the ledger; see `cluster.pool.protocol.PoolLedger`."""

    def __init__(self) -> None:
        self._calls = SharedMessages(_make_all)

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """See `PoolLedger.attempts`."""
        return await self._make("attempts", child_id)

    async def running(self) -> Sequence[Attempt]:
        """See `PoolLedger.running`."""
        return await self._make("running")

    async def memory_uses(self) -> Sequence[tuple[int, int]]:
        """See `PoolLedger.memory_uses`."""
        return await self._make("memory_uses")

    async def start(self, attempt: Attempt) -> None:
        """See `PoolLedger.start`."""
        placed = {"slot": attempt.slot, "batch_size": attempt.batch_size, "gpu": attempt.gpu}
        await self._make("start", attempt.child_id, attempt.worker, attempt.key, keywords=placed)

    async def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """See `PoolLedger.end_attempt`."""
        return await self._make("end_attempt", key, outcome, verdict)

    async def _make(self, method: str, *arguments: Any, keywords: Mapping[str, Any] | None = None) -> Any:
        call = LedgerCall(method, arguments, keywords or {})
        made = await self._calls(call)
        if made is not _ALONE:
            return made
        return await getattr(actor(LEDGER), method).remote(*arguments, **call.keywords)


async def _make_all(calls: Sequence[LedgerCall]) -> Sequence[Any]:
    answers = await actor(LEDGER).make_all.remote(list(calls))
    return [_ALONE] * len(calls) if answers is None else answers
