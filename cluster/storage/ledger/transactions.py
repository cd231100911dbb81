"""One connection's transactions: whole or not at all, one after the other. Standard library only."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Transactions:
    """Called, it gives a transaction to use in a `with` block.

    Args:
        connection: in autocommit mode.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._joined = False
        self.lock = threading.RLock()
        """Held around each use of the connection; a thread that records several things together holds it all along."""

    @contextmanager
    def __call__(self) -> Iterator[sqlite3.Connection]:
        """A transaction, or a part of the one that this thread's `together` is."""
        with self.lock:
            if self._joined:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """A transaction that those of this thread within it become parts of."""
        with self():
            self._joined = True
            try:
                yield
            finally:
                self._joined = False
