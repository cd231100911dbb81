"""`ShardServer`: the gRPC server. It only translates: decode, call the shard, map an exception to a status, encode."""

import hmac
import ipaddress
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ps import errors
from ps.codec import chunks, decode, encode, encoded_size
from ps.identifiers import check_client
from ps.rpc.tls import Tls
from ps.shard.durable_shard import DurableShard, close_all
from ps.shard.messages import ShardPush
from ps.store import DEFAULT_MAX_BYTES, Layout
from ps.validation import check_layout, check_token
from ps.wire import ps_pb2, ps_pb2_grpc

_THREADS = 32
"""Requests handled concurrently. A push that waits for a write occupies a thread; waiting pushes share one write."""

_DEADLINE_TOLERANCE = 1.02
"""A request's deadline may exceed the limit by this factor, as gRPC rounds it up by as much as 1 % on the wire."""

_UNLIMITED_S = 1e15
"""gRPC gives a request without a deadline more seconds than this."""

_SERVER_OPTIONS = [
    ("grpc.so_reuseport", 0),  # two servers on one port would each get some of the requests
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),  # clients send a keepalive ping every 5 s
]

_METHODS = f"/{ps_pb2.DESCRIPTOR.services_by_name['ParameterShards'].full_name}/"
"""The prefix of the names of the servicer's methods, which the health service does not have."""

_CODES: dict[type[errors.StoreError], grpc.StatusCode] = {
    errors.NotInitialized: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnknownParameter: grpc.StatusCode.NOT_FOUND,
    errors.ShapeMismatch: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NonFinite: grpc.StatusCode.INVALID_ARGUMENT,
    errors.MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooFarAhead: grpc.StatusCode.ABORTED,
    errors.LostPushes: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WrongRun: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotDurable: grpc.StatusCode.INTERNAL,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
}
"""The statuses for clients in other languages; `GrpcStore` reads the exception's name from the `ps-error` metadata."""


