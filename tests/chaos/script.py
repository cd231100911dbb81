"""Failures as values: what goes wrong with which push on which shard, carried out once each, and counted.

A push goes to all processes with shards at the same time, to each in one call. Where the script has a failure in store
for it, these calls take turns, so that a failure always strikes at the same point of the push's life: the processes
whose first shard is below have acked it, those above have not seen it. A failure strikes the whole call of its shard.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
import torch
from torch import Tensor

from ps.rpc.client import GrpcStore
from ps.store import Layout, ParameterStore, Push

PATIENCE_S = 30.0
"""For how long a shard waits for its turn, or a test for a process: far longer than anything here takes."""


class How(StrEnum):
    """What goes wrong."""

    LOST_REQUEST = "the request is lost: the shard never sees it"
    CUT_SHORT = "the connection breaks within the request, whose first part makes sense by itself"
    LOST_REPLY = "the reply is lost: the shard has applied the push and written it"
    DUPLICATED = "the request arrives twice, and the second reply is the one that arrives"
    LATE = "the request is held up, and arrives once the client has had its next push acked"
    KILLED_BEFORE = "the shard's process is killed before the request arrives"
    KILLED_DURING = "the shard's process is killed while it works, at a point that the machine chooses"
    KILLED_AFTER = "the shard's process is killed when it has sent its reply, which is lost"
    KILLED_CLIENT = "the client's process is killed when the shard has acked"


@dataclass(frozen=True, kw_only=True)
class Fail:
    """One failure: of the push number `push` of `client`, on its way to or from `shard`."""

    client: str
    push: int
    shard: int
    how: How


class Lost(grpc.RpcError):
    """What a client sees of a request or a reply that is lost."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "lost, as the script says"

    def trailing_metadata(self) -> tuple[()]:
        return ()


