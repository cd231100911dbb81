"""The ledger in segments: each holds the rows that changed between two revisions; together they rebuild it.

A segment is a gzipped SQLite file with a table for each of `ledger.schema.RECORDED` (the rows' ids in the column
`row_`), and one called `segment`. Gzip's checksum detects torn segments. Segments are applied in the order of their
numbers. A segment may repeat rows of the previous one. One that begins after the last revision applied so far leaves a
gap, so neither it nor any later segment can be used.
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
from cluster.storage.ledger.schema import KEPT_CHANGES, RECORDED, VERSION, LedgerVersionError, migrate
from cluster.storage.run_folder import RunFolder

FORMAT = "nascluster-ledger-1"
"""The format of a segment; a reader that does not know it rejects the segment."""

PAGE_BYTES = 65_536
"""Size of a segment's pages; small pages waste space if a row is larger than half a page."""


class TornSegment(ValueError):
    """A segment is incomplete, or is not one of ours."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of the ledger, for the object store.

    Attributes:
        upto: its newest revision.
        rows: its number of rows.
        content: the gzipped file.
    """

    upto: int
    rows: int
    content: bytes


def export(folder: RunFolder, after: int | None) -> Segment:
    """Return the rows that have changed since the revision `after`; all rows if `after` is `None`.

    Reads the ledger in one transaction, and does not block its writer.
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
                # The plus keeps SQLite from using the index of (kind, row), with which it would read every row.
                changed = f"SELECT row FROM run.changes WHERE +kind = '{table}' AND revision > {after or 0:d}"
                # What the ledger has forgotten is among all rows.
                where = "true" if after is None or upto - after >= KEPT_CHANGES else f"rowid IN ({changed})"
                db.execute(f"CREATE TABLE main.{table} AS SELECT rowid AS row_, * FROM run.{table} WHERE {where}")
                rows += db.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0]
            db.execute("CREATE TABLE main.segment (format, version, after, upto)")
            db.execute("INSERT INTO main.segment VALUES (?, ?, ?, ?)", (FORMAT, VERSION, after, upto))
            db.execute("COMMIT")
        return Segment(upto=upto, rows=rows, content=gzip.compress(file.read_bytes(), compresslevel=1))


def _current(folder: RunFolder, directory: Path) -> Path:
    """Return the ledger's file, or a copy in this version's format if the file is older or does not exist."""
    if folder.ledger.exists():
        with closing(sqlite3.connect(f"{folder.ledger.as_uri()}?mode=ro", uri=True)) as db:
            if db.execute("PRAGMA user_version").fetchone() == (VERSION,):
                return folder.ledger
    path = directory / "current.sqlite"
    with closing(sqlite3.connect(path)) as copy, reading(folder) as db:
        db.backup(copy)
    return path


class Rebuild:
    """Rebuilds a ledger from segments.

    Args:
        path: the SQLite file to create; it is complete when `finish` has returned.
        db: a connection to that file.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db
        # Not durable: after a crash, the ledger is rebuilt from the beginning.
        for setting in ("synchronous = OFF", "journal_mode = OFF"):
            self._db.execute(f"PRAGMA {setting}")
        self._triggers: list[str] = []
        self._reached: int | None = None

    def add(self, content: bytes) -> bool:
        """Apply the next segment, and return whether it was applied.

        A segment that leaves a gap is not applied, nor is any later one.

        Raises:
            TornSegment: the segment is incomplete; nothing was changed.
            LedgerVersionError: a newer nascluster wrote the segment.
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
                raise TornSegment(f"an object is no segment of the ledger: {error}") from error
        if form != FORMAT or version > VERSION:
            raise LedgerVersionError(
                f"the stored ledger has the format {form} and the version {version}, but this nascluster reads at most"
                f" {FORMAT} and {VERSION}: use a newer nascluster"
            )
        if self._reached is None and after is None:
            self._make_tables(version)
        elif self._reached is None or after is None or after > self._reached:
            return False
        self._insert(file)
        self._reached = max(upto, self._reached or 0)
        return True

    def finish(self) -> None:
        """Migrate the tables to this version; the next start counts their totals."""
        self._path.with_suffix(".segment").unlink(missing_ok=True)
        for trigger in self._triggers:
            self._db.execute(trigger)
        migrate(self._db, str(self._path))
        self._db.execute("DELETE FROM totals")

    def _make_tables(self, version: int) -> None:
        migrate(self._db, str(self._path), upto=version)
        triggers = self._db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, sql in triggers:  # these rows are no changes of the new ledger, whose first segment has all rows
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
    """Rebuild a ledger from segments in their order, up to the first gap; torn segments are skipped.

    Returns:
        How many segments were read up to the last one applied; 0 if the first one is no complete ledger.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    last = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        ledger = Rebuild(path, db)
        for count, content in enumerate(segments, start=1):
            try:
                applied = ledger.add(content)
            except TornSegment:
                applied = False
            if applied:
                last = count
            elif last == 0:
                break
        ledger.finish()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return last
