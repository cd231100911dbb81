"""Calls that share messages: which of them do, and what becomes of one that fails."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Outcome
from cluster.runners.on_ray import shared_messages
from cluster.runners.on_ray.shared_messages import AwaitedLedger, RemoteLedger, SharedMessages
from cluster.search.records import AttemptEnd, BatchResult, Ended, LedgerCall, Turn, Verdict
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Proposal
from tests.waiting import until

NETWORK = Architecture("feedforward", (node("a", "conv", "image", height=1, width=1, filters=8),), ("a",))

OUTCOME = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=1)


def test_calls_that_are_made_while_a_message_is_on_its_way_share_the_next() -> None:
    sent: list[list[int]] = []

    async def send(calls: Sequence[int]) -> list[int]:
        sent.append(list(calls))
        await asyncio.sleep(0.02)
        return [10 * call for call in calls]

    async def whole() -> list[int]:
        messages = SharedMessages(send)
        first = [asyncio.create_task(messages(number)) for number in (1, 2)]
        await asyncio.sleep(0.01)
        return await asyncio.gather(*first, *(messages(number) for number in (3, 4, 5)))

    assert asyncio.run(whole()) == [10, 20, 30, 40, 50]
    assert sent == [[1, 2], [3, 4, 5]]


def test_a_call_that_may_wait_shares_the_message_of_one_that_may_not() -> None:
    sent: list[list[int]] = []

    async def send(calls: Sequence[int]) -> Sequence[int]:
        sent.append(list(calls))
        await asyncio.sleep(0.02)
        return calls

    async def whole() -> None:
        messages = SharedMessages(send)
        patient = asyncio.create_task(messages(1, wait_s=60))
        await asyncio.sleep(0.01)
        assert sent == []
        await messages(2)
        assert (sent.pop(), await patient) == ([1, 2], 1)
        await messages(3, wait_s=0.01)  # alone
        assert sent.pop() == [3]
        busy = asyncio.create_task(messages(4))
        await asyncio.sleep(0.01)
        patient = asyncio.create_task(messages(5, wait_s=60))
        await busy
        await asyncio.sleep(0.01)
        assert sent.pop() == [4], "it waits also after a message that was on its way"
        assert sent == []
        messages.send()
        assert await patient == 5
        assert sent == [[5]]
        messages.send()  # nothing waits
        await asyncio.sleep(0.01)
        assert sent == [[5]]

    asyncio.run(whole())


def test_the_error_of_a_message_is_that_of_its_calls_and_the_next_is_sent() -> None:
    async def send(calls: Sequence[int]) -> Sequence[int]:
        if 1 in calls:
            raise OSError("lost")
        return calls

    async def whole() -> list[int | BaseException]:
        messages = SharedMessages(send)
        lost = [asyncio.create_task(messages(number)) for number in (1, 2)]
        gone = asyncio.create_task(messages(1))
        await asyncio.sleep(0)
        gone.cancel()
        return [*await asyncio.gather(*lost, return_exceptions=True), await messages(3)]

    one, two, three = asyncio.run(whole())
    assert isinstance(one, OSError)
    assert isinstance(two, OSError)
    assert three == 3


class Host:
    """A ledger's actor that refuses one call, and so every message that has it."""

    def __init__(self) -> None:
        self.messages: list[int] = []
        self.first = threading.Event()
        self.go_on = threading.Event()

    def __getattr__(self, method: str) -> Any:
        return self

    def remote(self, *arguments: Any) -> Any:
        if not isinstance(arguments[0], list):
            return lambda: self.alone(*arguments)
        calls: list[LedgerCall] = arguments[0]
        self.messages.append(len(calls))
        self.first.set()
        self.go_on.wait(10)
        refused = any(call.arguments == (3,) for call in calls)
        return lambda: None if refused else [call.arguments[0] for call in calls]

    def alone(self, number: int) -> int:
        if number == 3:
            raise ValueError("refused")
        return number


class LedgerInHere:
    """A ledger behind the handle of its actor; it notes the calls of each message, and may refuse shared ones."""

    def __init__(self, book: Ledger) -> None:
        self._book = book
        self.messages: list[list[str]] = []
        self.refuses_messages = False

    def __getattr__(self, method: str) -> Any:
        return _Method(lambda *arguments: self._call(method, arguments))

    def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        is_refused = method == "make_all" and self.refuses_messages
        is_shared = method == "make_all" and not is_refused
        self.messages.append([call.method for call in arguments[0]] if is_shared else [method])
        return None if is_refused else getattr(self._book, method)(*arguments)


class _Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def remote(self, *arguments: Any) -> Callable[[], Any]:
        return lambda: self._call(*arguments)


