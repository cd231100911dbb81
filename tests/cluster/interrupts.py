"""Ctrl-C while a search is running in the tests' own process."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.monitoring.status import read_status
from cluster.storage.run_folder import RunFolder
from tests.waiting import until


@contextmanager
def interrupted_when_running(folder: RunFolder) -> Iterator[None]:
    """Interrupt the main thread, as Ctrl-C does, once a child of the run is in training."""

    def interrupt() -> None:
        until(lambda: folder.ledger.exists() and read_status(folder, time.time()).running, "a child's training")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()
