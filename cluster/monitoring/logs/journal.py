"""The run's log, written by its driver: `run.log` in the run's folder and, with `--log-format json`, standard output.

Lines are appended, also after a resume. A file that reaches `MAX_FILE_BYTES` is rotated to `run.log.1`, older files to
`.2` and so on; the oldest is removed. Lines that cannot be written, as on a full disk, are lost and delay nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.config.log_options import LogOptions
from cluster.monitoring.logs.events import Event, as_json, as_text
from cluster.monitoring.logs.ledger_events import LedgerEvents
from cluster.monitoring.status import Status
from cluster.periodic import repeating
from cluster.storage.corrupt_snapshots import Mark, corrupt_files, corrupt_texts
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RUN_LOG, RunFolder

MAX_FILE_BYTES = 1024 * 1024
"""Size above which a file is rotated."""

MAX_ROTATED = 9
"""Upper bound for the number of rotated files."""

POLL_INTERVAL_S = 1.0
"""Seconds between two reads of the ledger."""


def log_files(folder: RunFolder) -> list[Path]:
    """Return the files of a run's log, which need not exist: oldest first, the current one last."""
    newest = folder.path / RUN_LOG
    return [*(newest.with_name(f"{RUN_LOG}.{number}") for number in range(MAX_ROTATED, 0, -1)), newest]


class Journal:
    """Writes a run's events to its log. Safe for use by several threads.

    Args:
        run: the run's name.
        options: the log's format and level.
        console: shows messages to people or, with `json`, the log's lines to a collector.
        clock: returns the Unix time.
    """

    def __init__(self, run: str, options: LogOptions, console: Console, clock: Callable[[], float] = time.time) -> None:
        self._run, self._clock, self._console = run, clock, console
        self._json = options.log_format == "json"
        # Not registered with `logging`, so that no other code can configure it.
        self._logger = logging.Logger(run, options.log_level.upper())
        self._formatter = _Formatter(as_json if self._json else as_text)
        if self._json:
            self._add(_ConsoleHandler(console))
        self._ledger: LedgerEvents | None = None
        self._corrupt: Mapping[Path, Mark] = {}
        self._lock = threading.Lock()

    @property
    def console(self) -> Console | None:
        """The console that shows the run to people; `None` if all output is JSON."""
        return None if self._json else self._console

    def report(self, text: str, level: int = logging.INFO) -> None:
        """Show a message to people, and log it."""
        if not self._json:
            shown, style = (text, "dim") if level < logging.WARNING else (f"Warning: {text}", "yellow")
            # Nowhere to print, which must not end the search. (For a closed pipe, rich raises `SystemExit`.)
            with suppress(OSError, SystemExit):
                self._console.print(shown, style=style, markup=False, highlight=False, soft_wrap=True)
        self.event("notice", level, message=text)

    def event(self, event: str, level: int = logging.INFO, **fields: Any) -> None:
        """Log an event of the run, with the current time."""
        self._log(Event(time=self._clock(), level=level, event=event, run=self._run, fields=fields))

    @contextmanager
    def writing(self, folder: RunFolder) -> Iterator[None]:
        """Write the log into the run's folder, and log the ledger's events, until the block ends."""
        handler = _FileHandler(
            folder.path / RUN_LOG, maxBytes=MAX_FILE_BYTES, backupCount=MAX_ROTATED, encoding="utf-8", delay=True
        )
        self._add(handler)
        with suppress(LedgerError, RunFolderError, OSError), reading(folder) as db:
            self._ledger = LedgerEvents(self._run, db)
        with suppress(OSError):
            self._corrupt = corrupt_files(folder)
        try:
            with repeating(lambda: self.poll(folder), POLL_INTERVAL_S, name="journal"):
                yield
        finally:
            self._logger.removeHandler(handler)
            handler.close()

    def poll(self, folder: RunFolder) -> None:
        """Log new events of the ledger, and report snapshots that were found corrupt."""
        with self._lock, suppress(OSError):
            before, self._corrupt = self._corrupt, corrupt_files(folder)
            for text in corrupt_texts([path for path, mark in self._corrupt.items() if before.get(path) != mark]):
                self.report(text, logging.WARNING)
        with self._lock, suppress(LedgerError, RunFolderError, OSError), reading(folder) as db:
            if self._ledger is None:  # it could not be read before
                self._ledger = LedgerEvents(self._run, db)
            for event in self._ledger.poll(db, self._clock()):
                self._log(event)

    def ended(self, folder: RunFolder, status: Status) -> None:
        """Log the end of the run, which has this status."""
        self.poll(folder)
        level = logging.ERROR if status.state == "failed" else logging.INFO
        counts = {"finished": status.finished, "failed": status.failed, "updates": status.updates}
        best = {"best_child": status.best.child_id, "best_reward": status.best.reward} if status.best else {}
        message = status.message or None
        self.event(f"run {status.state}", level, message=message, **counts, **best, seconds=round(status.seconds, 3))

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(self._formatter)
        self._logger.addHandler(handler)

    def _log(self, event: Event) -> None:
        if self._logger.isEnabledFor(event.level):
            self._logger.log(event.level, event.event, extra={"event": event})


class _Formatter(logging.Formatter):
    def __init__(self, line: Callable[[Event], str]) -> None:
        super().__init__()
        self._line = line

    def format(self, record: logging.LogRecord) -> str:
        event: Any = record.__dict__["event"]
        return self._line(event)


class _FileHandler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error: the disk is full, which the ledger's writer reports."""


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line; ignore a closed pipe, which must not end the search."""
        with suppress(OSError):
            self._console.file.write(f"{self.format(record)}\n")
            self._console.file.flush()
