"""`ShardDisk`: where a shard's states are written: its own file, or a journal that its file follows."""

from pathlib import Path

from ps.errors import NotDurable
from ps.shard.journal import Content, Journal
from ps.shard.messages import ShardState
from ps.shard.order import Start
from ps.shard.order_log import SYNC_EVERY, OrderLog
from ps.shard.shard import Shard
from ps.shard.snapshot import SnapshotFile
from ps.status import ShardStatus
from ps.store import Layout


class ShardDisk:
    """Numbers the states of one shard, and writes them. A later state of one incarnation has a larger number."""

    def __init__(self, directory: Path, layout: Layout, index: int) -> None:
        self._file = SnapshotFile(directory, layout, index)
        self.index = index
        """The shard's number."""
        self._order = OrderLog(directory, index)
        self._journal: Journal | None = None
        self._number = 0
        self._in_file = 0  # the number of the state that the file has

    def resume(self, shard: Shard) -> ShardState:
        """Restore the newest state of an earlier process, if there is one, and write the shard's new incarnation.

        Raises:
            WrongRun, CorruptSnapshot: see `SnapshotFile.load`.
            NotDurable: the directory cannot be read or written.
        """
        try:
            loaded = self._file.load()
            if loaded is not None:
                state, fell_back = loaded
                shard.restore(state)
                before, order = shard.incarnation, shard.order
                # The previous file may be one incarnation behind the lost one, whose number must not be reused.
                shard.restart(2 if fell_back else 1)
                self._order.start(Start(shard.incarnation, before, order.count, order.pushes))
                order.forget(order.count)
            state = self.next_state(shard)
            self.write_file(state)
        except OSError as error:
            raise NotDurable(f"cannot start from {self._file.path}: {error}") from error
        return state

    def next_state(self, shard: Shard) -> ShardState:
        """Return a copy of the shard's state, with its number."""
        state = shard.state()
        self._number += 1
        state.metadata["commits"] = self._number
        return state

    def write(self, state: ShardState) -> None:
        """Make a state durable.

        Raises:
            OSError: it may or may not be on the disk.
        """
        if self._journal is not None:
            self._journal.append([(self.index, self.content(state))])
        else:
            self.write_file(state)

    def record_order(self, shard: Shard) -> None:
        """Record in the log which pushes the shard has applied, once they are committed; never an error.

        The log is brought to the disk here only where each commit takes as long; see `sync_order`.
        """
        self._order.append(shard.order, shard.incarnation)
        if self._journal is None and len(shard.order.tail) >= SYNC_EVERY:
            shard.order.forget(self._order.sync())

    def sync_order(self) -> int:
        """Bring the log to the disk; return the number of the last push that is certain to be in it."""
        return self._order.sync()

    def close(self) -> None:
        """Close the log of the order."""
        self._order.close()

    def write_file(self, state: ShardState) -> None:
        """Write a state into the shard's own file, unless it has it.

        Raises:
            OSError: see `SnapshotFile.write`.
        """
        number = state.metadata["commits"]
        if number != self._in_file:
            self._file.write(state)
            self._in_file = number

    def write_into(self, journal: Journal) -> None:
        """Let `write` append to this journal from now on."""
        self._journal = journal

    def content(self, state: ShardState) -> Content:
        """Return what the shard's file has with this state."""
        return self._file.content(state)

    def with_write_counters(self, status: ShardStatus) -> ShardStatus:
        """See `SnapshotFile.with_write_counters`."""
        return self._file.with_write_counters(status)

    def failure(self, error: OSError) -> NotDurable:
        """Return the error of a write that failed."""
        return NotDurable(f"shard {self.index} could not write {self._file.path}: {error}")
