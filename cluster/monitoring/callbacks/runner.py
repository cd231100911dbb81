"""Runs a search's callbacks while it is in progress, each in a thread of its own."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.monitoring.callbacks.callback import Search
from cluster.monitoring.callbacks.ledger_feed import LedgerFeed
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

POLL_INTERVAL_S = 1.0
"""Seconds between two reads of the ledger."""

END_TIMEOUT_S = 60.0
"""Seconds that a callback has after the end of the search to handle the remaining children."""

CALLBACKS = "callbacks"
"""Folder in the run's folder with a file per callback that records its progress."""

Report = Callable[[str], object]
"""Called with a message for the user."""


class CallbackRunner:
    """The thread of one callback.

    Args:
        name: the callback's name, as the user gave it.
        callback: see `cluster.monitoring.callbacks.callback.Callback`.
        folder: the run's folder.
        config: the run's configuration.
        report: called once if the callback raises, which disables it.
    """

    def __init__(self, name: str, callback: Any, folder: RunFolder, config: RunConfig, report: Report) -> None:
        self._name, self._folder, self._config, self._report = name, folder, config, report
        self._feed = LedgerFeed(callback, folder.path / CALLBACKS / f"{re.sub('[^A-Za-z0-9_.-]', '-', name)}.json")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"callback {name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Make the thread end after it has handled the remaining children."""
        self._ended.set()

    def wait(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """Wait until the thread has ended, but at most `timeout_s` seconds."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._report(
                f"Callback {self._name} did not finish within {timeout_s:g} s after the search ended;"
                " no longer waiting for it"
            )

    def _run(self) -> None:
        try:
            self._feed.begin(
                stop=None,
                num_samples=self._config.max_children,
                total_num_samples=self._config.max_children,
                search=Search(
                    name=self._folder.name,
                    place=self._folder.place,
                    folder=str(self._folder.path),
                    config=self._config.to_json(),
                    completed=self._feed.completed,
                ),
            )
            while not self._ended.wait(POLL_INTERVAL_S):
                self._drain()
            self._drain()
            self._feed.end()
        except (Exception, SystemExit) as error:  # a callback may raise anything
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            self._report(f"Callback {self._name} raised {text}; it is disabled, and the search continues")

    def _drain(self) -> None:
        """Pass all new children on to the callback."""
        while True:
            try:
                with reading(self._folder) as db:
                    ended, running = self._feed.poll(db)
            except (LedgerError, RunFolderError, OSError):  # perhaps temporary: the next poll tries again
                return
            self._feed.step(ended, running)  # outside the block, which keeps SQLite from truncating its log
            if not ended:
                return


@contextmanager
def run_callbacks(
    callbacks: Sequence[tuple[str, Any]], folder: RunFolder, config: RunConfig, report: Report
) -> Iterator[None]:
    """Run callbacks until the block ends.

    Args:
        callbacks: their names and objects.
        folder: the run's folder.
        config: the run's configuration.
        report: called with messages for the user.
    """
    runners = [CallbackRunner(name, callback, folder, config, report) for name, callback in callbacks]
    try:
        yield
    finally:
        for runner in runners:
            runner.end()
        with suppress(KeyboardInterrupt):  # the run has ended: Ctrl-C only ends the waiting
            for runner in runners:
                runner.wait()
