"""Calls between actors that share messages: those that are made while one is on its way share the next.

A message costs Ray about as much for one call as for a hundred, and a hundred that the ledger makes in one transaction
cost one write to the disk. A call that is alone waits for nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from child_trainer.outcome import Outcome
from cluster.runners.on_ray.handles import LEDGER, Handle, actor, answer
from cluster.search.records import Attempt, LedgerCall, Verdict
from ps.rpc.shared_calls import SharedCalls

_Call = TypeVar("_Call")
_Answer = TypeVar("_Answer")

_ALONE = object()
"""The answer to a call that has to be made without others: one of those that shared its message has failed."""


class RemoteLedger:
    """A proxy of the ledger for the threads of a process: it has the ledger's methods, and waits for their answers."""

    def __init__(self, host: Handle) -> None:
        self._host = host
        self._calls: SharedCalls[LedgerCall, Any] = SharedCalls()

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments, **keywords: self._make(LedgerCall(method, arguments, keywords))

    def _make(self, call: LedgerCall) -> Any:
        made = self._calls.call("ledger", call, self._make_all)
        if made is not _ALONE:
            return made
        return answer(self._host, getattr(self._host, call.method).remote(*call.arguments, **call.keywords))

    def _make_all(self, calls: Sequence[LedgerCall]) -> Sequence[Any]:
        try:
            answers = answer(self._host, self._host.make_all.remote(list(calls)))
        except Exception:  # the ledger has ended, which each caller learns from a call of its own
            answers = None
        return [_ALONE] * len(calls) if answers is None else answers


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

    async def start(self, attempt: Attempt) -> None:
        """See `PoolLedger.start`."""
        placed = {"slot": attempt.slot, "batch_size": attempt.batch_size}
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
