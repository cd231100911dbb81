"""The ceilings of a search that runs: the driver asks whether one is reached, and then lets no more children begin."""

import math
import time
from collections.abc import Callable

from cluster.config.ceilings import least_seconds, reason_of, used_up
from cluster.config.run_config import RunConfig
from cluster.placement.capacity import PlacementError
from cluster.storage.errors import CeilingReached, LedgerError, RunFolderError
from cluster.storage.ledger.queries import usage
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

MIN_INTERVAL_S, MAX_INTERVAL_S = 0.2, 30.0
"""Seconds between two looks into the ledger, which adds up all attempts in it."""


class CeilingWatch:
    """Looks into a run's ledger for what is used, more often the sooner a ceiling can be reached.

    Args:
        config: the run's.
        folder: the run's.
        workers: the most children in training at once.
        clock: returns the Unix time, by which the ledger counts.
        elapsed: returns seconds, which no change of the machine's time moves; they decide when to look again.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        workers: int,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ceilings, self._folder, self._workers = config.ceilings, folder, workers
        self._clock, self._elapsed = clock, elapsed
        self._next = -math.inf if config.ceilings.any else math.inf
        self._end: CeilingReached | None = None

    def reached(self) -> CeilingReached | None:
        """Return the end of the search if one of its ceilings is used up; from then on always."""
        now = self._elapsed()
        if self._end is not None or now < self._next:
            return self._end
        try:
            with reading(self._folder) as db:
                used, gpus = usage.used(db, self._clock()), usage.gpus_per_child(db)
        except (LedgerError, RunFolderError, OSError):  # its writer reports what is wrong with it
            self._next = now + MAX_INTERVAL_S
            return None
        if (ceiling := used_up(self._ceilings, used)) is not None:
            self._end = CeilingReached(reason_of(ceiling))
            return self._end
        # Half of the time in which it cannot happen, as more workers may join.
        least = least_seconds(self._ceilings, used, gpus * self._workers) / 2
        self._next = now + min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, least))
        return None


def check_gpus(config: RunConfig, gpus: float, *, begun: bool) -> str:
    """Return a sentence on ceilings on GPU hours if children use no GPU in this start of the run; else nothing.

    Args:
        config: the run's.
        gpus: of each child.
        begun: the run has had a start.

    Raises:
        PlacementError: the run is new. It would never come to its ceiling.
    """
    if gpus or not config.ceilings.counts_gpus:
        return ""
    flag = "--max-cost" if config.ceilings.max_gpu_hours is None else "--max-gpu-hours"
    if begun:
        return f"Children have no GPU here: this start adds nothing to the GPU hours, which {flag} limits"
    raise PlacementError(
        f"{flag} would never end the search, as its children have no GPU here: leave it out, and give --max-hours"
    )
