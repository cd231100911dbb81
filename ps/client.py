"""The store behind gRPC: the local store's methods, checks and exceptions, with the shards elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import fields
from typing import Any, TypeVar

import grpc
from torch import Tensor

from ps.admission import check_layout, check_push, check_token, check_values
from ps.codec import chunks, decode, encode, encoded_size
from ps.errors import ERRORS, MalformedMessage, StoreError, StoreUnavailable
from ps.partition import partition, split
from ps.scatter import merge_acks, merge_values, split_names, split_push
from ps.shard import ShardAck, ShardPush, ShardValues
from ps.store import DEFAULT_MAX_BYTES, Ack, Layout, Push, ShardStatus, Snapshot
from ps.wire import ps_pb2, ps_pb2_grpc

_T = TypeVar("_T")

_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""What may pass when a shard is restarted elsewhere. Repeating is safe: shards deduplicate pushes."""

_PAUSE_S = 0.05, 1.0
"""First and longest pause between attempts; each is twice the last."""

_CALLERS = 8
"""Threads that may call one store at a time without waiting for each other; more share these threads."""

_CHANNEL_OPTIONS = [
    # A restarted shard should be found within a second, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class GrpcStore:
    """A `ParameterStore` whose shards are served by `ShardServer`s, all asked in parallel.

    The servers may be started later: calls wait for them as long as the patience lasts.

    Args:
        layout: must equal the servers' layout.
        addresses: `host:port` of each shard, in the order of the shards; several may share one.
        token: the servers' token.
        root_certificates: PEM of whom to trust, to speak TLS; `None` speaks plain text.
        deadline_s: seconds for one attempt of one call.
        patience_s: seconds in which failed attempts are repeated; a call takes at most this plus one deadline.
        max_bytes: limit on the tensors of the layout and of every request.

    Raises:
        ValueError: the addresses are not one per shard, or the token or a time cannot be used.
        TooLarge: the layout is above `max_bytes`.
    """

    def __init__(
        self,
        layout: Layout,
        addresses: Sequence[str],
        *,
        token: str | None = None,
        root_certificates: bytes | None = None,
        deadline_s: float = 10.0,
        patience_s: float = 60.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        check_layout(layout, max_bytes)
        if len(addresses) != layout.shards:
            raise ValueError(f"`addresses` must be one for each of {layout.shards} shards, got {len(addresses)}")
        if not deadline_s > 0 or not patience_s >= 0:
            raise ValueError(f"`deadline_s` must be above 0 and `patience_s` 0 or more, got {deadline_s}, {patience_s}")
        if token is not None:
            check_token(token)
        self._layout = layout
        self._addresses = tuple(addresses)
        self._parts = partition(layout.shapes, layout.shards)
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._max_bytes = max_bytes
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(layout.shards * _CALLERS, thread_name_prefix="grpc-store")
        self._channels = {address: _channel(address, root_certificates) for address in set(addresses)}
        stubs = {address: ps_pb2_grpc.ParameterShardsStub(channel) for address, channel in self._channels.items()}
        self._stubs = [stubs[address] for address in addresses]

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        check_values(self._layout, values, self._max_bytes)
        parts = split(self._parts, values)
        self._on_every_shard(lambda shard, until: self._initialize_shard(shard, parts[shard], until))

    def pull(self, names: Sequence[str] | None = None) -> Snapshot:
        """See `ParameterStore.pull`."""
        wanted = split_names(self._layout, self._parts, names)
        pulled = self._on_every_shard(lambda shard, until: self._pull_shard(shard, wanted[shard], until))
        return merge_values(self._layout, self._parts, pulled)

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        check_push(self._layout, push, self._max_bytes)
        parts = split_push(self._parts, push)
        acks = self._on_every_shard(lambda shard, until: self._push_shard(shard, parts[shard], until))
        return merge_acks(acks)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return self._on_every_shard(self._shard_status)

    def close(self) -> None:
        """Hang up; calls under way in other threads raise `StoreUnavailable`. The servers run on."""
        self._closed.set()
        for channel in self._channels.values():
            channel.close()
        self._pool.shutdown()

    def _initialize_shard(self, shard: int, values: Mapping[str, Tensor], until: float) -> None:
        data = encode(values)

        def requests() -> Iterator[Any]:
            for number, chunk in enumerate(chunks(data)):
                head = {} if number else {"target": self._target(shard), "size_bytes": len(data)}
                yield ps_pb2.InitializeRequest(chunk=chunk, **head)

        self._call(shard, until, lambda stub, options: stub.Initialize(requests(), **options))

    def _push_shard(self, shard: int, push: ShardPush, until: float) -> ShardAck:
        data = encode(push.gradients)

        def requests() -> Iterator[Any]:
            head = {
                "target": self._target(shard),
                "client": push.client,
                "sequence": push.sequence,
                "seen_version": push.seen_version,
                "size_bytes": len(data),
            }
            for number, chunk in enumerate(chunks(data)):
                yield ps_pb2.PushRequest(chunk=chunk, **({} if number else head))

        reply = self._call(shard, until, lambda stub, options: stub.Push(requests(), **options))
        return ShardAck(reply.version, reply.incarnation, reply.staleness, reply.duplicate)

    def _pull_shard(self, shard: int, names: Sequence[str], until: float) -> ShardValues:
        wanted = set(names)
        shapes = {s.name: (s.size,) for s in self._parts[shard] if s.name in wanted}
        limit = encoded_size(shapes)
        request = ps_pb2.PullRequest(target=self._target(shard), names=names)

        def receive(stub: Any, options: dict[str, Any]) -> ShardValues:
            data, version, incarnation = bytearray(), 0, 0
            replies = stub.Pull(request, **options)
            for reply in replies:
                data += reply.chunk
                version, incarnation = reply.version, reply.incarnation
                if len(data) > limit:
                    replies.cancel()
                    break
            if len(data) != limit:
                raise MalformedMessage(f"shard {shard} must answer with {limit} bytes, got {len(data)} or more")
            return ShardValues(decode(data), version, incarnation)

        return self._call(shard, until, receive)

    def _shard_status(self, shard: int, until: float) -> ShardStatus:
        request = ps_pb2.StatusRequest(target=self._target(shard))
        reply = self._call(shard, until, lambda stub, options: stub.Status(request, **options))
        return ShardStatus(**{field.name: getattr(reply, field.name) for field in fields(ShardStatus)})

    def _target(self, shard: int) -> Any:
        return ps_pb2.Target(run=self._layout.run, fingerprint=self._layout.fingerprint, shard=shard)

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

    def _call(self, shard: int, until: float, attempt: Callable[[Any, dict[str, Any]], _T]) -> _T:
        """Attempt a call, at least once, until it is answered or the patience is over.

        gRPC's own retry policy does not do: it never repeats what ran into its deadline, stops after five attempts,
        and gives up on requests that are larger than its buffer. Nor does `wait_for_ready`: it hides why a server
        cannot be reached behind "deadline exceeded".
        """
        options = {"timeout": self._deadline_s, "metadata": self._metadata}
        pause_s, longest_s = _PAUSE_S
        while True:
            try:
                return attempt(self._stubs[shard], options)
            except grpc.RpcError as error:
                if self._closed.is_set():
                    raise StoreUnavailable("the store is closed") from error
                if error.code() not in _RETRIED:  # pyright: ignore[reportAttributeAccessIssue] - it is a grpc.Call
                    raise self._named(shard, error) from error
                if time.monotonic() + pause_s > until:
                    raise StoreUnavailable(
                        f"{self._place(shard)} did not answer in {self._patience_s} s: {_text(error)}"
                    ) from error
            except ValueError as error:  # gRPC's answer to a call on a channel that `close` has just closed
                if self._closed.is_set():
                    raise StoreUnavailable("the store is closed") from error
                raise
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def _named(self, shard: int, error: Any) -> StoreError:
        """The exception that the server met, with its message; or what gRPC itself had to say."""
        name = dict(error.trailing_metadata() or ()).get("ps-error")
        if name in ERRORS:
            return ERRORS[name](error.details())
        return StoreError(f"{self._place(shard)} failed: {_text(error)}")

    def _place(self, shard: int) -> str:
        return f"shard {shard} at {self._addresses[shard]}"


def _channel(address: str, root_certificates: bytes | None) -> grpc.Channel:
    if root_certificates is None:
        return grpc.insecure_channel(address, _CHANNEL_OPTIONS)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root_certificates), _CHANNEL_OPTIONS)


def _text(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
