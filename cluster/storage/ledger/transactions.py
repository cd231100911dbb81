"""The transactions of one connection: atomic, one at a time. Standard library only."""

import sqlite3
import threading
from contextlib import AbstractContextManager


class Transactions:
    """A factory of transactions: call it in a `with` statement.

    Args:
        connection: in autocommit mode.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.joined = False
        """Whether a thread is in `together`; asked by that thread."""
        self.lock = threading.RLock()
        """Held during each use of the connection; a thread in `together` holds it until the end of that."""

    def __call__(self) -> AbstractContextManager[sqlite3.Connection]:
        """Begin a transaction, or join the one of this thread's `together`."""
        return _Transaction(self, self._connection)

    def together(self) -> AbstractContextManager[None]:
        """Begin a transaction that later ones of this thread join until the block ends, or join one that has begun."""
        return _Together(self, self._connection)


# Classes, as a child takes a dozen transactions, and to enter and leave a generator takes twice as long.
class _Transaction(AbstractContextManager[sqlite3.Connection]):
    def __init__(self, transactions: Transactions, connection: sqlite3.Connection) -> None:
        self._transactions, self._connection = transactions, connection
        self._begins = False

    def __enter__(self) -> sqlite3.Connection:
        self._transactions.lock.acquire()
        try:
            if not self._transactions.joined:
                self._connection.execute("BEGIN IMMEDIATE")
                self._begins = True
        except BaseException:
            self._transactions.lock.release()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._begins:
                self._end(commit=kind is None)
        finally:
            self._transactions.lock.release()

    def _end(self, *, commit: bool) -> None:
        try:
            if commit:
                self._connection.execute("COMMIT")
        finally:
            # On a full disk SQLite has rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


class _Together(AbstractContextManager[None]):
    def __init__(self, transactions: Transactions, connection: sqlite3.Connection) -> None:
        self._transactions = transactions
        self._transaction = _Transaction(transactions, connection)
        self._begins = False

    def __enter__(self) -> None:
        self._transaction.__enter__()
        self._begins = not self._transactions.joined
        self._transactions.joined = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._begins:
            self._transactions.joined = False
        self._transaction.__exit__(kind)
