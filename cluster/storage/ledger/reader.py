"""Opens a ledger for reading only."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.schema import VERSION, migrate
from cluster.storage.run_folder import RunFolder

LedgerConnection = sqlite3.Connection
"""What `cluster.storage.ledger.queries` reads from: others hold it, and know nothing of SQL."""


@contextmanager
def reading(folder: RunFolder) -> Iterator[sqlite3.Connection]:
    """Yield a connection with one consistent view of the ledger, in the tables of this version.

    Raises:
        LedgerVersionError: a newer nascluster wrote it.
        RunFolderError: the ledger is damaged; a later query may find that.
    """
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as own:
            if not folder.ledger.exists():  # not created yet: read it as empty
                migrate(own, str(folder.ledger))
                yield own
                return
            with closing(sqlite3.connect(f"{folder.ledger.as_uri()}?mode=ro", uri=True)) as db:
                if db.execute("PRAGMA user_version").fetchone() == (VERSION,):
                    db.execute("BEGIN")
                    yield db
                    return
                db.backup(own)  # only the writer may migrate the file
                migrate(own, str(folder.ledger))
                yield own
    except sqlite3.DatabaseError as error:
        raise RunFolderError(f"{folder.ledger} cannot be read: {error}") from error
