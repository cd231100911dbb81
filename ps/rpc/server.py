"""`ShardServer`: the gRPC server of some shards; its methods are in `servicer.py`."""

import ipaddress
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ps.rpc.frames import deserializer, serialize
from ps.rpc.requests import METHODS
from ps.rpc.servicer import Servicer
from ps.rpc.tls import Tls
from ps.shard.shards import Shards
from ps.store import DEFAULT_MAX_BYTES, Layout
from ps.validation import check_layout, check_token
from ps.wire import ps_pb2, ps_pb2_grpc

_THREADS = 32
"""Requests handled concurrently. A push that waits for a write occupies a thread; waiting pushes share one write."""

_SERVER_OPTIONS = [
    ("grpc.so_reuseport", 0),  # two servers on one port would each get some of the requests
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),  # clients send a keepalive ping every 5 s
]


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
        max_bytes: limit on the tensors of one shard, and so on what a request has for it.
        snapshot_interval_s: see `LocalStore`.
        deadline_s: the longest deadline, in seconds, that a request may have; one without a deadline or with a longer
            one is refused. gRPC ends a request at its deadline, so that a client which sends nothing, or does not
            read, cannot occupy a thread for longer. Shards of more than 32 MiB together allow proportionally more.
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
        self._shards = Shards(layout, indices, directory, snapshot_interval_s, clock=clock, journal=True)
        self._health = health.HealthServicer()
        servicer = Servicer(layout, self._shards, token, deadline_s)
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
        self._shards.close()


class _RequestStreams(grpc.ServerInterceptor):
    """Makes every method of the servicer take its request as a stream, even if it is a single message.

    Otherwise gRPC would wait for the message before it calls the method, in one of the threads, and for ever if a
    client without a deadline never sends it: also for a client without the token. The messages of methods that carry
    data are frames.
    """

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See `grpc.ServerInterceptor`."""
        handler = continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(METHODS):
            return handler
        method = handler_call_details.method.removeprefix(METHODS)
        if handler.response_streaming:
            make, behavior = grpc.stream_stream_rpc_method_handler, handler.unary_stream
        else:
            make, behavior = grpc.stream_unary_rpc_method_handler, handler.unary_unary or handler.stream_unary
        return make(behavior, _DESERIALIZERS.get(method, handler.request_deserializer), serialize)


_DESERIALIZERS = {
    "Initialize": deserializer(ps_pb2.InitializeRequest),
    "Push": deserializer(ps_pb2.PushRequest),
}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
