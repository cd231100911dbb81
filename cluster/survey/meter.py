"""Counts the processor time of a run over all of its starts, and ends it at its budget."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cluster.periodic import repeating
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.queries.status import children_by_state
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from cluster.survey.files import CellFiles, Mark

INTERVAL_S = 0.25
"""Seconds between two looks at the clock and the ledger, a look of about a millisecond."""


class Meter:
    """Counts the processor time of the run in this process, and notes how far it has come.

    What earlier starts have used is in the run's marks; a kill loses what came after the last one, less than a second.

    Args:
        files: with the marks.
        budget_s: the core-seconds after which it ends.
        stop_requested: whether the whole survey is to stop.
        clock: returns the processor time of this process, with all of its threads.
    """

    def __init__(
        self,
        files: CellFiles,
        budget_s: float,
        stop_requested: Callable[[], bool],
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._files, self._budget_s, self._stop_requested, self._clock = files, budget_s, stop_requested, clock
        marks = files.marks()
        self._before, self._ended = (marks[-1].spent, marks[-1].ended) if marks else (0.0, 0)
        self._zero = clock()
        self.begun_at: float | None = None

    @property
    def spent(self) -> float:
        """Core-seconds of all starts."""
        return self._before + self._clock() - self._zero

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up."""
        return self.spent >= self._budget_s

    @contextmanager
    def watching(self, folder: RunFolder, *, counts: bool = True) -> Iterator[None]:
        """Note how far the run has come, and stop it at the end of the budget or of the survey, until the block ends.

        Args:
            folder: of the run, which may not exist yet.
            counts: whether its children are those of the search; those of a probe are not.
        """
        self.begun_at = None

        def look() -> None:
            if folder.ledger.exists() and self.begun_at is None:
                self.begun_at = self.spent
            self._note(folder, counts)
            if self.is_over or self._stop_requested():
                _stop(folder)

        with repeating(look, INTERVAL_S, name="the meter of the survey", at_once=True):
            yield
        self._note(folder, counts)

    def _note(self, folder: RunFolder, counts: bool) -> None:
        if counts and folder.ledger.exists():
            with (
                suppress(LedgerError, RunFolderError),
                reading(folder) as db,
            ):  # its writer reports what is wrong with it
                states = children_by_state(db)
                self._ended = states.get("finished", 0) + states.get("failed", 0)
        self._files.mark(Mark(self.spent, self._ended))


def _stop(folder: RunFolder) -> None:
    if folder.ledger.exists():  # else it has not begun, and would not see the request
        folder.request_stop()
