"""`Servicer`: the methods of the shards' gRPC service: decode, call the shards, map exceptions to statuses, encode."""

import hmac
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import grpc
from torch import Tensor

from ps import errors
from ps.codec import CHUNK_BYTES, FlatReceiver, decode, encoded_size, flat_chunks
from ps.identifiers import check_client
from ps.partition import partition, sizes_of
from ps.rpc.frames import Frame
from ps.rpc.replies import increasing, pulled_part, pushed_part
from ps.rpc.requests import call_deadline
from ps.shard.durable_shard import DurableShard
from ps.shard.messages import ShardPush, ShardValues
from ps.shard.shards import Shards
from ps.slices import Slices
from ps.store import Layout
from ps.validation import are_finite
from ps.wire import ps_pb2

_DEADLINE_TOLERANCE = 1.02
"""A request's deadline may exceed the limit by this factor, as gRPC rounds it up by as much as 1 % on the wire."""

_UNLIMITED_S = 1e15
"""gRPC gives a request without a deadline more seconds than this."""

CODES: dict[type[errors.StoreError], grpc.StatusCode] = {
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


class Servicer:
    """The methods of `ParameterShards`. Each takes its request as a stream; see `_RequestStreams` in server.py.

    Args:
        layout: the layout.
        shards: the shards that are served.
        token: the token that every request must carry; `None` accepts every request.
        deadline_s: see `ShardServer`.
    """

    def __init__(self, layout: Layout, shards: Shards, token: str | None, deadline_s: float) -> None:
        self._layout = layout
        self._names = list(layout.shapes)
        self._sizes = sizes_of(partition(layout.shapes, layout.shards), layout.shapes)
        self._shards = shards
        self._token = token
        hosted_bytes = sum(4 * sum(self._sizes[index].values()) for index in shards)
        self._deadline_s = call_deadline(deadline_s, hosted_bytes)

    def Initialize(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """Take the initial values of one shard."""
        with self._handling(context):
            first = _first(request_iterator)
            shard = self._shard(first.message.target)
            data = _receive_encoded(first, request_iterator, encoded_size(shard.shapes), context)
            shard.initialize(decode(data))
            return ps_pb2.InitializeReply()

    def Push(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """Take a push to some shards."""
        with self._handling(context):
            first = _first(request_iterator)
            head = first.message
            indices = self._indices(head.target, [part.shard for part in head.parts])
            slices = self._receive(first, request_iterator, indices, context)
            with _as_malformed():
                pushes = {
                    part.shard: ShardPush(
                        client=head.client,
                        sequence=head.sequence,
                        gradients=gradients,
                        seen_version=part.seen_version,
                        seen_applied=part.seen_applied,
                        rates=dict(head.rates),
                        note=head.note,
                    )
                    for part, gradients in zip(head.parts, slices, strict=True)
                }
            here = {index: push for index, push in pushes.items() if index in self._shards}
            pulls = head.pull and len(here) == len(pushes) and self._fits(indices)
            acks, pulled = self._shards.push_and_pull(here, head.client) if pulls else (self._shards.push(here), None)
            answers = [pushed_part(index, acks.get(index) or self._not_here(index)) for index in indices]
            if pulled is None:
                return ps_pb2.PushReply(parts=answers)
            parts = [pulled_part(index, answer) for index, answer in pulled.items()]
            values = [one.values.flat for one in pulled.values() if isinstance(one, ShardValues)]
            return Frame(ps_pb2.PushReply(parts=answers, pulled=parts), next(flat_chunks(values)))

    def _fits(self, indices: Sequence[int]) -> bool:
        """Return whether all values of these shards fit into one message."""
        return 4 * sum(sum(self._sizes[index].values()) for index in indices) <= CHUNK_BYTES

    def Pull(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Answer a pull from some shards."""
        with self._handling(context):
            request = _first(request_iterator)
            clients = [*([request.client] if request.client else []), *request.others]
            with _as_malformed():
                for client in clients:
                    check_client(client)
            if len(clients) > 1 and self._layout.consistency.waits:
                raise errors.MalformedMessage("a pull must be of one client where clients wait for each other")
            indices = self._indices(request.target, request.shards)
            names = self._named(request.tensors)
            wanted = {
                index: None if names is None else [name for name in names if name in self._sizes[index]]
                for index in indices
                if index in self._shards
            }
            pulled = self._shards.pull(wanted, clients, catching_up=request.catching_up)
            parts = [pulled_part(index, pulled.get(index) or self._not_here(index)) for index in indices]
            values = [one.values.flat for one in pulled.values() if isinstance(one, ShardValues)]
            for number, chunk in enumerate(flat_chunks(values)):
                yield Frame(ps_pb2.PullReply(parts=None if number else parts), chunk)

    def Leave(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """Let a member leave one shard."""
        with self._handling(context):
            request = _first(request_iterator)
            shard = self._shard(request.target)
            with _as_malformed():
                check_client(request.client)
            shard.leave(request.client)
            return ps_pb2.LeaveReply()

    def Keep(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """Renew leases on one shard."""
        with self._handling(context):
            request = _first(request_iterator)
            self._shard(request.target).renew_leases(request.clients)
            return ps_pb2.KeepReply()

    def Status(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """Return the counters of one shard."""
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
            context.abort(CODES[type(error)], str(error))

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

    def _check_target(self, target: Any) -> None:
        expected = self._layout.run, self._layout.fingerprint
        if (target.run, target.fingerprint) != expected:
            raise errors.WrongRun(
                f"this server serves (run, layout) {expected}, not {(target.run, target.fingerprint)}"
            )

    def _shard(self, target: Any) -> DurableShard:
        self._check_target(target)
        if target.shard not in self._shards:
            raise self._not_here(target.shard)
        return self._shards[target.shard]

    def _not_here(self, index: int) -> errors.WrongRun:
        return errors.WrongRun(f"this server hosts the shards {sorted(self._shards)}, not {index}")

    def _indices(self, target: Any, indices: Iterable[int]) -> list[int]:
        """Return the shards that a request is for, which need not be here."""
        self._check_target(target)
        shards = list(indices)
        if not shards or not increasing(shards) or shards[-1] >= self._layout.shards:
            raise errors.MalformedMessage(
                f"the shards must be at least one, increase and be below {self._layout.shards}, got {shards[:100]}"
            )
        return shards

    def _named(self, tensors: Any) -> list[str] | None:
        """Return the names of a request's tensors; `None` for all."""
        positions = list(tensors.positions)
        if tensors.all:
            return None
        if not increasing(positions) or (positions and positions[-1] >= len(self._names)):
            raise errors.MalformedMessage(
                f"the tensors' positions must increase and be below {len(self._names)}, got {positions[:100]}"
            )
        return [self._names[position] for position in positions]

    def _receive(
        self, first: Any, requests: Iterator[Any], indices: Sequence[int], context: grpc.ServicerContext
    ) -> list[Slices]:
        """Return what the stream has for each of the shards."""
        head = first.message
        names = self._named(head.tensors)
        named = None if names is None else frozenset(names)
        sizes: list[Mapping[str, int]] = [
            self._sizes[index] if named is None else {n: s for n, s in self._sizes[index].items() if n in named}
            for index in indices
        ]
        elements = [sum(part.values()) for part in sizes]
        data = FlatReceiver(sum(elements))
        for frame in itertools.chain([first], requests):
            if not all(data.add(chunk) for chunk in frame.chunk):
                raise errors.TooLarge(
                    f"a message for these tensors on the shards {indices} must be {data.size_bytes} bytes, got more"
                )
        if not context.is_active() or not data.complete or head.size_bytes != data.size_bytes:
            raise errors.MalformedMessage(f"the stream was broken off after {data.received} bytes")
        is_finite = are_finite(data.elements)  # if not, the shard that has such an element says which
        pieces: Sequence[Tensor] = data.elements.split(elements)
        return [Slices(part, piece, is_finite=is_finite) for part, piece in zip(sizes, pieces, strict=True)]


def _receive_encoded(first: Any, requests: Iterator[Any], limit: int, context: grpc.ServicerContext) -> bytearray:
    """Return the joined chunks, which may be at most the shard's own size."""
    head, data = first.message, bytearray()
    for chunk in (chunk for frame in itertools.chain([first], requests) for chunk in frame.chunk):
        if len(data) + len(chunk) > limit:
            raise errors.TooLarge(f"a message to shard {head.target.shard} must be at most {limit} bytes, got more")
        data += chunk
    # gRPC ends the stream without an error when it refused a message, and sometimes at the deadline or when the client
    # is gone.
    if not context.is_active() or (head.HasField("size_bytes") and head.size_bytes != len(data)):
        raise errors.MalformedMessage(f"the stream was broken off after {len(data)} bytes")
    return data


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
