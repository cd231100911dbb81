"""A shard that several threads use and that survives a crash: one lock, group commit, and writes to disk."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ps.errors import NotDurable, StoreError, StoreUnavailable
from ps.shard.leases import Leases
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.shard.shard import Shard
from ps.shard.snapshot import SnapshotFile
from ps.status import ShardStatus
from ps.store import Layout

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(slots=True)
class _Waiting:
    push: ShardPush
    reply: Future[ShardAck] = field(default_factory=Future)


class DurableShard:
    """Applies pushes and writes them down; who may see what, and when:

    - *Interval 0.* Whoever holds the lock applies all pushes that wait, writes once, and only then answers them.
      Pulls take the same lock, so they see the state between two writes, which is on disk: nothing that was ever
      pulled or acked can be taken back by a crash. If a write fails, the shard returns to the state of the last
      good write and every push of the batch gets `NotDurable`; sent again, it is applied as if for the first time.
      (The failed write may have reached the disk all the same. Then a restart finds the push in the deduplication
      table, and sending it again changes nothing.)
    - *Interval above 0.* Pushes are acked when they are applied, and a thread writes at most that often, without
      holding up pushes. A crash loses at most the pushes of one interval and one write. When a write fails that
      bound cannot be kept, so pushes are refused with `NotDurable` until a later write succeeds; what was acked
      before stays in memory.
    - *No directory.* Nothing is written; a crash loses everything.

    Membership and rounds are part of the state; leases start afresh with the shard. The end of one has its effect at
    the next call: nobody can see the shard in between.
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
        """Start or resume a shard; its new incarnation is on disk before anyone can see it.

        `clock` gives seconds that never go back, for the members' leases.

        Raises:
            WrongRun, CorruptSnapshot: see `SnapshotFile.load`.
            NotDurable: the directory cannot be read or written.
        """
        if not snapshot_interval_s >= 0:
            raise ValueError(f"`snapshot_interval_s` must be 0 or more, got {snapshot_interval_s}")
        self._shard = Shard(layout, index)
        self._leases = Leases(layout.consistency, clock)
        self._lock = threading.Lock()
        self._queue: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._file = SnapshotFile(directory, layout, index) if directory is not None else None
        self._commits = self._file is not None and snapshot_interval_s == 0
        self._durable: ShardState | None = None  # what the last commit wrote; never set where nothing is committed
        self._dirty = False
        self._failure: str | None = None  # why the last periodic write failed
        self._closed = threading.Event()
        self._writer: threading.Thread | None = None
        if self._file is not None:
            self._resume(self._file)
            if not self._commits:
                name = f"shard-{index}-writer"
                self._writer = threading.Thread(target=self._write_every, args=(snapshot_interval_s,), name=name)
                self._writer.daemon = True
                self._writer.start()

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Tensor name -> shape of its slice on this shard."""
        return self._shard.shapes

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """See `Shard.initialize`; as durable on return as a push.

        Raises:
            NotDurable, StoreUnavailable: as `push`.
        """
        self._change(lambda: self._shard.initialize(values))

    def pull(
        self, names: Sequence[str] | None = None, client: str | None = None, *, catching_up: bool = False
    ) -> ShardValues:
        """See `Shard.pull`; waits for a commit that is under way.

        Raises:
            NotDurable: what the pull has set off, a member that is back or the end of a round, could not be written.
        """
        self._leases.hear(client)
        with self._lock:
            self._require_open()
            lapsed = self._leases.lapsed()
            if self._failure is None:  # else nothing may change until a write succeeds, but all can be read
                self._transact(lambda: self._mark(self._shard.settle(lapsed, client)))
            return self._shard.pull(names, client, lapsed, catching_up=catching_up)

    def push(self, push: ShardPush) -> ShardAck:
        """See `Shard.push`; returns when the push is as durable as the class promises.

        Raises:
            NotDurable: the write failed, or an earlier one did and none has succeeded since.
            StoreUnavailable: the shard is closed.
        """
        self._leases.hear(push.client)
        waiting = _Waiting(push)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._lock:
            # Whoever had the lock before has answered all that was queued when it looked, perhaps this one too.
            if not waiting.reply.done():
                self._answer_waiting()
        return waiting.reply.result()

    def leave(self, client: str) -> None:
        """See `Shard.leave`; as durable on return as a push.

        Raises:
            NotDurable, StoreUnavailable: as `push`.
        """
        self._change(lambda: self._shard.leave(client, self._leases.lapsed()))

    def keep(self, clients: Iterable[str]) -> None:
        """Renew the leases of those among the clients that are members. A member that has left stays away."""
        self._require_open()
        for client in clients:
            self._leases.hear(client)

    def status(self) -> ShardStatus:
        """The shard's counters."""
        with self._lock:
            self._require_open()
            status = self._shard.status()
            return self._file.tell(status) if self._file else status

    def close(self) -> None:
        """Write what is not yet on disk, and refuse all that comes later. Closing twice is allowed.

        Raises:
            NotDurable: the last periodic write failed.
        """
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        if self._writer is not None:
            self._writer.join()
            self._write_if_dirty()
            if self._failure is not None:
                raise NotDurable(self._failure)

    def _resume(self, file: SnapshotFile) -> None:
        try:
            loaded = file.load()
            if loaded is not None:
                state, fell_back = loaded
                self._shard.restore(state)
                # The previous file may be one incarnation behind the lost one, whose number must not come again.
                self._shard.restart(2 if fell_back else 1)
            state = self._shard.state()
            file.write(state)
        except OSError as error:
            raise NotDurable(f"cannot start from {file.path}: {error}") from error
        self._durable = state if self._commits else None

    def _answer_waiting(self) -> None:
        """Apply everything that is queued, make it durable in one write, and answer each push."""
        with self._queue_lock:
            batch, self._queue = self._queue, []
        try:
            outcomes = self._transact(lambda: [self._apply(waiting.push) for waiting in batch])
        except BaseException as error:
            # Nobody may wait for ever, whatever went wrong in the thread that happened to do the work. Each gets an
            # exception of its own, since raising one object in several threads would mix their tracebacks.
            reason = str(error) if isinstance(error, StoreError) else repr(error)
            for waiting in batch:
                waiting.reply.set_exception(NotDurable(reason))
            if not isinstance(error, StoreError):
                raise
            return
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                waiting.reply.set_exception(outcome)
            else:
                waiting.reply.set_result(outcome)

    def _apply(self, push: ShardPush) -> ShardAck | StoreError:
        try:
            self._require_writable()
            ack = self._shard.push(push, self._leases.lapsed())
        except StoreError as error:
            return error
        self._mark(not ack.duplicate)
        return ack

    def _change(self, change: Callable[[], bool]) -> None:
        """Run `change` and commit it, if it says that it changed anything."""
        with self._lock:
            self._require_writable()
            self._transact(lambda: self._mark(change()))

    def _mark(self, changed: bool) -> None:
        self._dirty |= changed

    def _transact(self, change: Callable[[], _T]) -> _T:
        """Run `change` and commit it; where that fails, the shard is as it was after the last commit."""
        try:
            result = change()
            if self._commits and self._dirty:
                self._commit()
            return result
        except BaseException as error:
            if self._durable is not None:
                self._shard.restore(self._durable)
                self._dirty = False
            if isinstance(error, OSError):
                raise self._not_durable(error) from error
            raise

    def _commit(self) -> None:
        assert self._file is not None
        state = self._shard.state()
        self._file.write(state)
        self._durable, self._dirty = state, False

    def _write_every(self, interval_s: float) -> None:
        while not self._closed.wait(interval_s):
            self._write_if_dirty()

    def _write_if_dirty(self) -> None:
        """The periodic write: the state is copied under the lock and written without it."""
        assert self._file is not None
        with self._lock:
            if not self._dirty:
                return
            state, self._dirty = self._shard.state(), False
        try:
            self._file.write(state)
        except OSError as error:
            failure = self._not_durable(error)
            _LOG.error("%s; pushes are refused until a write succeeds", failure)
            with self._lock:
                self._dirty, self._failure = True, str(failure)
        else:
            with self._lock:
                self._failure = None

    def _not_durable(self, error: OSError) -> NotDurable:
        assert self._file is not None
        return NotDurable(f"shard {self._shard.index} could not write {self._file.path}: {error}")

    def _require_writable(self) -> None:
        self._require_open()
        if self._failure is not None:
            raise NotDurable(self._failure)

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise StoreUnavailable(f"shard {self._shard.index} is closed")


def close_all(shards: Iterable[DurableShard]) -> None:
    """Close every shard, whatever happens to the others.

    Raises:
        NotDurable: the last write of at least one failed.
    """
    failures: list[NotDurable] = []
    for shard in shards:
        try:
            shard.close()
        except NotDurable as error:
            failures.append(error)
    if failures:
        raise failures[0]
