"""Tells a run's callbacks what becomes of it, each in a thread of its own, while it runs."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.monitoring.callbacks.callback import Search
from cluster.monitoring.callbacks.feed import Feed
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

LOOK_S = 1.0
"""Seconds between two looks at the ledger."""

END_S = 60.0
"""Seconds in which a callback must have taken in what is left when the search has ended."""

CALLBACKS = "callbacks"
"""The folder that says how far each has come, in the run's."""

Say = Callable[[str], object]


class Telling:
    """The thread of one callback.

    Args:
        name: as the user named the callback.
        callback: see `cluster.monitoring.callbacks.callback.Callback`.
        folder: whose run.
        config: of the run.
        say: told, once, of what the callback raises: it is switched off then.
    """

    def __init__(self, name: str, callback: Any, folder: RunFolder, config: RunConfig, say: Say) -> None:
        self._name, self._folder, self._config, self._say = name, folder, config, say
        self._feed = Feed(callback, folder.path / CALLBACKS / f"{re.sub('[^A-Za-z0-9_.-]', '-', name)}.json")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name=f"callback {name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The search has ended: have it told what is left."""
        self._ended.set()

    def wait(self, patience_s: float = END_S) -> None:
        """Until that is done, but not for ever."""
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._say(f"The callback {self._name} has not taken in the end in {patience_s:g} s, and is left behind")

    def _tell(self) -> None:
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
            while not self._ended.wait(LOOK_S):
                self._drain()
            self._drain()
            self._feed.end()
        except Exception as error:  # whatever a callback raises
            what = f"{type(error).__name__}: {error}".partition("\n")[0]
            self._say(f"The callback {self._name} is switched off, as it raised {what}")

    def _drain(self) -> None:
        while True:
            try:
                with reading(self._folder) as db:
                    ended, running = self._feed.look(db)
            except (LedgerError, RunFolderError, OSError):  # for a while, perhaps
                return
            self._feed.step(ended, running)  # outside of the block, which keeps the ledger's log from being cut
            if not ended:
                return


@contextmanager
def telling(callbacks: Sequence[tuple[str, Any]], folder: RunFolder, config: RunConfig, say: Say) -> Iterator[None]:
    """Tell these callbacks, with their names, of the run until the block is left."""
    tellings = [Telling(name, callback, folder, config, say) for name, callback in callbacks]
    try:
        yield
    finally:
        for each in tellings:
            each.end()
        with suppress(KeyboardInterrupt):  # the run has ended, whatever still clings to it
            for each in tellings:
                each.wait()
