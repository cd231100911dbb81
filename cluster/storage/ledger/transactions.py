"""The transactions of one connection: atomic, one at a time. Standard library only."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Transactions:
    """A factory of transactions: call it in a `with` statement.

    Args:
        connection: in autocommit mode.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._joined = False
        self.lock = threading.RLock()
        """Held during each use of the connection; a thread in `together` holds it until the end of that."""

    @contextmanager
    def __call__(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction, or join the one of this thread's `together`."""
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
        """Begin a transaction that later ones of this thread join until the block ends, or join one that has begun."""
        with self():
            if self._joined:
                yield
                return
            self._joined = True
            try:
                yield
            finally:
                self._joined = False
