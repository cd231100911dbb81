"""A replica's proxy of the searcher's parameters, which spares it a call: the pull that follows a push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ps.status import ShardStatus
from ps.store import Ack, Push, Snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from ps.rpc.client import GrpcStore


class ReplicaStore:
    """Passes the calls of one client on to a store; see `ParameterStore`.

    A replica that has pushed pulls at once for its next batch. The push brings back these values with its ack, and they
    answer that pull. Each answers one pull at most, and none after another push or `leave`.

    Args:
        store: that the replicas of this process share.
    """

    def __init__(self, store: GrpcStore) -> None:
        self._store = store
        self._after_push: tuple[str, Snapshot] | None = None

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        self._store.initialize(values)

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """See `ParameterStore.pull`."""
        pulled, self._after_push = self._after_push, None
        if pulled is not None and names is None and pulled[0] == client:
            return pulled[1]
        return self._store.pull(names, client=client)

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        self._after_push = None
        ack, snapshot = self._store.push_and_pull(push)
        if snapshot is not None:
            self._after_push = push.client, snapshot
        return ack

    def leave(self, client: str) -> None:
        """See `ParameterStore.leave`."""
        self._after_push = None
        self._store.leave(client)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return self._store.status()

    def close(self) -> None:
        """See `ParameterStore.close`."""
        self._store.close()
