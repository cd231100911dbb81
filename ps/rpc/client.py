"""`GrpcStore`: the gRPC client, with the methods, checks and exceptions of the local store."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from ps.codec import CHUNK_BYTES
from ps.errors import MalformedMessage, StoreError
from ps.identifiers import check_client
from ps.partition import partition, sizes_of, split
from ps.rpc.calls import Calls
from ps.rpc.heartbeat import Heartbeat
from ps.rpc.replies import pulled_answers, push_ack
from ps.rpc.requests import initialize_requests, pull_request, push_requests, target_of, tensors_of
from ps.rpc.shared_calls import SharedCalls
from ps.rpc.tls import Tls
from ps.shard.messages import ShardAck, ShardValues
from ps.slices import as_slices
from ps.split_merge import merge_acks, merge_values, pull_with_catch_up, split_push, succeeded
from ps.status import ShardStatus
from ps.store import DEFAULT_MAX_BYTES, Ack, Layout, Push, Snapshot
from ps.validation import check_layout, check_names, check_push, check_token, check_values
from ps.wire import ps_pb2


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
        deadline_s: seconds for one attempt of one call, at most the servers' `deadline_s`; for each 32 MiB of a call
            that carries more.
        retry_timeout_s: seconds for which failed attempts are repeated; a call takes at most this plus one deadline.
        max_bytes: limit on the tensors of one shard, and so on what a request has for it.
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
        self._sizes = sizes_of(self._parts, layout.shapes)
        self._max_bytes = max_bytes
        self._calls = Calls(
            layout.shards,
            addresses,
            token=token,
            tls=tls,
            deadline_s=deadline_s,
            retry_timeout_s=retry_timeout_s,
            interceptors=interceptors,
        )
        self._shared_pulls: SharedCalls[str | None, _Pulled] = SharedCalls()
        rules = layout.consistency
        self._heartbeat_timeout_s = min(deadline_s, rules.lease_s / 4)
        self._heartbeat = Heartbeat(rules.members, rules.lease_s / 4, self._send_heartbeat)

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        parts = split(self._parts, check_values(self._layout, values, self._max_bytes))

        def initialize_shard(shard: int, give_up_at: float) -> None:
            target, part = self._target(shard), parts[shard]
            self._calls.on_shard(
                shard,
                give_up_at,
                lambda stub, options: stub.Initialize(initialize_requests(target, part), **options),
                4 * len(part.flat),
            )

        self._calls.on_every_shard(initialize_shard)

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """See `ParameterStore.pull`.

        Threads that pull the same tensors and wait for their turn share one call: it begins after each of them did,
        so that none sees an older state than it would alone.
        """
        wanted = frozenset(self._layout.shapes if names is None else names)
        check_names(self._layout.shapes, list(wanted))
        if client is not None:
            check_client(client)
            self._heartbeat.add(client)
        if self._layout.consistency.waits:
            pulled, number = self._pull(wanted, [client])[0]
        else:
            pulled, number = self._shared_pulls.call(wanted, client, lambda clients: self._pull(wanted, clients))
        return merge_values(self._layout, pulled, number)

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        return self._push(push, None)

    def push_and_pull(self, push: Push) -> tuple[Ack, Snapshot | None]:
        """Push, and return what a pull of the same client right after it returns, if that came with the acks.

        It does not where the client must wait for others, where the values are too large for a message, where a shard
        had the push before, or after a failed attempt, as values from before that may be older than the ack. Then the
        caller pulls.

        Raises:
            StoreError, ValueError: see `ParameterStore.push`.
        """
        pulled: dict[int, ShardValues] = {}
        ack = self._push(push, pulled)
        if len(pulled) < self._layout.shards:
            return ack, None
        return ack, merge_values(self._layout, [pulled[shard] for shard in range(self._layout.shards)], 0)

    def _push(self, push: Push, pulled: dict[int, ShardValues] | None) -> Ack:
        """Push; add to `pulled`, if given, what the client would pull from the shards that answered at once."""
        parts = split_push(self._parts, push, check_push(self._layout, push, self._max_bytes))
        self._heartbeat.add(push.client)
        called: set[int] = set()

        def push_to(shards: Sequence[int]) -> Callable[[Any, dict[str, Any]], Mapping[int, ShardAck | StoreError]]:
            pushes = {shard: parts[shard] for shard in shards}
            is_one_message = sum(sizes[shard] for shard in shards) <= CHUNK_BYTES
            pulls = pulled is not None and called.isdisjoint(shards)
            called.update(shards)

            def attempt(stub: Any, options: dict[str, Any]) -> Mapping[int, ShardAck | StoreError]:
                requests = push_requests(self._layout, push.gradients, pushes, pull=pulls)
                reply = stub.PushOne(next(requests), **options) if is_one_message else stub.Push(requests, **options)
                if pulled is not None and reply.message.pulled:
                    answers = pulled_answers(_answered(shards, reply.message.pulled), reply.chunk, self._sizes)
                    pulled.update((shard, one) for shard, one in answers.items() if isinstance(one, ShardValues))
                return {part.shard: push_ack(part) for part in _answered(shards, reply.message.parts)}

            return attempt

        sizes = [4 * as_slices(part.gradients).flat.numel() for part in parts]
        return merge_acks(succeeded(self._calls.on_every_host(push_to, sizes)))

    def leave(self, client: str) -> None:
        """See `ParameterStore.leave`."""
        check_client(client)
        self._heartbeat.remove(client)

        def leave_shard(shard: int, give_up_at: float) -> None:
            request = ps_pb2.LeaveRequest(target=self._target(shard), client=client)
            self._calls.on_shard(shard, give_up_at, lambda stub, options: stub.Leave(request, **options))

        self._calls.on_every_shard(leave_shard)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return self._calls.on_every_shard(self._shard_status)

    def shard_status(self, shard: int) -> ShardStatus:
        """Return one shard's counters, even if others are unavailable; raise what `status` raises."""
        return self._shard_status(shard, self._calls.give_up_at())

    def close(self) -> None:
        """Close the connections; calls in other threads raise `StoreUnavailable`. The servers keep running."""
        self._calls.close()
        self._heartbeat.close()
        self._calls.join()

    def _pull(self, names: frozenset[str], clients: Sequence[str | None]) -> list["_Pulled"]:
        """Return for each client what all of them pull, in calls that they share, and the client's number in it."""
        tensors = tensors_of(self._layout, names)
        sizes = self._sizes if tensors.all else sizes_of(self._parts, names)
        elements = [sum(part.values()) for part in sizes]
        named = list(dict.fromkeys(client for client in clients if client is not None))

        def pull_from(
            shards: Sequence[int], catching_up: bool
        ) -> Callable[[Any, dict[str, Any]], Mapping[int, ShardValues | StoreError]]:
            request = pull_request(self._layout, tensors, shards, named, catching_up=catching_up)
            is_one_message = 4 * sum(elements[shard] for shard in shards) <= CHUNK_BYTES

            def attempt(stub: Any, options: dict[str, Any]) -> Mapping[int, ShardValues | StoreError]:
                stream = None if is_one_message else stub.Pull(request, **options)
                replies = stream or iter([stub.PullOne(request, **options)])
                first = [reply for reply in (next(replies, None),) if reply is not None]
                parts = _answered(shards, [part for reply in first for part in reply.message.parts])
                chunks = (chunk for reply in itertools.chain(first, replies) for chunk in reply.chunk)
                try:
                    return pulled_answers(parts, chunks, sizes)
                except MalformedMessage:
                    if stream is not None:
                        stream.cancel()
                    raise

            return attempt

        def pull_all(catching_up: bool) -> Sequence[ShardValues | StoreError]:
            size_bytes = [4 * count for count in elements]
            return self._calls.on_every_host(lambda shards: pull_from(shards, catching_up), size_bytes)

        pulled = pull_with_catch_up(pull_all)
        return [(pulled, None if client is None else named.index(client)) for client in clients]

    def _shard_status(self, shard: int, give_up_at: float) -> ShardStatus:
        request = ps_pb2.StatusRequest(target=self._target(shard))
        reply = self._calls.on_shard(shard, give_up_at, lambda stub, options: stub.Status(request, **options))
        return ShardStatus(**{field.name: getattr(reply, field.name) for field in fields(ShardStatus)})

    def _target(self, shard: int) -> Any:
        return target_of(self._layout, shard)

    def _send_heartbeat(self, clients: list[str]) -> None:
        """Renew the clients' leases. A shard that is not reached gets the next heartbeat, perhaps at a new address."""

        def keep(stub: Any, shard: int, options: dict[str, Any]) -> Any:
            return stub.Keep.future(ps_pb2.KeepRequest(target=self._target(shard), clients=clients), **options)

        self._calls.send_once(keep, self._heartbeat_timeout_s)


_Pulled = tuple[Sequence[ShardValues], int | None]
"""What every shard answered to a pull, and the number of one client among those that share it, if it has a name."""


def _answered(shards: Sequence[int], parts: Sequence[Any]) -> Sequence[Any]:
    """Return the parts of a reply; raise `MalformedMessage` unless they are these shards' answers."""
    if (answered := [part.shard for part in parts]) != list(shards):
        raise MalformedMessage(f"the reply must be of the shards {list(shards)}, got {answered}")
    return parts
