"""`DurableShard`: a shard that is thread-safe and survives a crash: one lock, group commit, and writes to disk."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ps.errors import NotDurable, StoreError, StoreUnavailable
from ps.shard.batch import Batch, PushQueue
from ps.shard.disk import ShardDisk
from ps.shard.leases import Leases
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.shard.order_log import SYNC_EVERY
from ps.shard.shard import Shard
from ps.status import ShardStatus
from ps.store import Layout

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class DurableShard:
    """A `Shard` with a lock and a snapshot file. What is durable when depends on the snapshot interval:

    - *Interval 0.* The thread that holds the lock applies all queued pushes, writes once, and only then acks them
      (group commit). Pulls take the same lock, so they see the state between two writes, which is on disk: a crash
      cannot lose anything that was pulled or acked. If a write fails, the shard returns to the state of the last
      successful write and every push of the batch gets `NotDurable`; sent again, it is applied as if for the first
      time. (The failed write may have reached the disk nevertheless. Then a restarted shard has the push in its
      deduplication table, and sending it again changes nothing.)
    - *Interval above 0.* Pushes are acked when they are applied, and a thread writes at most that often, without
      blocking pushes. A crash loses at most the pushes of one interval and one write. A failed write breaks that
      bound, so pushes are refused with `NotDurable` until a later write succeeds; what was acked before stays in
      memory.
    - *No directory.* Nothing is written; a crash loses everything.

    Membership and rounds are part of the state; leases are not, and start with the shard. An expired lease takes effect
    at the next call, before which no client can see the shard anyway.
    """

    def __init__(
        self,
        layout: Layout,
        index: int,
        directory: Path | None,
        snapshot_interval_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start or resume a shard. Its new incarnation is on disk before any client can see it.

        `clock` is a monotonic clock in seconds, for the members' leases.

        Raises:
            WrongRun, CorruptSnapshot: see `SnapshotFile.load`.
            NotDurable: the directory cannot be read or written.
        """
        if not snapshot_interval_s >= 0:
            raise ValueError(f"`snapshot_interval_s` must be 0 or more, got {snapshot_interval_s}")
        self._shard = Shard(layout, index)
        self._leases = Leases(layout.consistency, clock)
        self._lock = threading.Lock()
        self._queue = PushQueue()
        self.disk = ShardDisk(directory, layout, index) if directory is not None else None
        """Where its states are written, if they are."""
        self._commits = self.disk is not None and snapshot_interval_s == 0
        self._durable: ShardState | None = None  # what the last commit wrote; only set with interval 0
        self._dirty = False
        self._failure: str | None = None  # why the last periodic write failed
        self._closed = threading.Event()
        self._writer: threading.Thread | None = None
        if self.disk is not None:
            state = self.disk.resume(self._shard)
            if self._commits:
                self._durable = state
            else:
                name = f"shard-{index}-writer"
                self._writer = threading.Thread(target=self._write_every, args=(snapshot_interval_s,), name=name)
                self._writer.daemon = True
                self._writer.start()

    @property
    def sizes(self) -> Mapping[str, int]:
        """A mapping of tensor name to the number of elements of its slice on this shard."""
        return self._shard.sizes

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """A mapping of tensor name to the shape of its slice on this shard."""
        return self._shard.shapes

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `Shard.initialize`; as durable on return as a push.

        Raises:
            NotDurable, StoreUnavailable: as `push`.
        """
        self._change(lambda: self._shard.initialize(values))

    def pull(
        self,
        names: Sequence[str] | None = None,
        clients: Sequence[str] = (),
        *,
        catching_up: bool = False,
    ) -> ShardValues:
        """See `Shard.pull`; waits for a commit in progress.

        Raises:
            NotDurable: the pull made a member rejoin or ended a round, and that could not be written.
        """
        for client in clients:
            self._leases.renew(client)
        with self._lock:
            self._require_open()
            expired = self._leases.expired()
            if self._failure is None:  # else nothing may change until a write succeeds, but reading is allowed
                self._transact(lambda: self._mark_dirty(self._shard.settle(expired, *clients)))
            return self._shard.pull(names, clients, expired, catching_up=catching_up)

    def push(self, push: ShardPush) -> ShardAck:
        """See `Shard.push`; returns when the push is as durable as the class promises.

        Raises:
            NotDurable: the write failed, or an earlier one did and none has succeeded since.
            StoreUnavailable: the shard is closed.
        """
        reply = self.submit(push)
        self.handle_queue()
        return reply.result()

    def submit(self, push: ShardPush) -> Future[ShardAck]:
        """Queue a push, which the next call of `handle_queue` handles. Return what `push` would return."""
        self._leases.renew(push.client)
        return self._queue.add(push)

    def handle_queue(self) -> None:
        """Return when everything that is in the queue now has its reply, from this thread or another."""
        batch = self.open_batch()
        if batch is None:
            return
        try:
            self.complete([(self, batch)])
            self.write(batch)
        except BaseException as error:
            self.close_batch(batch, error)
            if not isinstance(error, OSError):
                raise
        else:
            self.close_batch(batch)

    def open_batch(self) -> Batch | None:
        """Lock the shard and apply all queued pushes; return `None`, and lock nothing, if there are none.

        The caller then calls `complete`, makes its state durable (`write`), and calls `close_batch`. Only one thread at
        a time may open batches of several shards.
        """
        self._lock.acquire()
        batch = self._queue.take()
        if batch is None:  # the thread that had the lock before has handled everything
            self._lock.release()
            return None
        try:
            batch.replies = [self._apply(one.push) for one in batch.queued]
        except BaseException as error:
            self.close_batch(batch, error)
            raise
        return batch

    @staticmethod
    def complete(batches: Sequence[tuple["DurableShard", Batch]]) -> None:
        """Do the arithmetic of the open batches of some shards, and give each the state that must become durable."""
        Shard.take_steps([shard._shard for shard, _ in batches])
        for shard, batch in batches:
            if shard._commits and shard._dirty and shard.disk is not None:
                batch.state = shard.disk.next_state(shard._shard)

    def write(self, batch: Batch) -> None:
        """Make the state of a batch durable, if it has any.

        Raises:
            OSError: it may or may not be on the disk.
        """
        if batch.state is not None and self.disk is not None:
            self.disk.write(batch.state)

    def close_batch(self, batch: Batch, failure: BaseException | None = None) -> None:
        """Ack or refuse the pushes of a batch, and unlock the shard. If there was a `failure`, undo all of them."""
        try:
            if failure is None:
                if batch.state is not None:
                    self._durable, self._dirty = batch.state, False
                self._record_order()
                batch.reply()
            else:
                self._roll_back()
                batch.refuse(str(self._reason(failure)))
        except BaseException as error:
            # What is durable stays so: the client pushes again, and hears that it is there already.
            batch.refuse(str(self._reason(error)))
            raise
        finally:
            self._lock.release()

    def update_file(self) -> None:
        """Write what the journal has of this shard into its own file, without blocking pushes.

        Raises:
            OSError: that failed; the journal must be kept.
        """
        with self._lock:
            state = self._durable
            unsure = len(self._shard.order.tail)
        if state is not None and self.disk is not None:
            self.disk.write_file(state)
            if unsure >= SYNC_EVERY:
                number = self.disk.sync_order()
                with self._lock:
                    self._shard.order.forget(number)

    def leave(self, client: str) -> None:
        """See `Shard.leave`; as durable on return as a push.

        Raises:
            NotDurable, StoreUnavailable: as `push`.
        """
        self._change(lambda: self._shard.leave(client, self._leases.expired()))

    def renew_leases(self, clients: Iterable[str]) -> None:
        """Renew the leases of the clients that are members. A member that has left does not rejoin."""
        self._require_open()
        for client in clients:
            self._leases.renew(client)

    def status(self) -> ShardStatus:
        """Return the shard's counters."""
        with self._lock:
            self._require_open()
            status = self._shard.status()
            return self.disk.with_write_counters(status) if self.disk else status

    def close(self) -> None:
        """Write what is not yet on disk, and refuse all later calls. Closing twice is allowed.

        Raises:
            NotDurable: the last periodic write failed.
        """
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            if self.disk is not None:
                self.disk.close()
        if self._writer is not None:
            self._writer.join()
            self._write_if_dirty()
            if self._failure is not None:
                raise NotDurable(self._failure)

    def _apply(self, push: ShardPush) -> ShardAck | StoreError:
        try:
            self._require_writable()
            ack = self._shard.begin_push(push, self._leases.expired())
        except StoreError as error:
            return error
        self._mark_dirty(not ack.duplicate)
        return ack

    def _change(self, change: Callable[[], bool]) -> None:
        """Run `change`, and commit if it returns that it changed anything."""
        with self._lock:
            self._require_writable()
            self._transact(lambda: self._mark_dirty(change()))

    def _record_order(self) -> None:
        """Record the order of what was applied, or forget it where nothing is written."""
        if self.disk is not None:
            self.disk.record_order(self._shard)
        else:
            self._shard.order.forget(self._shard.order.count)

    def _mark_dirty(self, changed: bool) -> None:
        self._dirty |= changed

    def _transact(self, change: Callable[[], _T]) -> _T:
        """Run `change` and commit it; if that fails, restore the state of the last commit."""
        try:
            result = change()
            if self._commits and self._dirty:
                self._commit()
            return result
        except BaseException as error:
            self._roll_back()
            if isinstance(error, OSError):
                raise self._reason(error) from error
            raise

    def _reason(self, error: BaseException) -> NotDurable:
        """Return the error of those who wait for what could not be made durable."""
        if isinstance(error, OSError) and self.disk is not None:
            return self.disk.failure(error)
        return NotDurable(repr(error))

    def _roll_back(self) -> None:
        """Return to the state of the last commit, where there are commits."""
        if self._durable is not None:
            self._shard.restore(self._durable)
            self._dirty = False

    def _commit(self) -> None:
        assert self.disk is not None
        state = self.disk.next_state(self._shard)
        self.disk.write(state)
        self._durable, self._dirty = state, False

    def _write_every(self, interval_s: float) -> None:
        while not self._closed.wait(interval_s):
            self._write_if_dirty()

    def _write_if_dirty(self) -> None:
        """Write the state if it has changed: copy it under the lock, and write the copy without the lock."""
        assert self.disk is not None
        with self._lock:
            if not self._dirty:
                return
            state, self._dirty = self.disk.next_state(self._shard), False
        try:
            self.disk.write(state)
        except OSError as error:
            failure = self.disk.failure(error)
            _LOG.error("%s; pushes are refused until a write succeeds", failure)
            with self._lock:
                self._dirty, self._failure = True, str(failure)
        else:
            with self._lock:
                self._failure = None

    def _require_writable(self) -> None:
        self._require_open()
        if self._failure is not None:
            raise NotDurable(self._failure)

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise StoreUnavailable(f"shard {self._shard.index} is closed")
