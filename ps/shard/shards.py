"""`Shards`: the shards of one process, which one call reaches together."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from ps.errors import NotDurable, StoreError
from ps.shard.durable_shard import DurableShard
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.store import Layout


class Shards(Mapping[int, DurableShard]):
    """Some shards of a layout, by index. Each answers for itself: an error of one does not disturb the others.

    With interval 0 the shards write at the same time, as waiting for the disk is most of a small push.

    Args:
        layout: the layout of the whole run.
        indices: the shards to have here.
        directory, snapshot_interval_s, clock: see `DurableShard`.

    Raises:
        ValueError, WrongRun, CorruptSnapshot, NotDurable: see `DurableShard`.
    """

    def __init__(
        self,
        layout: Layout,
        indices: Iterable[int],
        directory: Path | None,
        snapshot_interval_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shards = {
            index: DurableShard(layout, index, directory, snapshot_interval_s, clock=clock) for index in indices
        }
        writes = directory is not None and snapshot_interval_s == 0 and len(self._shards) > 1
        self._threads = ThreadPoolExecutor(len(self._shards), thread_name_prefix="shard") if writes else None

    def pull(
        self,
        names: Mapping[int, Sequence[str] | None],
        clients: Sequence[str] = (),
        *,
        catching_up: bool = False,
    ) -> dict[int, ShardValues | StoreError]:
        """Return for each shard the named slices, or its error; see `DurableShard.pull`.

        Args:
            names: shard -> the slices that are pulled from it; `None` for all of its slices.
            clients, catching_up: see `Shard.pull`.
        """
        replies: dict[int, ShardValues | StoreError] = {}
        for index, part in names.items():
            try:
                replies[index] = self._shards[index].pull(part, clients, catching_up=catching_up)
            except StoreError as error:
                replies[index] = error
        return replies

    def push(self, pushes: Mapping[int, ShardPush]) -> dict[int, ShardAck | StoreError]:
        """Return for each shard its ack of its part, or its error; see `DurableShard.push`."""
        queued = {index: self._shards[index].submit(push) for index, push in pushes.items()}
        threads = self._threads
        if threads is None or len(pushes) == 1:
            for index in pushes:
                self._shards[index].handle_queue()
        else:
            # All parts are in their queues by now, so a shard's next write is for everything that waits for it,
            # however many of these threads there are.
            writing = [threads.submit(self._shards[index].handle_queue) for index in pushes]
            wait(writing)
            for one in writing:
                one.result()  # raises what is no error of a push
        replies: dict[int, ShardAck | StoreError] = {}
        for index, reply in queued.items():
            try:
                replies[index] = reply.result()
            except StoreError as error:
                replies[index] = error
        return replies

    def close(self) -> None:
        """Close every shard, whatever happens to the others.

        Raises:
            NotDurable: the last write of at least one failed.
        """
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()
        failures: list[NotDurable] = []
        for shard in self._shards.values():
            try:
                shard.close()
            except NotDurable as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def __getitem__(self, index: int) -> DurableShard:
        return self._shards[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)
