"""The store behind gRPC: the local store's methods, checks and exceptions, with the shards elsewhere."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

import grpc
from torch import Tensor

from ps.codec import decode, encoded_size
from ps.errors import (
    MalformedMessage,
    StoreError,
    StoreUnavailable,
    TooFarAhead,
    Unauthenticated,
    WrongRun,
    named_error,
)
from ps.identifiers import check_client
from ps.partition import partition, split
from ps.rpc.address_book import Directory, NoRoute, Route
from ps.rpc.heartbeat import Keeper
from ps.rpc.requests import initialize_requests, pull_request, push_requests, target_of
from ps.rpc.retry import Missed, persist
from ps.rpc.tls import Tls
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.split_merge import merge_acks, merge_values, pull_admitted, split_names, split_push
from ps.status import ShardStatus
from ps.store import DEFAULT_MAX_BYTES, Ack, Layout, Push, Snapshot
from ps.validation import check_layout, check_push, check_token, check_values
from ps.wire import ps_pb2, ps_pb2_grpc

_T = TypeVar("_T")

_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""What may pass: a shard is restarted elsewhere, is slow and gives the request up, or has moved, and its connection is
closed. Repeating is safe: shards deduplicate pushes."""

_CALLERS = 8
"""Threads that may call one store at a time without waiting for each other; more share these threads."""

