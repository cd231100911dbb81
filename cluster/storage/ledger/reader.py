"""Opens a ledger for reading only."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.schema import VERSION, LedgerVersionError, migrate
from cluster.storage.run_folder import RunFolder

LedgerConnection = sqlite3.Connection
"""What `cluster.storage.ledger.queries` reads from: others hold it, and know nothing of SQL."""


@contextmanager
def reading(folder: RunFolder) -> Iterator[sqlite3.Connection]:
    """Yield a connection with one consistent view of the ledger, in the tables of this version or a newer one.

    A newer version has further tables and columns, as each has had so far; `newer_version` tells which one it is.

    Raises:
        LedgerVersionError: the ledger has a version that none ever had, or a query finds it too new to be read.
        RunFolderError: the ledger is damaged; a later query may find that.
    """
    newer = 0
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as own:
            if not folder.ledger.exists():  # not created yet: read it as empty
                migrate(own, str(folder.ledger))
                yield own
                return
            with _connected(folder.ledger) as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                newer = version if version > VERSION else 0
                if version >= VERSION:
                    db.execute("BEGIN")
                    yield db
                    return
                db.backup(own)  # only the writer may migrate the file
                migrate(own, str(folder.ledger))
                yield own
    except (sqlite3.DatabaseError, KeyError, TypeError) as error:
        if newer:
            raise LedgerVersionError(
                f"{folder.ledger} has the ledger version {newer}, but this nascluster knows up to {VERSION}: use a"
                f" newer one ({error})"
            ) from error
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        raise RunFolderError(f"{folder.ledger} cannot be read: {error}") from error


def begin_anew(db: LedgerConnection) -> None:
    """End the view of the ledger that a connection has: the next query begins another one.

    While a view is open, the ledger's write-ahead log keeps all that was written since, and grows.
    """
    if db.in_transaction:
        db.execute("COMMIT")
        db.execute("BEGIN")


@contextmanager
def _connected(ledger: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection for reading, also where SQLite cannot create the files of its write-ahead log."""
    uri = f"{ledger.as_uri()}?mode=ro"
    if (usual := _usual(uri)) is not None:
        with closing(usual):
            yield usual
        return
    log = ledger.with_name(f"{ledger.name}-wal")
    if not log.exists() or log.stat().st_size == 0:
        with closing(sqlite3.connect(f"{uri}&immutable=1", uri=True)) as db:
            yield db
        return
    with TemporaryDirectory() as place:  # the log holds rows that an immutable ledger would lack
        for file in (ledger, log):
            shutil.copy(file, place)
        with closing(sqlite3.connect(Path(place) / ledger.name)) as db:
            yield db


def _usual(uri: str) -> sqlite3.Connection | None:
    """Return a connection that has read something, or `None` where SQLite needs to write a file and cannot."""
    db = None
    try:
        db = sqlite3.connect(uri, uri=True)
        db.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        if db is not None:
            db.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        return None
    return db


def newer_version(db: LedgerConnection) -> str | None:
    """Return a clause on the ledger's version if this nascluster does not know it."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return f"the ledger's version {version}, only those up to {VERSION}" if version > VERSION else None
