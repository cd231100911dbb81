"""Who drives a run that is kept in an object store: each start is claimed once, and its driver gives signs of life."""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from cluster.storage.errors import RunFolderError
from cluster.storage.object_store.object_names import STARTS, STOP, start_name, starts
from cluster.storage.object_store.store import Storage

BEAT_S = 2.0
"""Seconds between two signs of life."""

DEAD_S = 20.0
"""A driver that gave no sign of life for so long may be replaced."""

LOOK_S = 0.5
"""Seconds between two looks at whether another driver is alive."""


class TakenOver(RunFolderError):
    """Another driver goes on with the run; this one must not write any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A start of a run and its driver.

    Attributes:
        number: counts the starts from 1.
        owner: unlike that of every other claim.
        host, pid: where the driver is, for people.
        beat: counts its signs of life.
        released: whether it has ended, and everything that it knew is in the objects.
    """

    number: int
    owner: str
    host: str
    pid: int
    beat: int = 0
    released: bool = False

    def __str__(self) -> str:
        return f"the driver on {self.host} (process {self.pid})"

    def content(self) -> bytes:
        """The object's content."""
        return json.dumps(asdict(self)).encode()


def new_owner() -> str:
    """A name that no other driver has."""
    return secrets.token_hex(8)


def newest_claim(storage: Storage) -> Claim | None:
    """The claim on the newest start, `None` before the first."""
    found = starts(storage.names(STARTS))
    return _read(storage, found[-1]) if found else None


def _read(storage: Storage, number: int) -> Claim:
    try:
        return Claim(**json.loads(storage.read(start_name(number)) or b""))
    except (ValueError, TypeError):
        # Torn, or removed since it was listed: somebody's, who gives no name.
        return Claim(number=number, owner="", host="an unknown machine", pid=0)


def is_alive(
    storage: Storage,
    claim: Claim,
    patience_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Whether the driver gives a sign of life within so many seconds; at once if it has said that it ended."""
    until = clock() + patience_s
    while not claim.released:
        # No clock of another machine is asked: what counts is that something changes.
        found = newest_claim(storage)
        if found != claim:
            return found is None or not (found.released and found.number == claim.number)
        if clock() >= until:
            break
        sleep(LOOK_S)
    return False


def claim_start(storage: Storage, after: Claim | None, owner: str) -> Claim:
    """Claim the start after another.

    Raises:
        RunFolderError: another driver was faster.
    """
    number = after.number + 1 if after else 1
    claim = Claim(number=number, owner=owner, host=socket.gethostname(), pid=os.getpid())
    if not storage.create(start_name(number), claim.content()):
        raise RunFolderError(f"the run is running: {_read(storage, number)} was faster")
    return claim


class HeldClaim:
    """A claim that is kept alive until it is released or another driver takes over. A thread of its own does it.

    Args:
        storage: the run's objects.
        claim: what was claimed.
        on_stop: called when somebody wants the run to stop.
        on_taken: called once, when another driver has taken over.
        interval_s: seconds between two signs of life.
    """

    def __init__(
        self,
        storage: Storage,
        claim: Claim,
        *,
        on_stop: Callable[[], object],
        on_taken: Callable[[TakenOver], object],
        interval_s: float = BEAT_S,
    ) -> None:
        self.claim = claim
        self.taken: TakenOver | None = None
        self._storage = storage
        self._on_stop = on_stop
        self._on_taken = on_taken
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="held-claim", daemon=True)

    def start(self) -> None:
        """Begin to give signs of life."""
        self._thread.start()

    def check(self) -> None:
        """Raise `TakenOver` if another driver has taken over."""
        if self.taken:
            raise self.taken

    def beat(self) -> None:
        """Give one sign of life, unless there is a newer start; look whether the run is to stop.

        Raises:
            Exception: whatever the storage raises.
        """
        if self.taken:
            return
        names = self._storage.names(STARTS)
        newest = starts(names)
        if newest and newest[-1] > self.claim.number:
            other = _read(self._storage, newest[-1])
            self.taken = TakenOver(f"another driver has taken over the run: {other}; this one has stopped")
            self._on_taken(self.taken)
            return
        self.claim = replace(self.claim, beat=self.claim.beat + 1)
        self._storage.write(start_name(self.claim.number), self.claim.content())
        if STOP in names:
            self._on_stop()
            self._storage.remove([STOP])

    def end(self, *, release: bool) -> None:
        """Give no more signs of life; `release` says that all is written, and the next driver need not wait."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if release and not self.taken:
            self.claim = replace(self.claim, released=True)
            with suppress(Exception):  # then the next driver waits
                self._storage.write(start_name(self.claim.number), self.claim.content())

    def _keep(self) -> None:
        while not self._ended.wait(self._interval_s):
            with suppress(Exception):  # the network is away; the mirror says so
                self.beat()
