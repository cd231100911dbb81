"""`Calls`: a client's calls of the servers: addresses, deadlines, retries, and failures as this package's errors."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

import grpc

from ps.errors import StoreError, StoreUnavailable, Unauthenticated, WrongRun, named_error
from ps.rpc.address_book import Address, AddressBook, AddressUnknown
from ps.rpc.frames import deserializer, serialize
from ps.rpc.requests import METHODS, call_deadline
from ps.rpc.retry import RetryableError, retry
from ps.rpc.tls import Tls
from ps.wire import ps_pb2, ps_pb2_grpc

_T = TypeVar("_T")

Attempt = Callable[[Any, dict[str, Any]], _T]
"""Makes one call, with the stub and the options that it is given."""

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


class Calls:
    """Calls the servers of `shards` shards; may be used from several threads.

    Args:
        shards: how many shards there are.
        addresses, token, tls, deadline_s, retry_timeout_s, interceptors: see `GrpcStore`.
    """

    def __init__(
        self,
        shards: int,
        addresses: Sequence[str] | Callable[[], Sequence[str]],
        *,
        token: str | None,
        tls: Tls | None,
        deadline_s: float,
        retry_timeout_s: float,
        interceptors: Sequence[Any],
    ) -> None:
        self._shards = range(shards)
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._deadline_s = deadline_s
        self._retry_timeout_s = retry_timeout_s
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(shards * _CALLERS, thread_name_prefix="grpc-store")
        self.book = AddressBook(addresses, shards, lambda host_port: _Connection(host_port, tls, interceptors))

    def on_every_shard(self, call: Callable[[int, float], _T]) -> list[_T]:
        """Return each shard's result, in order. If calls fail, wait for all and raise the first shard's error.

        `call` gets a shard, and the time at which `on_shard` gives up.
        """
        give_up_at = self.give_up_at()
        futures = [self._submit(call, shard, give_up_at) for shard in self._shards]
        wait(futures)
        return [future.result() for future in futures]

    def on_every_host(
        self, call: Callable[[Sequence[int]], Attempt[Mapping[int, _T | StoreError]]], sizes: Sequence[int]
    ) -> list[_T | StoreError]:
        """Return each shard's result or error, in order, from one call for all shards at one address.

        Only the shards that have not answered are called again, wherever each of them is then.

        Args:
            call: returns the attempt to call these shards, which are at one address, for each one's result or error.
            sizes: how many bytes a call carries for each shard.
        """
        give_up_at = self.give_up_at()
        *others, last = self.book.by_address(self._shards)
        futures = [self._submit(self._on_host, shards, give_up_at, call, sizes) for shards in others]
        results = self._on_host(last, give_up_at, call, sizes)
        wait(futures)
        for future in futures:
            results |= future.result()
        return [results[shard] for shard in self._shards]

    def on_shard(self, shard: int, give_up_at: float, attempt: Attempt[_T], size_bytes: int = 0) -> _T:
        """Attempt a call, at least once, until it succeeds, fails permanently, or it is time to give up.

        `size_bytes` is what the call carries.

        gRPC's own retry policy is not enough: it never retries a call that exceeded its deadline, stops after five
        attempts, and does not retry requests that are larger than its buffer. Neither is `wait_for_ready`: it hides
        the reason why a server is unreachable behind "deadline exceeded".
        """
        return retry(lambda: self._attempt(shard, attempt, size_bytes)[0], give_up_at, self.book.refresh, self._closed)

    def give_up_at(self) -> float:
        """Return the time of `time.monotonic` at which the retry timeout of a call that begins now is over."""
        return time.monotonic() + self._retry_timeout_s

    def send_once(self, call: Callable[[Any, int, dict[str, Any]], Any], timeout_s: float) -> None:
        """Make one attempt for each shard, all at the same time, and look up again the addresses of those that fail.

        `call` begins a call of a stub for a shard, and returns its future.
        """
        calls: list[tuple[int, Any]] = []
        for shard in self._shards:
            with suppress(AddressUnknown, ValueError):  # gRPC raises ValueError on a channel that was just closed
                address = self.book.find(shard)
                options = {"timeout": timeout_s, "metadata": self._metadata}
                calls.append((address.lookup, call(address.connection.stub, shard, options)))
        for lookup, one in calls:
            if one.code() is not grpc.StatusCode.OK:
                self.book.refresh(lookup)

    def close(self) -> None:
        """Close the connections; calls in other threads raise `StoreUnavailable`."""
        self._closed.set()
        self.book.close()

    def join(self) -> None:
        """Wait for the threads, after `close`."""
        self._pool.shutdown()

    def _submit(self, call: Callable[..., _T], *arguments: Any) -> Future[_T]:
        try:
            return self._pool.submit(call, *arguments)
        except RuntimeError as error:  # another thread has called `close`
            raise StoreUnavailable("the store is closed") from error

    def _on_host(
        self,
        shards: Sequence[int],
        give_up_at: float,
        call: Callable[[Sequence[int]], Attempt[Mapping[int, _T | StoreError]]],
        sizes: Sequence[int],
    ) -> dict[int, _T | StoreError]:
        results: dict[int, _T | StoreError] = {}

        def attempt() -> None:
            failures: list[RetryableError] = []
            for group in self.book.by_address([shard for shard in shards if shard not in results]):
                try:
                    answers, address = self._attempt(group[0], call(group), sum(sizes[shard] for shard in group))
                except RetryableError as failure:
                    failures.append(failure)
                except StoreError as error:
                    results.update(dict.fromkeys(group, error))
                else:
                    for shard, answer in answers.items():
                        if isinstance(answer, StoreError) and self._is_of_wrong_server(answer):
                            failures.append(RetryableError(answer, address.lookup))
                        else:
                            results[shard] = answer
            if failures:
                raise failures[0]

        try:
            retry(attempt, give_up_at, self.book.refresh, self._closed)
        except StoreError as error:
            results |= {shard: error for shard in shards if shard not in results}
        return results

    def _attempt(self, shard: int, attempt: Attempt[_T], size_bytes: int = 0) -> tuple[_T, Address["_Connection"]]:
        """Return the result of one attempt; raise `RetryableError` where another attempt may succeed."""
        try:
            address = self.book.find(shard)
        except AddressUnknown as error:
            reason = StoreUnavailable(f"shard {shard} was not found in {self._retry_timeout_s} s: {error}")
            raise RetryableError(reason, error.lookup) from error
        options = {"timeout": call_deadline(self._deadline_s, size_bytes), "metadata": self._metadata}
        try:
            return attempt(address.connection.stub, options), address
        except grpc.RpcError as error:
            raise self._error_of(shard, address, error) from error
        except ValueError as error:  # gRPC raises it for a call on a channel that has just been closed
            if self._closed.is_set():
                raise StoreUnavailable("the store is closed") from error
            if self.book.is_current(address):
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
        unknown = code is grpc.StatusCode.UNIMPLEMENTED and self.book.is_dynamic
        return RetryableError(named, address.lookup) if unknown or self._is_of_wrong_server(named) else named

    def _is_of_wrong_server(self, error: StoreError) -> bool:
        """Return whether another server may have taken over the address of a shard that is gone."""
        return isinstance(error, WrongRun | Unauthenticated) and self.book.is_dynamic


class _Connection:
    """A channel to one address, and the stub to call it."""

    def __init__(self, host_port: str, tls: Tls | None, interceptors: Sequence[Any]) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(host_port, _CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
            self._channel = grpc.secure_channel(host_port, credentials, _CHANNEL_OPTIONS)
        channel = grpc.intercept_channel(self._channel, *interceptors)
        self.stub: Any = ps_pb2_grpc.ParameterShardsStub(channel)
        # The methods that carry data send and receive frames.
        self.stub.Push = channel.stream_unary(f"{METHODS}Push", serialize, deserializer(ps_pb2.PushReply))
        self.stub.Pull = channel.unary_stream(f"{METHODS}Pull", serialize, deserializer(ps_pb2.PullReply))
        # A stream of one message is on the wire what a single message is, and gRPC's Python has threads for a stream.
        self.stub.PushOne = channel.unary_unary(f"{METHODS}Push", serialize, deserializer(ps_pb2.PushReply))
        self.stub.PullOne = channel.unary_unary(f"{METHODS}Pull", serialize, deserializer(ps_pb2.PullReply))

    def close(self) -> None:
        """Close the channel, which cancels the calls on it."""
        self._channel.close()