class Injector(grpc.StreamUnaryClientInterceptor, grpc.UnaryUnaryClientInterceptor):
    """Carries a script out between clients and shards; of several failures at one place each takes one attempt.

    Args:
        script: what is to fail.
        kill: kills the process that serves a shard and starts it again at the same address.
        die: kills this process.
    """

    def __init__(
        self,
        script: Sequence[Fail],
        *,
        kill: Callable[[int], object] | None = None,
        die: Callable[[], object] | None = None,
    ) -> None:
        self.struck: Counter[Fail] = Counter()
        """How often each failure happened: once each, when all is over."""
        # A request that arrives twice is answered in the end, so no other failure can come after it.
        self._script = sorted(script, key=lambda fail: fail.how == How.DUPLICATED)
        self._left = list(self._script)
        self._kill = kill
        self._die = die
        self._acked: set[tuple[str, int, int]] = set()
        self.first_of: list[int] = []
        """For each shard, the first one at its address, which identifies the call."""
        self._late: list[tuple[Fail, Callable[[], Any]]] = []
        self._turn = threading.Condition()

    def finished(self) -> bool:
        """Whether every failure of the script has happened, and once only, and nothing is still held up."""
        return self.struck == Counter(self._script) and not self._late

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Treat a single message as a stream of one."""
        return self.intercept_stream_unary(
            lambda details, requests: continuation(details, next(requests)), client_call_details, iter([request])
        )

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        requests = list(request_iterator)
        head = getattr(requests[0], "message", requests[0])  # pushes are frames
        if not client_call_details.method.endswith("/Push"):
            return continuation(client_call_details, iter(requests))

        def begin(messages: Sequence[Any] = requests) -> Any:
            return continuation(client_call_details, iter(messages))

        def send() -> Any:
            call = begin()
            call.result()  # raises where the call failed
            return call

        client, sequence, shard = head.client, head.sequence, head.target.shard
        assert shard == self.first_of[shard]
        fail = self._wait_for_turn(client, sequence, shard)
        if fail is not None:
            try:
                if fail.how == How.CUT_SHORT:
                    _cut_short(head, begin)
                return self._strike(fail, lambda: _until_answered(send), begin)
            finally:
                with self._turn:
                    self.struck[fail] += 1
                    self._turn.notify_all()
        call = send()
        self._deliver_what_is_late(client, sequence, shard)
        with self._turn:
            self._acked.add((client, sequence, shard))
            self._turn.notify_all()
        return call

    def _wait_for_turn(self, client: str, sequence: int, shard: int) -> Fail | None:
        """Return the failure that this attempt meets, if any, once the shards below are done with the push."""
        with self._turn:
            of_this = [fail for fail in self._script if (fail.client, fail.push) == (client, sequence)]
            here = [fail for fail in of_this if self.first_of[fail.shard] == shard and fail in self._left]
            below = [fail for fail in of_this if self.first_of[fail.shard] < shard]
            mine = here[0] if here else None
            if mine is not None:
                self._left.remove(mine)

            def my_turn() -> bool:
                if mine is not None:
                    return all((client, sequence, lower) in self._acked for lower in self.first_of if lower < shard)
                return not any(fail in self._left or fail not in self.struck for fail in below)

            assert self._turn.wait_for(my_turn, PATIENCE_S), (
                f"push {sequence} of {client}: shard {shard} waits for ever"
            )
            return mine

    def _strike(self, fail: Fail, send: Callable[[], Any], begin: Callable[[], Any]) -> Any:
        match fail.how:
            case How.LOST_REQUEST | How.CUT_SHORT:
                pass
            case How.LOST_REPLY:
                send()
            case How.DUPLICATED:
                send()
                call = send()
                assert all(part.duplicate for part in call.result().message.parts)
                with self._turn:
                    self._acked.add((fail.client, fail.push, self.first_of[fail.shard]))
                return call
            case How.LATE:
                with self._turn:
                    self._late.append((fail, send))
            case How.KILLED_CLIENT:
                send()
                assert self._die is not None
                self._die()
            case _:
                self._strike_server(fail, send, begin)
        raise Lost

    def _strike_server(self, fail: Fail, send: Callable[[], Any], begin: Callable[[], Any]) -> None:
        assert self._kill is not None
        if fail.how == How.KILLED_AFTER:
            send()
        under_way = begin() if fail.how == How.KILLED_DURING else None
        self._kill(fail.shard)
        if under_way is not None:
            under_way.exception()  # waits until it has failed, or was answered just before

    def _deliver_what_is_late(self, client: str, sequence: int, shard: int) -> None:
        with self._turn:
            due = [
                (fail, send)
                for fail, send in self._late
                if (fail.client, self.first_of[fail.shard]) == (client, shard) and fail.push < sequence
            ]
        for fail, send in due:
            assert all(part.duplicate for part in send().result().message.parts), f"{fail} was applied twice"
            with self._turn:
                self._late.remove((fail, send))


def _cut_short(head: Any, begin: Callable[[Sequence[Any]], Any]) -> None:
    """Without any gradients it would be a push, too; the shard must see that this is not all."""
    part = type(head)()
    part.CopyFrom(head)
    refusal = begin([part]).exception()
    assert refusal.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE), refusal


def _until_answered(send: Callable[[], Any]) -> Any:
    """Retry what a failure sends: it must arrive, even if another failure has just killed its receiver."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return send()
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def connect(layout: Layout, addresses: Sequence[str], injector: Injector) -> GrpcStore:
    """Return a store whose pushes meet the script on their way."""
    injector.first_of = [addresses.index(address) for address in addresses]
    return GrpcStore(layout, addresses, deadline_s=PATIENCE_S, retry_timeout_s=2 * PATIENCE_S, interceptors=[injector])


def gradient(layout: Layout, client: str, sequence: int) -> dict[str, Tensor]:
    """Return the oracle's push: small whole numbers, so that float32 sums are exact in any order."""
    generator = torch.Generator().manual_seed(hash_of(client) + sequence)
    return {name: torch.randint(-9, 10, shape, generator=generator).float() for name, shape in layout.shapes.items()}


def hash_of(client: str) -> int:
    """Return a number for a client's name, the same in every process."""
    return int.from_bytes(client.encode()[-6:]) * 1_000


def pushes_of(layout: Layout, client: str, sequences: range) -> Iterator[Push]:
    """Yield the oracle's pushes of one client."""
    for sequence in sequences:
        gradients = gradient(layout, client, sequence)
        yield Push(client=client, sequence=sequence, gradients=gradients, versions=(0,) * layout.shards)


def assert_each_applied_once(store: ParameterStore, layout: Layout, sent: dict[str, int]) -> None:
    """With plain SGD at rate 1 from 0, the vector is minus the sum of every client's pushes 1 ... `sent[client]`."""
    total = {name: torch.zeros(shape) for name, shape in layout.shapes.items()}
    for client, last in sent.items():
        for push in pushes_of(layout, client, range(1, last + 1)):
            for name, value in push.gradients.items():
                total[name] -= value
    pulled = store.pull()
    for name, value in total.items():
        assert torch.equal(pulled.values[name], value), (name, pulled.values[name] - value)
    assert [status.pushes for status in store.status()] == [sum(sent.values())] * layout.shards
