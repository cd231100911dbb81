"""What interrupts a run from outside: signals and other drivers; and what is then left of it."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from cluster.storage.object_store.driver_lease import LeaseLost
from cluster.storage.run_folder import RunFolder


@dataclass(slots=True)
class StartProgress:
    """How far a start of the run has come.

    Attributes:
        starting: the run's folder may have been made.
        begun: the search may have started.
        ended: the recorded end.
        corrupt: the snapshots to set aside.
        losses: a sentence on steps that are lost, if there are any.
        at: when the start was begun, as Unix time.
    """

    starting: bool = False
    begun: bool = False
    ended: str = ""
    corrupt: Sequence[Path] = ()
    losses: str = ""
    at: float = field(default_factory=time.time)

    def interrupted(self, folder: RunFolder) -> str:
        """Return one sentence on the run's state after an interrupt that was not an orderly end of the search."""
        if self.ended:
            return (
                f"interrupted, but the run {folder.name!r} has {self.ended} and that is recorded:"
                f" `{folder.command('status')}` shows the rest"
            )
        if self.begun:
            return (
                f"interrupted before the end of the run {folder.name!r} was recorded: what it has done until then is"
                f" there, and `{folder.command('resume')}` goes on"
            )
        if self.starting:
            return (
                f"interrupted while the run {folder.name!r} was being started: `{folder.command('status')}` shows"
                f" whether it is there, and `{folder.command('resume')}` goes on with it"
            )
        return "interrupted before anything was written"


class Takeover:
    """Interrupts the run, as Ctrl-C does, when another driver has taken over; in another thread it requests a stop."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self.error: LeaseLost | None = None
        self._interrupts = False
        self._lock = threading.Lock()

    def __call__(self, error: LeaseLost) -> None:
        """Interrupt the run, or request that it stop; `error` says who has taken over."""
        with self._lock:
            self.error = error
            if not self._in_main_thread:
                self._folder.request_stop()
            elif self._interrupts:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def interrupts(self, enabled: bool) -> None:
        """Turn interrupts on or off; an interrupt that was sent has arrived when this returns."""
        with self._lock:
            self._interrupts = enabled
        if enabled and self.error:
            raise self.error


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C until the block ends.

    A signal that was ignored before stays ignored, as `nohup` requires. Signals come to the main thread only: a run in
    another thread is stopped by `Run.stop`.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    taken = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