_CHANNEL_OPTIONS = [
    # A restarted shard should be found within a second, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A call over a link that has been cut must not wait for TCP, whose pauses have grown, once the link is back.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]


class GrpcStore:
    """A `ParameterStore` whose shards are served by `ShardServer`s, all asked in parallel.

    The servers may be started later, or again elsewhere: calls wait for them as long as the patience lasts. Where the
    layout makes clients wait for each other, a thread keeps the leases of all that have pulled or pushed through this
    store and have not left, however long they need between two calls.

    Args:
        layout: must equal the servers' layout.
        addresses: `host:port` of each shard, in the order of the shards; several may share one. Or what gives them,
            soon and from any thread: it is asked at the first use, and again whenever a shard is not found where it
            was. It may raise, and may be behind the times for a while.
        token: the servers' token.
        tls: this end's part of mutual TLS; `None` speaks plain text.
        deadline_s: seconds for one attempt of one call.
        patience_s: seconds in which failed attempts are repeated; a call takes at most this plus one deadline.
        max_bytes: limit on the tensors of the layout and of every request.
        interceptors: gRPC client interceptors, outermost first.

    Raises:
        ValueError: the addresses are not one per shard, or the token or a time cannot be used.
        TooLarge: the layout is above `max_bytes`.
    """

    def __init__(  # noqa: PLR0913 - keywords that mean one thing each
        self,
        layout: Layout,
        addresses: Sequence[str] | Callable[[], Sequence[str]],
        *,
        token: str | None = None,
        tls: Tls | None = None,
        deadline_s: float = 10.0,
        patience_s: float = 60.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        interceptors: Sequence[Any] = (),
    ) -> None:
        check_layout(layout, max_bytes)
        if not deadline_s > 0 or not patience_s >= 0:
            raise ValueError(f"`deadline_s` must be above 0 and `patience_s` 0 or more, got {deadline_s}, {patience_s}")
        if token is not None:
            check_token(token)
        self._layout = layout
        self._parts = partition(layout.shapes, layout.shards)
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._max_bytes = max_bytes
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(layout.shards * _CALLERS, thread_name_prefix="grpc-store")
        self._directory = Directory(addresses, layout.shards, lambda address: _Connection(address, tls, interceptors))
        rules = layout.consistency
        self._keeper = Keeper(rules.members, rules.lease_s / 4, self._keep)

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        check_values(self._layout, values, self._max_bytes)
        parts = split(self._parts, values)
        self._on_every_shard(lambda shard, until: self._initialize_shard(shard, parts[shard], until))

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """See `ParameterStore.pull`."""
        wanted = split_names(self._layout, self._parts, names)
        if client is not None:
            check_client(client)
            self._keeper.add(client)

        def pull_all(catching_up: bool) -> list[ShardValues | TooFarAhead]:
            def request(shard: int) -> Any:
                return pull_request(self._target(shard), wanted[shard], client, catching_up=catching_up)

            return self._on_every_shard(lambda shard, until: self._pull_shard(shard, request(shard), until))

        return merge_values(self._layout, self._parts, pull_admitted(pull_all))

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        check_push(self._layout, push, self._max_bytes)
        parts = split_push(self._parts, push)
        self._keeper.add(push.client)
        acks = self._on_every_shard(lambda shard, until: self._push_shard(shard, parts[shard], until))
        return merge_acks(acks)

    def leave(self, client: str) -> None:
        """See `ParameterStore.leave`."""
        check_client(client)
        self._keeper.remove(client)

        def leave_shard(shard: int, until: float) -> None:
            request = ps_pb2.LeaveRequest(target=self._target(shard), client=client)
            self._call(shard, until, lambda stub, options: stub.Leave(request, **options))

        self._on_every_shard(leave_shard)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return self._on_every_shard(self._shard_status)

    def shard_status(self, shard: int) -> ShardStatus:
        """One shard's counters, whatever is with the others; raises what `status` raises."""
        return self._shard_status(shard, time.monotonic() + self._patience_s)

    def close(self) -> None:
        """Hang up; calls under way in other threads raise `StoreUnavailable`. The servers run on."""
        self._closed.set()
        self._directory.close()
        self._keeper.close()
        self._pool.shutdown()

    def _initialize_shard(self, shard: int, values: Mapping[str, Tensor], until: float) -> None:
        self._call(
            shard,
            until,
            lambda stub, options: stub.Initialize(initialize_requests(self._target(shard), values), **options),
        )

    def _push_shard(self, shard: int, push: ShardPush, until: float) -> ShardAck:
        reply = self._call(
            shard, until, lambda stub, options: stub.Push(push_requests(self._target(shard), push), **options)
        )
        return ShardAck(reply.version, reply.incarnation, reply.staleness, reply.duplicate, reply.dropped)

    def _pull_shard(self, shard: int, request: Any, until: float) -> ShardValues | TooFarAhead:
        wanted = set(request.names)
        shapes = {s.name: (s.size,) for s in self._parts[shard] if s.name in wanted}
        limit = encoded_size(shapes)

        def receive(stub: Any, options: dict[str, Any]) -> ShardValues:
            data, reply = bytearray(), ps_pb2.PullReply()
            replies = stub.Pull(request, **options)
            for reply in replies:
                data += reply.chunk
                if len(data) > limit:
                    replies.cancel()
                    break
            if len(data) != limit:
                raise MalformedMessage(f"shard {shard} must answer with {limit} bytes, got {len(data)} or more")
            return ShardValues(
                decode(data), reply.version, reply.incarnation, reply.applied if request.client else None
            )

        try:
            return self._call(shard, until, receive)
        except TooFarAhead as refusal:
            return refusal

    def _shard_status(self, shard: int, until: float) -> ShardStatus:
        request = ps_pb2.StatusRequest(target=self._target(shard))
        reply = self._call(shard, until, lambda stub, options: stub.Status(request, **options))
        return ShardStatus(**{field.name: getattr(reply, field.name) for field in fields(ShardStatus)})

    def _target(self, shard: int) -> Any:
        return target_of(self._layout, shard)

    def _on_every_shard(self, call: Callable[[int, float], _T]) -> list[_T]:
        """Each shard's result, in order; if some fail, the first failure, once none is under way any more.

        `call` is given the shard and the time at which the patience ends: of the whole, whenever its turn comes.
        """
        until = time.monotonic() + self._patience_s
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        if self._layout.shards == 1:
            return [call(0, until)]
        try:
            futures = [self._pool.submit(call, shard, until) for shard in range(self._layout.shards)]
        except RuntimeError as error:  # `close` came in between
            raise StoreUnavailable("the store is closed") from error
        wait(futures)
        return [future.result() for future in futures]

    def _keep(self, clients: list[str]) -> None:
        """Renew the clients' leases. A shard that is not reached is told the next time, perhaps elsewhere."""
        timeout_s = min(self._deadline_s, self._layout.consistency.lease_s / 4)
        calls: list[tuple[int, Any]] = []
        for shard in range(self._layout.shards):
            request = ps_pb2.KeepRequest(target=self._target(shard), clients=clients)
            with suppress(NoRoute, ValueError):  # a ValueError: gRPC's answer on a channel that was just closed
                route = self._directory.route(shard)
                call = route.connection.stub.Keep.future(request, timeout=timeout_s, metadata=self._metadata)
                calls.append((route.asked, call))
        for asked, call in calls:
            if call.code() is not grpc.StatusCode.OK:
                self._directory.refresh(asked)

    def _call(self, shard: int, until: float, attempt: Callable[[Any, dict[str, Any]], _T]) -> _T:
        """Attempt a call, at least once, until it is answered or the patience is over.

        gRPC's own retry policy does not do: it never repeats what ran into its deadline, stops after five attempts,
        and gives up on requests that are larger than its buffer. Nor does `wait_for_ready`: it hides why a server
        cannot be reached behind "deadline exceeded".
        """
        return persist(lambda: self._attempt(shard, attempt), until, self._directory.refresh, self._closed)

    def _attempt(self, shard: int, attempt: Callable[[Any, dict[str, Any]], _T]) -> _T:
        """The shard's answer; raises `Missed` where another attempt may find what this one did not."""
        try:
            route = self._directory.route(shard)
        except NoRoute as error:
            reason = StoreUnavailable(f"shard {shard} was not found in {self._patience_s} s: {error}")
            raise Missed(reason, error.asked) from error
        try:
            return attempt(route.connection.stub, {"timeout": self._deadline_s, "metadata": self._metadata})
        except grpc.RpcError as error:
            raise self._judged(shard, route, error) from error
        except ValueError as error:  # gRPC's answer to a call on a channel that has just been closed
            if self._closed.is_set():
                raise StoreUnavailable("the store is closed") from error
            if self._directory.is_current(route):
                raise
            raise Missed(StoreUnavailable(f"shard {shard} has moved from {route.address}"), route.asked) from error

    def _judged(self, shard: int, route: Route["_Connection"], error: Any) -> Exception:
        """What a failed call means: the exception that the server met, with its message, or that it was missed."""
        code = error.code()
        if self._closed.is_set():
            return StoreUnavailable("the store is closed")
        place, text = f"shard {shard} at {route.address}", f"{code.name}: {error.details()}"
        if code in _RETRIED:
            return Missed(StoreUnavailable(f"{place} did not answer in {self._patience_s} s: {text}"), route.asked)
        metadata = dict(error.trailing_metadata() or ())
        named = named_error(metadata, error.details()) or StoreError(f"{place} failed: {text}")
        # Someone else may have been given the address of a shard that is gone.
        stranger = isinstance(named, WrongRun | Unauthenticated) or code is grpc.StatusCode.UNIMPLEMENTED
        return Missed(named, route.asked) if stranger and self._directory.moves else named


class _Connection:
    """A channel to one address, and the calls on it."""

    def __init__(self, address: str, tls: Tls | None, interceptors: Sequence[Any]) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(address, _CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
            self._channel = grpc.secure_channel(address, credentials, _CHANNEL_OPTIONS)
        self.stub: Any = ps_pb2_grpc.ParameterShardsStub(grpc.intercept_channel(self._channel, *interceptors))

    def close(self) -> None:
        """Hang up; calls under way are cancelled."""
        self._channel.close()
