"""`FileUpdates`: a thread that writes what shards have committed into their journal into their own files."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from ps.shard.durable_shard import DurableShard
from ps.shard.journal import Journal

_LOG = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two updates."""


class FileUpdates:
    """Brings the files of some shards up to date with their journal every second, and empties it.

    The journal lets a push wait for one write only. The shards' own files are what everybody else reads: a start, the
    copy in an object store.
    """

    def __init__(self, shards: Sequence[DurableShard], journal: Journal) -> None:
        self._shards = shards
        self._journal = journal
        self._is_switched = False  # whether the journal's other file may have what the shards' files lack
        self._closed = threading.Event()
        self._writers = ThreadPoolExecutor(len(shards), thread_name_prefix="shard-file")
        self._thread = threading.Thread(target=self._run, name="shard-files", daemon=True)
        self._thread.start()

    def update(self) -> None:
        """Write all files that are behind, at the same time, and empty the journal.

        Raises:
            OSError: a file could not be written; the journal keeps what it has.
        """
        if not self._is_switched:
            if not self._journal.size_bytes:
                return
            self._journal.switch()
            self._is_switched = True
        # A shard's last commit before the switch is its durable state by the time that its lock is free.
        writings = [self._writers.submit(shard.update_file) for shard in self._shards]
        wait(writings)  # even if one fails: the next update must not write a file that this one still writes
        for writing in writings:
            writing.result()
        self._journal.clear()
        self._is_switched = False

    def close(self) -> None:
        """End the thread and update the files, once the shards are closed. Closing twice is allowed.

        If that fails, the journal stays, and the next start reads it.
        """
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        is_complete = self._try_update() and self._try_update()  # one for each file of the journal
        self._journal.close(remove=is_complete)
        self._writers.shutdown()

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            self._try_update()

    def _try_update(self) -> bool:
        try:
            self.update()
        except OSError as error:
            _LOG.error("the files of the shards are behind their journal, which is kept: %s", error)
            return False
        return True
