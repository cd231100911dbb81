"""`GrpcStore`: the gRPC client, with the methods, checks and exceptions of the local store."""

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
from ps.rpc.address_book import Address, AddressBook, AddressUnknown
from ps.rpc.heartbeat import Heartbeat
from ps.rpc.requests import initialize_requests, pull_request, push_requests, target_of
from ps.rpc.retry import RetryableError, retry
from ps.rpc.tls import Tls
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.split_merge import merge_acks, merge_values, pull_with_catch_up, split_names, split_push
from ps.status import ShardStatus
from ps.store import DEFAULT_MAX_BYTES, Ack, Layout, Push, Snapshot
from ps.validation import check_layout, check_push, check_token, check_values
from ps.wire import ps_pb2, ps_pb2_grpc

_T = TypeVar("_T")

_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""Failures that may be temporary: a shard is restarting elsewhere, is slow, or has moved so that its connection was
closed. Repeating is safe, as shards deduplicate pushes."""

_CALLERS = 8
"""How many threads may call one store concurrently without waiting for each other."""

_CHANNEL_OPTIONS = [
    # Reconnect to a restarted shard within a second, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # After a network partition ends, a call must not wait for TCP, whose retransmission delays have grown.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Shards are inside the cluster: an `http_proxy` of the environment, which is for the web, does not lead there.
    ("grpc.enable_http_proxy", 0),
]


class GrpcStore:
    """A `ParameterStore` whose shards are served by `ShardServer`s, all called in parallel.

    The servers may start later, or restart elsewhere: calls are retried until the retry timeout. Where the layout makes
    clients wait for each other, a heartbeat thread renews the leases of all clients that have pulled or pushed through
    this store and have not left, however long they need between two calls.

    Args:
        layout: must equal the servers' layout.
        addresses: `host:port` of each shard, in the order of the shards; several may share one. Or a callable that
            returns them soon, from any thread: it is called at the first use, and again whenever a shard is not found
            at its address. It may raise, and may return old addresses for a while.
        token: the servers' token.
        tls: this end's part of mutual TLS; `None` speaks plain text.
        deadline_s: seconds for one attempt of one call, at most the servers' `deadline_s`.
        retry_timeout_s: seconds for which failed attempts are repeated; a call takes at most this plus one deadline.
        max_bytes: limit on the tensors of the layout and of every request.
        interceptors: gRPC client interceptors, outermost first.

    Raises:
        ValueError: the addresses are not one per shard, or the token or a time is invalid.
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
        retry_timeout_s: float = 60.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        interceptors: Sequence[Any] = (),
    ) -> None:
        check_layout(layout, max_bytes)
        if not deadline_s > 0 or not retry_timeout_s >= 0:
            raise ValueError(
                f"`deadline_s` must be above 0 and `retry_timeout_s` 0 or more, got {deadline_s}, {retry_timeout_s}"
            )
        if token is not None:
            check_token(token)
        self._layout = layout
        self._parts = partition(layout.shapes, layout.shards)
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._deadline_s = deadline_s
        self._retry_timeout_s = retry_timeout_s
        self._max_bytes = max_bytes
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(layout.shards * _CALLERS, thread_name_prefix="grpc-store")
        self._book = AddressBook(addresses, layout.shards, lambda host_port: _Connection(host_port, tls, interceptors))
        rules = layout.consistency
        self._heartbeat = Heartbeat(rules.members, rules.lease_s / 4, self._send_heartbeat)

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        check_values(self._layout, values, self._max_bytes)
        parts = split(self._parts, values)
        self._on_every_shard(lambda shard, give_up_at: self._initialize_shard(shard, parts[shard], give_up_at))

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """See `ParameterStore.pull`."""
        names_by_shard = split_names(self._layout, self._parts, names)
        if client is not None:
            check_client(client)
            self._heartbeat.add(client)

        def pull_all(catching_up: bool) -> list[ShardValues | TooFarAhead]:
            def request(shard: int) -> Any:
                return pull_request(self._target(shard), names_by_shard[shard], client, catching_up=catching_up)

            return self._on_every_shard(lambda shard, give_up_at: self._pull_shard(shard, request(shard), give_up_at))

        return merge_values(self._layout, self._parts, pull_with_catch_up(pull_all))

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        check_push(self._layout, push, self._max_bytes)
        parts = split_push(self._parts, push)
        self._heartbeat.add(push.client)
        acks = self._on_every_shard(lambda shard, give_up_at: self._push_shard(shard, parts[shard], give_up_at))
        return merge_acks(acks)

    def leave(self, client: str) -> None:
        """See `ParameterStore.leave`."""
        check_client(client)
        self._heartbeat.remove(client)

        def leave_shard(shard: int, give_up_at: float) -> None:
            request = ps_pb2.LeaveRequest(target=self._target(shard), client=client)
            self._call(shard, give_up_at, lambda stub, options: stub.Leave(request, **options))

        self._on_every_shard(leave_shard)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return self._on_every_shard(self._shard_status)

    def shard_status(self, shard: int) -> ShardStatus:
        """Return one shard's counters, even if others are unavailable; raise what `status` raises."""
        return self._shard_status(shard, time.monotonic() + self._retry_timeout_s)

    def close(self) -> None:
        """Close the connections; calls in other threads raise `StoreUnavailable`. The servers keep running."""
        self._closed.set()
        self._book.close()
        self._heartbeat.close()
        self._pool.shutdown()

    def _initialize_shard(self, shard: int, values: Mapping[str, Tensor], give_up_at: float) -> None:
        self._call(
            shard,
            give_up_at,
            lambda stub, options: stub.Initialize(initialize_requests(self._target(shard), values), **options),
        )

    def _push_shard(self, shard: int, push: ShardPush, give_up_at: float) -> ShardAck:
        reply = self._call(
            shard, give_up_at, lambda stub, options: stub.Push(push_requests(self._target(shard), push), **options)
        )
        return ShardAck(reply.version, reply.incarnation, reply.staleness, reply.duplicate, reply.dropped)

    def _pull_shard(self, shard: int, request: Any, give_up_at: float) -> ShardValues | TooFarAhead:
        requested = set(request.names)
        shapes = {s.name: (s.size,) for s in self._parts[shard] if s.name in requested}
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
            return self._call(shard, give_up_at, receive)
        except TooFarAhead as refusal:
            return refusal

    def _shard_status(self, shard: int, give_up_at: float) -> ShardStatus:
        request = ps_pb2.StatusRequest(target=self._target(shard))
        reply = self._call(shard, give_up_at, lambda stub, options: stub.Status(request, **options))
        return ShardStatus(**{field.name: getattr(reply, field.name) for field in fields(ShardStatus)})

    def _target(self, shard: int) -> Any:
        return target_of(self._layout, shard)

    def _on_every_shard(self, call: Callable[[int, float], _T]) -> list[_T]:
        """Return each shard's result, in order. If calls fail, wait for all and raise the first shard's error.

        `call` gets the shard and the end of the retry timeout, one time for all shards, however long a call is queued.
        """
        give_up_at = time.monotonic() + self._retry_timeout_s
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        if self._layout.shards == 1:
            return [call(0, give_up_at)]
        try:
            futures = [self._pool.submit(call, shard, give_up_at) for shard in range(self._layout.shards)]
        except RuntimeError as error:  # another thread has called `close`
            raise StoreUnavailable("the store is closed") from error
        wait(futures)
        return [future.result() for future in futures]

    def _send_heartbeat(self, clients: list[str]) -> None:
        """Renew the clients' leases. A shard that is not reached gets the next heartbeat, perhaps at a new address."""
        timeout_s = min(self._deadline_s, self._layout.consistency.lease_s / 4)
        calls: list[tuple[int, Any]] = []
        for shard in range(self._layout.shards):
            request = ps_pb2.KeepRequest(target=self._target(shard), clients=clients)
            with suppress(AddressUnknown, ValueError):  # gRPC raises ValueError on a channel that was just closed
                address = self._book.find(shard)
                call = address.connection.stub.Keep.future(request, timeout=timeout_s, metadata=self._metadata)
                calls.append((address.lookup, call))
        for lookup, call in calls:
            if call.code() is not grpc.StatusCode.OK:
                self._book.refresh(lookup)

    def _call(self, shard: int, give_up_at: float, attempt: Callable[[Any, dict[str, Any]], _T]) -> _T:
        """Attempt a call, at least once, until it succeeds, fails permanently, or the retry timeout is over.

        gRPC's own retry policy is not enough: it never retries a call that exceeded its deadline, stops after five
        attempts, and does not retry requests that are larger than its buffer. Neither is `wait_for_ready`: it hides
        the reason why a server is unreachable behind "deadline exceeded".
        """
        return retry(lambda: self._attempt(shard, attempt), give_up_at, self._book.refresh, self._closed)

    def _attempt(self, shard: int, attempt: Callable[[Any, dict[str, Any]], _T]) -> _T:
        """Return the result of one attempt; raise `RetryableError` where another attempt may succeed."""
        try:
            address = self._book.find(shard)
        except AddressUnknown as error:
            reason = StoreUnavailable(f"shard {shard} was not found in {self._retry_timeout_s} s: {error}")
            raise RetryableError(reason, error.lookup) from error
        try:
            return attempt(address.connection.stub, {"timeout": self._deadline_s, "metadata": self._metadata})
        except grpc.RpcError as error:
            raise self._error_of(shard, address, error) from error
        except ValueError as error:  # gRPC raises it for a call on a channel that has just been closed
            if self._closed.is_set():
                raise StoreUnavailable("the store is closed") from error
            if self._book.is_current(address):
                raise
            reason = StoreUnavailable(f"shard {shard} has moved from {address.host_port}")
            raise RetryableError(reason, address.lookup) from error

    def _error_of(self, shard: int, address: Address["_Connection"], error: Any) -> Exception:
        """Return the exception that a failed call means: the server's own, or a `RetryableError`."""
        code = error.code()
        if self._closed.is_set():
            return StoreUnavailable("the store is closed")
        server, details = f"shard {shard} at {address.host_port}", f"{code.name}: {error.details()}"
        if code in _RETRIED:
            reason = StoreUnavailable(f"{server} did not answer in {self._retry_timeout_s} s: {details}")
            return RetryableError(reason, address.lookup)
        metadata = dict(error.trailing_metadata() or ())
        named = named_error(metadata, error.details()) or StoreError(f"{server} failed: {details}")
        # Another server may have taken over the address of a shard that is gone.
        wrong_server = isinstance(named, WrongRun | Unauthenticated) or code is grpc.StatusCode.UNIMPLEMENTED
        return RetryableError(named, address.lookup) if wrong_server and self._book.is_dynamic else named


class _Connection:
    """A channel to one address, and the stub to call it."""

    def __init__(self, host_port: str, tls: Tls | None, interceptors: Sequence[Any]) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(host_port, _CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
            self._channel = grpc.secure_channel(host_port, credentials, _CHANNEL_OPTIONS)
        self.stub: Any = ps_pb2_grpc.ParameterShardsStub(grpc.intercept_channel(self._channel, *interceptors))

    def close(self) -> None:
        """Close the channel, which cancels the calls on it."""
        self._channel.close()
