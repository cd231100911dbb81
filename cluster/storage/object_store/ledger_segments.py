"""The ledger in segments: each holds the rows that changed in between two revisions; together they make it anew.

A segment is a gzipped SQLite file with a table for each of `ledger.schema.RECORDED` (the rows' ids in the column
`row_`), and one called `segment`. Gzip's checksum tells a torn segment. Segments are applied in
the order of their numbers. One may repeat rows of the one before it; one that begins later than what was applied so far
ends what can be read.
"""

import gzip
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.ledger.reader import reading
from cluster.storage.ledger.schema import RECORDED, VERSION, LedgerVersionError, migrate
from cluster.storage.run_folder import RunFolder

FORMAT = "nascluster-ledger-1"
"""Names the meaning of a segment; a reader that does not know it refuses the segment."""

PAGE_BYTES = 65_536
"""Of a segment's pages: small ones waste much where a row is larger than half a page."""


class TornSegment(ValueError):
    """A segment is not whole, or none of ours."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of the ledger, to be kept elsewhere.

    Attributes:
        upto: the newest revision in it.
        rows: how many rows it has.
        content: the gzipped file.
    """

    upto: int
    rows: int
    content: bytes


def export(folder: RunFolder, after: int | None) -> Segment:
    """The rows that have changed since the revision `after`; all rows, changed or not, if that is `None`.

    The ledger is only read, in one transaction, while its writer goes on.
    """
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "segment.sqlite"
        with closing(sqlite3.connect(file.as_uri(), uri=True, isolation_level=None)) as db:
            for setting in (f"page_size = {PAGE_BYTES}", "synchronous = OFF", "journal_mode = OFF"):
                db.execute(f"PRAGMA {setting}")
            db.execute("ATTACH ? AS run", (f"{_current(folder, Path(directory)).as_uri()}?mode=ro",))
            db.execute("BEGIN")
            upto = db.execute("SELECT coalesce(max(revision), 0) FROM run.changes").fetchone()[0]
            rows = 0
            for table in RECORDED:
                # The plus keeps SQLite from the index of (kind, row), in which it would look at every row there is.
                changed = f"SELECT row FROM run.changes WHERE +kind = '{table}' AND revision > {after or 0:d}"
                where = "true" if after is None else f"rowid IN ({changed})"
                db.execute(f"CREATE TABLE main.{table} AS SELECT rowid AS row_, * FROM run.{table} WHERE {where}")
                rows += db.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0]
            db.execute("CREATE TABLE main.segment (format, version, after, upto)")
            db.execute("INSERT INTO main.segment VALUES (?, ?, ?, ?)", (FORMAT, VERSION, after, upto))
            db.execute("COMMIT")
        return Segment(upto=upto, rows=rows, content=gzip.compress(file.read_bytes(), compresslevel=1))


def _current(folder: RunFolder, directory: Path) -> Path:
    """The ledger's file; a copy with this version's tables where it has those of an earlier one or is not there."""
    if folder.ledger.exists():
        with closing(sqlite3.connect(f"{folder.ledger.as_uri()}?mode=ro", uri=True)) as db:
            if db.execute("PRAGMA user_version").fetchone() == (VERSION,):
                return folder.ledger
    path = directory / "current.sqlite"
    with closing(sqlite3.connect(path)) as copy, reading(folder) as db:
        db.backup(copy)
    return path


class Rebuild:
    """Makes a ledger of segments.

    Args:
        path: the SQLite file to make; it is whole when `finish` has returned.
        db: the same, opened.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db
        # Whoever dies in between begins again.
        for setting in ("synchronous = OFF", "journal_mode = OFF"):
            self._db.execute(f"PRAGMA {setting}")
        self._triggers: list[str] = []
        self._reached: int | None = None

    def add(self, content: bytes) -> bool:
        """Apply the next segment, and say whether it fitted: one that leaves a gap does not, nor does any after it.

        Raises:
            TornSegment: it is not whole; nothing was changed.
            LedgerVersionError: a newer nascluster wrote it.
        """
        file = self._path.with_suffix(".segment")
        try:
            file.write_bytes(gzip.decompress(content))
        except (OSError, EOFError, zlib.error) as error:
            raise TornSegment(f"a segment of the ledger is torn: {error}") from error
        with closing(sqlite3.connect(file)) as segment:
            try:
                form, version, after, upto = segment.execute("SELECT * FROM segment").fetchone()
            except (sqlite3.DatabaseError, TypeError) as error:
                raise TornSegment(f"a segment of the ledger is none: {error}") from error
        if form != FORMAT or version > VERSION:
            raise LedgerVersionError(
                f"the stored ledger has the format {form} and the version {version}, but this nascluster knows up to"
                f" {FORMAT} and {VERSION}: use a newer one"
            )
        if self._reached is None and after is None:
            self._make_tables(version)
        elif self._reached is None or after is None or after > self._reached:
            return False
        self._insert(file)
        self._reached = max(upto, self._reached or 0)
        return True

    def finish(self) -> None:
        """Bring the tables to this version."""
        self._path.with_suffix(".segment").unlink(missing_ok=True)
        for trigger in self._triggers:
            self._db.execute(trigger)
        migrate(self._db, str(self._path))

    def _make_tables(self, version: int) -> None:
        migrate(self._db, str(self._path), upto=version)
        triggers = self._db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, sql in triggers:  # the rows are not changes of this ledger: its first segment has all of them
            self._db.execute(f"DROP TRIGGER {name}")
            self._triggers.append(sql)

    def _insert(self, file: Path) -> None:
        self._db.execute("ATTACH ? AS segment", (str(file),))
        self._db.execute("BEGIN")
        for (table,) in self._db.execute("SELECT name FROM segment.sqlite_master WHERE name != 'segment'").fetchall():
            names = ", ".join(
                row[1] for row in self._db.execute(f"PRAGMA segment.table_info({table})") if row[1] != "row_"
            )
            self._db.execute(
                f"INSERT OR REPLACE INTO main.{table} (rowid, {names}) SELECT row_, {names} FROM segment.{table}"
            )
        self._db.execute("COMMIT")
        self._db.execute("DETACH segment")


def rebuild(path: Path, segments: Iterable[bytes]) -> int:
    """Make a ledger of segments in their order, up to the first gap; torn ones are passed over.

    Returns:
        how many segments were looked at until the last one that was applied; 0 if the first was no whole ledger.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    last = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        making = Rebuild(path, db)
        for count, content in enumerate(segments, start=1):
            try:
                fits = making.add(content)
            except TornSegment:
                fits = False
            if fits:
                last = count
            elif last == 0:
                break
        making.finish()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return last