class AwaitedHost:
    """A ledger's actor for one event loop, which refuses the attempt `bad`; it notes the keys of each message."""

    def __init__(self) -> None:
        self.messages: list[list[str]] = []

    def __getattr__(self, method: str) -> Any:
        return _AwaitedMethod(lambda *arguments: self._make(method, arguments))

    async def _make(self, method: str, arguments: tuple[Any, ...]) -> Any:
        calls: Sequence[LedgerCall] = arguments[0] if method == "make_all" else [LedgerCall(method, arguments)]
        self.messages.append([call.arguments[0] for call in calls if call.method == "end_attempt"])
        await asyncio.sleep(0.01)
        if "bad" not in self.messages[-1]:
            return [True] * len(calls)
        if method == "make_all":
            return None
        raise ValueError("refused")


class _AwaitedMethod:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


def test_after_a_refused_message_each_member_has_a_transaction_of_its_own_before_any_later_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = AwaitedHost()
    monkeypatch.setattr(shared_messages, "actor", lambda _: host)

    def end(*keys: str) -> asyncio.Task[Sequence[bool]]:
        ends = [AttemptEnd(key, OUTCOME, Verdict.OUTCOME) for key in keys]
        return asyncio.create_task(ledger.end(ends))

    async def whole() -> None:
        first = end("first")
        await asyncio.sleep(0)
        shared = [end("k", "k+1"), end("bad")]
        await asyncio.sleep(0.015)
        later = end("later")
        assert [await first, await shared[0], await later] == [[True], [True, True], [True]]
        with pytest.raises(ValueError, match="refused"):
            await shared[1]

    ledger = AwaitedLedger()
    asyncio.run(whole())
    assert host.messages == [["first"], ["k", "k+1", "bad"], ["k", "k+1"], ["bad"], ["bad"], ["later"]]


def test_threads_share_messages_and_one_that_is_refused_is_made_call_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_messages, "answer", lambda _, call: call())
    host = Host()
    ledger: Any = RemoteLedger(host)
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(ledger.finish, 1)
        assert host.first.wait(10)
        others = [threads.submit(ledger.finish, number) for number in (2, 3, 4)]
        until(lambda: "ledger" in (gathering := ledger._calls._gathering) and len(gathering["ledger"].members) == 3)
        host.go_on.set()
        assert first.result() == 1
        assert [others[0].result(), others[2].result()] == [2, 4]
        with pytest.raises(ValueError, match="refused"):
            others[1].result()
    assert host.messages == [1, 3]


def test_calls_of_a_replica_of_which_one_follows_the_other_share_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared_messages, "answer", lambda _, call: call())
    with closing(Ledger(tmp_path / "ledger.sqlite", 1, 10)) as book:
        host = LedgerInHere(book)
        remote = RemoteLedger(host)
        for number in (1, 2):
            assert remote.turn(0) == Turn(batch=None, last_batch=number - 1, completed=number - 1)
            (child,) = remote.admit(0, number, [Proposal(tokens=(number,), architecture=NETWORK)], ()).children
            assert [record.id for record in remote.finish_all([Ended(child.id, OUTCOME, 0.5)])] == [number]
            assert remote.completed() == number
            remote.learned(0, number, BatchResult(staleness=(), figures={}))
            assert book.open_batch(0) is not None
        host.refuses_messages = True
        assert remote.turn(0, 2) == Turn(batch=None, last_batch=2, completed=2)
        assert remote.completed() == 2
        assert book.open_batch(0) is None
    messages = [["turn"], ["admit"], ["finish_all", "completed"], ["learned", "admit"], ["finish_all", "completed"]]
    assert host.messages == [*messages, ["make_all"], ["learned"], ["completed"]]


def test_a_replica_that_may_have_batches_to_learn_from_asks_for_its_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a shard fell back, in a thread that begins with an open batch, and once it was told of none."""
    monkeypatch.setattr(shared_messages, "answer", lambda _, call: call())
    result = BatchResult(staleness=(), figures={})
    with closing(Ledger(tmp_path / "ledger.sqlite", 1, 10)) as book:
        remote = RemoteLedger(LedgerInHere(book))
        for number in (1, 2):
            assert remote.turn(0, number - 1).batch is None
            assert remote.admit(0, number, [Proposal(tokens=(number,), architecture=NETWORK)], ())
            remote.learned(0, number, result)
        for number in (1, 2):  # the shards have none of these pushes, and then the first
            batch = remote.turn(0, number - 1).batch
            assert batch is not None
            assert batch.number == number
            remote.learned(0, number, result)
        book.admit(0, 3, [Proposal(tokens=(3,), architecture=NETWORK)], ())
        assert remote.turn(0, 2).batch is None  # as it was when the second batch had been learnt from
        assert remote.turn(0, 2).batch == book.open_batch(0) is not None
        successor = RemoteLedger(LedgerInHere(book))
        assert successor.turn(0, 2).batch == book.open_batch(0)
        successor.learned(0, 3, result)
        assert successor.turn(0, 3) == Turn(batch=None, last_batch=3, completed=0)
        assert book.open_batch(0) is None
