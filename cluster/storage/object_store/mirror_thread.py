"""The thread that copies a run's folder to its object store, until the run has ended."""

import threading
import time
from collections.abc import Callable

from cluster.storage.object_store.mirror import Mirror
from cluster.storage.object_store.store import reason

MIRROR_INTERVAL_S = 2.0
"""Seconds between the starts of two rounds. The object store has all changes older than this and one round."""


class MirrorThread:
    """Carries out the rounds until the run has ended, then a last one. Retries failed rounds without limit.

    Args:
        mirror: its first round is done.
        place: the run's URL, for people.
        is_lost: returns whether another driver has taken over.
        report: called once when writes begin to fail, and once when they work again.
        interval_s: see `MIRROR_INTERVAL_S`.
    """

    def __init__(
        self,
        mirror: Mirror,
        place: str,
        is_lost: Callable[[], bool],
        report: Callable[[str], object],
        interval_s: float = MIRROR_INTERVAL_S,
    ) -> None:
        self._mirror = mirror
        self._place = place
        self._is_lost = is_lost
        self._report = report
        self._interval_s = interval_s
        self._failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def start(self) -> None:
        """Start the rounds."""
        self._thread.start()

    def finish(self) -> bool:
        """Write everything, after the run's last change, and return whether the object store has it.

        It does not if another driver has taken over, or after Ctrl-C while the object store is unavailable.
        """
        try:
            self._ended.set()
            self._thread.join()
            while not self._is_lost():
                if self._try():
                    return True
                time.sleep(self._interval_s)
        except KeyboardInterrupt:
            self._report(f"The end of the run was not written to {self._place}; it is on this machine only")
        return False

    def _run(self) -> None:
        # Not a `PeriodicThread`: rounds start at regular times, however long each of them takes.
        wait_s = self._interval_s
        while not self._ended.wait(wait_s) and not self._is_lost():
            began = time.monotonic()
            self._try()
            wait_s = max(0.0, self._interval_s - (time.monotonic() - began))

    def _try(self) -> bool:
        try:
            self._mirror.round()
        except Exception as error:
            if not self._failing and not self._is_lost():
                self._report(f"Writing to {self._place} failed and will be retried until it works: {reason(error)}")
            self._failing = True
            return False
        if self._failing:
            self._report(f"Writing to {self._place} works again; everything has been uploaded")
        self._failing = False
        return True