class ShardServer:
    """One or more shards of a layout, served until `stop`, together with the standard gRPC health service.

    Args:
        layout: the layout of the whole run; clients must have an equal one.
        indices: the shards to host here.
        directory: the folder of the snapshots, or `None` to write none.
        host: the address to listen on; beyond the loopback it requires a token.
        port: the port to listen on; 0 chooses a free one.
        token: the token that every request must carry (printable ASCII), or `None` to accept every request.
        tls: this end's part of mutual TLS; `None` speaks plain text.
        max_bytes: limit on the tensors of the layout, and so of a message.
        snapshot_interval_s: see `LocalStore`.
        deadline_s: the longest deadline, in seconds, that a request may have; one without a deadline or with a longer
            one is refused. gRPC ends a request at its deadline, so that a client which sends nothing, or does not
            read, cannot occupy a thread for longer.
        interceptors: gRPC server interceptors, outermost first.
        clock: a monotonic clock in seconds, for the members' leases.

    Raises:
        ValueError: an index is outside the layout or repeated, the deadline is not above 0, or the host is beyond the
            loopback and there is no token.
        StoreError: see the constructor of `LocalStore`.
        RuntimeError: the port is not available.
    """

    def __init__(  # noqa: PLR0913 - keywords that mean one thing each
        self,
        layout: Layout,
        indices: Sequence[int],
        directory: Path | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        tls: Tls | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        snapshot_interval_s: float = 0.0,
        deadline_s: float = 30.0,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_layout(layout, max_bytes)
        if token is None and not _is_loopback(host):
            raise ValueError(f"`token` must be given to listen beyond the loopback, got host {host!r} and no token")
        if token is not None:
            check_token(token)
        if not indices or len(set(indices)) != len(indices):
            raise ValueError(f"`indices` must name at least one shard, and none twice, got {list(indices)}")
        if not deadline_s > 0:
            raise ValueError(f"`deadline_s` must be above 0, got {deadline_s}")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shard-server")
        self._server = grpc.server(
            self._threads, interceptors=[*interceptors, _RequestStreams()], options=_SERVER_OPTIONS
        )
        host = host.strip("[]")
        name = f"[{host}]" if ":" in host else host
        if tls is None:
            bound = self._server.add_insecure_port(f"{name}:{port}")
        else:
            pair = tls.key, tls.certificate
            credentials = grpc.ssl_server_credentials([pair], tls.authorities, require_client_auth=True)
            bound = self._server.add_secure_port(f"{name}:{port}", credentials)
        self._shards = {
            index: DurableShard(layout, index, directory, snapshot_interval_s, clock=clock) for index in indices
        }
        self._health = health.HealthServicer()
        servicer = _Servicer(layout, self._shards, token, deadline_s)
        ps_pb2_grpc.add_ParameterShardsServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = f"{name}:{bound}"
        """The `host:port` for clients."""
        self._server.start()
        for service in ("", ps_pb2.DESCRIPTOR.services_by_name["ParameterShards"].full_name):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float = 1.0) -> None:
        """Let current requests finish for `grace_s` seconds, then close the shards, which write unsaved state.

        Raises:
            NotDurable: a last write failed; all shards are closed nevertheless.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._threads.shutdown()
        close_all(self._shards.values())


class _Servicer:
    """The methods of `ParameterShards`. Each takes its request as a stream; see `_RequestStreams`."""

    def __init__(self, layout: Layout, shards: dict[int, DurableShard], token: str | None, deadline_s: float) -> None:
        self._layout = layout
        self._shards = shards
        self._token = token
        self._deadline_s = deadline_s

    def Initialize(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._handling(context):
            _, shard, data = self._receive(request_iterator, context)
            shard.initialize(decode(data))
            return ps_pb2.InitializeReply()

    def Push(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._handling(context):
            head, shard, data = self._receive(request_iterator, context)
            with _as_malformed():
                push = ShardPush(
                    client=head.client,
                    sequence=head.sequence,
                    gradients=decode(data),
                    seen_version=head.seen_version,
                    seen_applied=head.seen_applied,
                    rates=dict(head.rates),
                )
            ack = shard.push(push)
            return ps_pb2.PushReply(
                version=ack.version,
                incarnation=ack.incarnation,
                staleness=ack.staleness,
                duplicate=ack.duplicate,
                dropped=ack.dropped,
            )

    def Pull(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        with self._handling(context):
            request = _first(request_iterator)
            shard, client = self._shard(request.target), request.client or None
            if client is not None:
                with _as_malformed():
                    check_client(client)
            pulled = shard.pull(list(request.names), client, catching_up=request.catching_up)
            head = {"version": pulled.version, "incarnation": pulled.incarnation, "applied": pulled.applied}
            for chunk in chunks(encode(pulled.values)):
                yield ps_pb2.PullReply(**head, chunk=chunk)

    def Leave(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._handling(context):
            request = _first(request_iterator)
            shard = self._shard(request.target)
            with _as_malformed():
                check_client(request.client)
            shard.leave(request.client)
            return ps_pb2.LeaveReply()

    def Keep(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._handling(context):
            request = _first(request_iterator)
            self._shard(request.target).renew_leases(request.clients)
            return ps_pb2.KeepReply()

    def Status(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._handling(context):
            request = _first(request_iterator)
            return ps_pb2.StatusReply(**asdict(self._shard(request.target).status()))

    @contextmanager
    def _handling(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Check the token and the deadline, and map a named error to a status, which the client maps back."""
        try:
            self._authenticate(context)
            self._check_deadline(context)
            yield
        except errors.StoreError as error:
            applied = (("ps-applied", str(error.applied)),) if isinstance(error, errors.TooFarAhead) else ()
            context.set_trailing_metadata((("ps-error", type(error).__name__), *applied))
            context.abort(_CODES[type(error)], str(error))

    def _authenticate(self, context: grpc.ServicerContext) -> None:
        if self._token is None:
            return
        authorization = dict(context.invocation_metadata()).get("authorization", "")
        if not hmac.compare_digest(str(authorization).encode(), f"Bearer {self._token}".encode()):
            raise errors.Unauthenticated(
                f"the request must carry this server's token, got {'another' if authorization else 'none'}"
            )

    def _check_deadline(self, context: grpc.ServicerContext) -> None:
        remaining_s = context.time_remaining()
        if not remaining_s <= self._deadline_s * _DEADLINE_TOLERANCE:
            raise errors.MalformedMessage(
                f"the request must have a deadline of at most {self._deadline_s:g} s, got "
                + (f"{remaining_s:.3g} s" if remaining_s < _UNLIMITED_S else "none")
            )

    def _shard(self, target: Any) -> DurableShard:
        expected = self._layout.run, self._layout.fingerprint
        if (target.run, target.fingerprint) != expected:
            raise errors.WrongRun(
                f"this server serves (run, layout) {expected}, not {(target.run, target.fingerprint)}"
            )
        if target.shard not in self._shards:
            raise errors.WrongRun(f"this server hosts the shards {sorted(self._shards)}, not {target.shard}")
        return self._shards[target.shard]

    def _receive(self, requests: Iterator[Any], context: grpc.ServicerContext) -> tuple[Any, DurableShard, bytearray]:
        """Return the first message, its shard, and the joined chunks, which may be at most the shard's own size."""
        head = _first(requests)
        shard = self._shard(head.target)
        limit = encoded_size(shard.shapes)
        data = bytearray()
        for message in itertools.chain([head], requests):
            if len(data) + len(message.chunk) > limit:
                raise errors.TooLarge(f"a message to shard {head.target.shard} must be at most {limit} bytes, got more")
            data += message.chunk
        # gRPC ends the stream without an error when it refused a message, and sometimes at the deadline or when the
        # client is gone.
        if not context.is_active() or (head.HasField("size_bytes") and head.size_bytes != len(data)):
            raise errors.MalformedMessage(f"the stream was broken off after {len(data)} bytes")
        return head, shard, data


class _RequestStreams(grpc.ServerInterceptor):
    """Makes every method of the servicer take its request as a stream, even if it is a single message.

    Otherwise gRPC would wait for the message before it calls the method, in one of the threads, and for ever if a
    client without a deadline never sends it: also for a client without the token.
    """

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or handler.request_streaming or not handler_call_details.method.startswith(_METHODS):
            return handler
        if handler.response_streaming:
            make, behavior = grpc.stream_stream_rpc_method_handler, handler.unary_stream
        else:
            make, behavior = grpc.stream_unary_rpc_method_handler, handler.unary_unary
        return make(behavior, handler.request_deserializer, handler.response_serializer)


def _first(requests: Iterator[Any]) -> Any:
    head = next(requests, None)
    if head is None:
        raise errors.MalformedMessage("the request must have at least one message, got none")
    return head


@contextmanager
def _as_malformed() -> Iterator[None]:
    """Raise `MalformedMessage` for a `ValueError`: the request has an invalid field."""
    try:
        yield
    except ValueError as error:
        raise errors.MalformedMessage(str(error)) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
