"""`LocalStore`, with all shards in this process: the reference store, and the one for a run on one machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ps.errors import StoreError
from ps.identifiers import check_client
from ps.partition import partition, split
from ps.shard.messages import ShardValues
from ps.shard.shards import Shards
from ps.split_merge import merge_acks, merge_values, pull_with_catch_up, split_names, split_push, succeeded
from ps.status import ShardStatus
from ps.store import DEFAULT_MAX_BYTES, Ack, Layout, Push, Snapshot
from ps.validation import check_layout, check_push, check_values


class LocalStore:
    """A `ParameterStore` without a network. Its clients live in its own process, so leases never expire.

    Args:
        layout: the tensors that it stores.
        directory: the folder of the shards' snapshots, or `None` to write none.
        snapshot_interval_s: seconds between snapshots; 0 writes before every ack (rule 1).
        max_bytes: limit on the tensors of one shard, and so on what a request has for it.

    Raises:
        TooLarge: the layout is above `max_bytes`.
        WrongRun, CorruptSnapshot, NotDurable: the shards cannot resume from the directory or write to it.
    """

    def __init__(
        self,
        layout: Layout,
        directory: Path | None = None,
        snapshot_interval_s: float = 0.0,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        check_layout(layout, max_bytes)
        self._layout = layout
        self._max_bytes = max_bytes
        self._parts = partition(layout.shapes, layout.shards)
        self._shards = Shards(layout, range(layout.shards), directory, snapshot_interval_s, clock=_frozen_clock)

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `ParameterStore.initialize`."""
        parts = split(self._parts, check_values(self._layout, values, self._max_bytes))
        for shard, part in zip(self._shards.values(), parts, strict=True):
            shard.initialize(part)

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """See `ParameterStore.pull`."""
        names_by_shard = split_names(self._layout, self._parts, names)
        if client is not None:
            check_client(client)
        clients = [] if client is None else [client]

        def pull_all(catching_up: bool) -> list[ShardValues | StoreError]:
            names = dict(enumerate(names_by_shard))
            return list(self._shards.pull(names, clients, catching_up=catching_up).values())

        return merge_values(self._layout, pull_with_catch_up(pull_all), 0 if clients else None)

    def push(self, push: Push) -> Ack:
        """See `ParameterStore.push`."""
        parts = split_push(self._parts, push, check_push(self._layout, push, self._max_bytes))
        return merge_acks(succeeded(list(self._shards.push(dict(enumerate(parts))).values())))

    def leave(self, client: str) -> None:
        """See `ParameterStore.leave`."""
        check_client(client)
        for shard in self._shards.values():
            shard.leave(client)

    def status(self) -> list[ShardStatus]:
        """See `ParameterStore.status`."""
        return [shard.status() for shard in self._shards.values()]

    def close(self) -> None:
        """See `ParameterStore.close`. If a last write failed, close all shards and raise `NotDurable`."""
        self._shards.close()


def _frozen_clock() -> float:
    return 0.0
