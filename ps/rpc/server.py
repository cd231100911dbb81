"""Shards behind gRPC. It only translates: decode, call the shard, map an exception to a status, encode."""

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
from ps.rpc.deadlines import Deadlines
from ps.rpc.tls import Tls
from ps.shard.durable_shard import DurableShard, close_all
from ps.shard.messages import ShardPush
from ps.store import DEFAULT_MAX_BYTES, Layout
from ps.validation import check_layout, check_token
from ps.wire import ps_pb2, ps_pb2_grpc

_THREADS = 32
"""Requests handled at once. Waiting for a write takes a thread, and those that wait share the next write."""

_SERVER_OPTIONS = [
    ("grpc.so_reuseport", 0),  # two servers on one port would each get some of the requests
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),  # clients ask every 5 s whether the link is there
]

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
"""The status for clients in other languages; ours reads the exception's name from the `ps-error` metadata."""


class ShardServer:
    """One or more shards of a layout, served until `stop`. The standard gRPC health service is served beside them.

    Args:
        layout: the whole run's; clients must name an equal one.
        indices: the shards to host here.
        directory: where snapshots lie, or `None` to keep nothing.
        host: the address to listen on; beyond the loopback a token is needed.
        port: 0 takes a free one.
        token: what every request must carry (printable ASCII), or `None` to let in whoever reaches the port.
        tls: this end's part of mutual TLS; `None` speaks plain text.
        max_bytes: limit on the tensors of the layout, and so of a message.
        snapshot_interval_s: see `LocalStore`.
        deadline_s: seconds for one request, however long its client would wait: one that sends nothing, or does not
            read, holds a thread no longer.
        interceptors: gRPC server interceptors, outermost first.
        clock: seconds, never going back, for the members' leases.

    Raises:
        ValueError: an index outside the layout or twice, a deadline that is not above 0, or a host beyond the loopback
            without a token.
        StoreError: as `LocalStore`'s constructor.
        RuntimeError: the port cannot be had.
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
        self._deadlines = Deadlines(deadline_s)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shard-server")
        self._server = grpc.server(self._threads, interceptors=list(interceptors), options=_SERVER_OPTIONS)
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
        servicer = _Servicer(layout, self._shards, token, self._deadlines)
        ps_pb2_grpc.add_ParameterShardsServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = f"{name}:{bound}"
        """`host:port` for clients."""
        self._server.start()
        for service in ("", ps_pb2.DESCRIPTOR.services_by_name["ParameterShards"].full_name):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float = 1.0) -> None:
        """Let requests under way finish for `grace_s` seconds, then write what is not yet on disk and end.

        Raises:
            NotDurable: a last write failed; all shards are closed nevertheless.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._threads.shutdown()
        self._deadlines.close()
        close_all(self._shards.values())


class _Servicer(ps_pb2_grpc.ParameterShardsServicer):
    def __init__(
        self, layout: Layout, shards: dict[int, DurableShard], token: str | None, deadlines: Deadlines
    ) -> None:
        self._layout = layout
        self._shards = shards
        self._token = token
        self._deadlines = deadlines

    def Initialize(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._answering(context):
            _, shard, data = self._receive(request_iterator, context)
            shard.initialize(decode(data))
            return ps_pb2.InitializeReply()

    def Push(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._answering(context):
            head, shard, data = self._receive(request_iterator, context)
            with _as_malformed():
                push = ShardPush(
                    client=head.client,
                    sequence=head.sequence,
                    gradients=decode(data),
                    seen_version=head.seen_version,
                    seen_applied=head.seen_applied,
                )
            ack = shard.push(push)
            return ps_pb2.PushReply(
                version=ack.version,
                incarnation=ack.incarnation,
                staleness=ack.staleness,
                duplicate=ack.duplicate,
                dropped=ack.dropped,
            )

    def Pull(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._answering(context):
            shard, client = self._shard(request.target), request.client or None
            if client is not None:
                with _as_malformed():
                    check_client(client)
            pulled = shard.pull(list(request.names), client, catching_up=request.catching_up)
            head = {"version": pulled.version, "incarnation": pulled.incarnation, "applied": pulled.applied}
            for chunk in chunks(encode(pulled.values)):
                yield ps_pb2.PullReply(**head, chunk=chunk)

    def Leave(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._answering(context):
            shard = self._shard(request.target)
            with _as_malformed():
                check_client(request.client)
            shard.leave(request.client)
            return ps_pb2.LeaveReply()

    def Keep(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._answering(context):
            self._shard(request.target).keep(request.clients)
            return ps_pb2.KeepReply()

    def Status(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._answering(context):
            return ps_pb2.StatusReply(**asdict(self._shard(request.target).status()))

    @contextmanager
    def _answering(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Check the token, limit the time, and turn a named error into a status that the client turns back."""
        try:
            self._authenticate(context)
            with self._deadlines.limit(context):
                yield
        except errors.StoreError as error:
            applied = (("ps-applied", str(error.applied)),) if isinstance(error, errors.TooFarAhead) else ()
            context.set_trailing_metadata((("ps-error", type(error).__name__), *applied))
            context.abort(_CODES[type(error)], str(error))

    def _authenticate(self, context: grpc.ServicerContext) -> None:
        if self._token is None:
            return
        given = dict(context.invocation_metadata()).get("authorization", "")
        if not hmac.compare_digest(str(given).encode(), f"Bearer {self._token}".encode()):
            raise errors.Unauthenticated(
                f"the request must carry this server's token, got {'another' if given else 'none'}"
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
        """The first message, its shard, and all chunks together: never more than the shard's own size."""
        head = next(requests, None)
        if head is None:
            raise errors.MalformedMessage("the stream must hold at least one message, got none")
        shard = self._shard(head.target)
        limit = encoded_size(shard.shapes)
        data = bytearray()
        for message in itertools.chain([head], requests):
            if len(data) + len(message.chunk) > limit:
                raise errors.TooLarge(f"a message to shard {head.target.shard} must be at most {limit} bytes, got more")
            data += message.chunk
        # gRPC ends the stream without an error when it has refused a message, and sometimes when the client is gone.
        if not context.is_active() or (head.HasField("size_bytes") and head.size_bytes != len(data)):
            raise errors.MalformedMessage(f"the stream was broken off after {len(data)} bytes")
        return head, shard, data


@contextmanager
def _as_malformed() -> Iterator[None]:
    """A request that names what cannot be is malformed."""
    try:
        yield
    except ValueError as error:
        raise errors.MalformedMessage(str(error)) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
