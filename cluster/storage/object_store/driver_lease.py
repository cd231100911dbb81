"""The lease of a run in an object store: each start has one driver, which renews its lease by heartbeats."""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from cluster.periodic import PeriodicThread
from cluster.storage.errors import RunFolderError
from cluster.storage.object_store.object_names import STARTS, STOP, start_name, starts
from cluster.storage.object_store.store import Storage

HEARTBEAT_INTERVAL_S = 2.0
"""Seconds between two heartbeats."""

LEASE_TIMEOUT_S = 20.0
"""Seconds without a heartbeat after which another driver may replace this one."""

POLL_INTERVAL_S = 0.5
"""Seconds between two reads of a lease while waiting for a heartbeat."""


class LeaseLost(RunFolderError):
    """Another driver has taken over the run, or it was removed; this driver must not write any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverLease:
    """A start of a run and its driver. The object in the store has these fields as JSON.

    Attributes:
        number: counts the run's starts, from 1.
        owner: unique among all leases.
        host, pid: where the driver is, for people.
        beat: counts its heartbeats.
        released: whether the driver has ended and the object store has everything that it wrote.
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
        """Return the object's content."""
        return json.dumps(asdict(self)).encode()


def new_owner() -> str:
    """Return a name that no other driver has."""
    return secrets.token_hex(8)


def newest_lease(storage: Storage) -> DriverLease | None:
    """Return the lease of the newest start, `None` before the first."""
    numbers = starts(storage.names(STARTS))
    return _read(storage, numbers[-1]) if numbers else None


def _read(storage: Storage, number: int) -> DriverLease:
    try:
        return DriverLease(**json.loads(storage.read(start_name(number)) or b""))
    except (ValueError, TypeError):
        # The object is torn, or was removed since it was listed: some driver has the lease, but its name is unknown.
        return DriverLease(number=number, owner="", host="an unknown machine", pid=0)


def is_alive(
    storage: Storage,
    lease: DriverLease,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Return whether the driver sends a heartbeat within `timeout_s` seconds; at once if it released its lease."""
    deadline = clock() + timeout_s
    while not lease.released:
        # Clocks of different machines cannot be compared: a heartbeat is any change of the object.
        newest = newest_lease(storage)
        if newest != lease:
            return newest is None or not (newest.released and newest.number == lease.number)
        if clock() >= deadline:
            break
        sleep(POLL_INTERVAL_S)
    return False


def acquire_lease(storage: Storage, after: DriverLease | None, owner: str) -> DriverLease:
    """Acquire the lease of the start that follows another.

    Raises:
        RunFolderError: another driver acquired it first.
    """
    number = after.number + 1 if after else 1
    lease = DriverLease(number=number, owner=owner, host=socket.gethostname(), pid=os.getpid())
    if not storage.create(start_name(number), lease.content()):
        raise RunFolderError(f"the run is running: {_read(storage, number)} started first")
    return lease


class HeldLease:
    """Renews a lease, in a thread of its own, until it is released or lost to another driver.

    Args:
        storage: the run's objects.
        lease: as acquired.
        on_stop: called when a stop of the run is requested.
        on_lost: called once, when another driver has taken over, or the run was removed.
        interval_s: seconds between two heartbeats.
    """

    def __init__(
        self,
        storage: Storage,
        lease: DriverLease,
        *,
        on_stop: Callable[[], object],
        on_lost: Callable[[LeaseLost], object],
        interval_s: float = HEARTBEAT_INTERVAL_S,
    ) -> None:
        self.lease = lease
        self.lost: LeaseLost | None = None
        self._storage = storage
        self._on_stop = on_stop
        self._on_lost = on_lost
        self._thread = PeriodicThread(self._try_heartbeat, interval_s, name="driver-lease")

    def start(self) -> None:
        """Start to send heartbeats."""
        self._thread.start()

    def check(self) -> None:
        """Raise `LeaseLost` if another driver has taken over, or the run was removed."""
        if self.lost:
            raise self.lost

    def heartbeat(self) -> None:
        """Send one heartbeat, unless there is a newer start or the lease is gone; then handle a request to stop.

        Raises:
            Exception: whatever the storage raises.
        """
        if self.lost:
            return
        names = self._storage.names(STARTS)
        self.lost = self._loss(names)
        if self.lost:
            self._on_lost(self.lost)
            return
        self.lease = replace(self.lease, beat=self.lease.beat + 1)
        self._storage.write(start_name(self.lease.number), self.lease.content())
        if STOP in names:
            self._on_stop()
            self._storage.remove([STOP])

    def _loss(self, names: list[str]) -> LeaseLost | None:
        """Return how the lease was lost, if it was.

        A driver that was suspended may find that its run was removed, and another launched with the same name.
        """
        numbers = starts(names)
        if numbers and numbers[-1] > self.lease.number:
            other = _read(self._storage, numbers[-1])
        elif self.lease.number not in numbers:
            return LeaseLost("the run was removed from its object store while this driver ran; it has stopped")
        else:
            other = _read(self._storage, self.lease.number)
            if other.owner in (self.lease.owner, ""):  # a heartbeat that failed may have left it torn
                return None
        return LeaseLost(f"another driver has taken over the run: {other}; this one has stopped")

    def end(self, *, release: bool) -> None:
        """Send no more heartbeats.

        Args:
            release: release the lease, as the object store has everything: the next driver need not wait.
        """
        self._thread.stop()
        if release and not self.lost:
            self.lease = replace(self.lease, released=True)
            with suppress(Exception):  # the next driver then waits until the lease times out
                if self._loss(self._storage.names(STARTS)) is None:
                    self._storage.write(start_name(self.lease.number), self.lease.content())

    def _try_heartbeat(self) -> None:
        with suppress(Exception):  # the store is unavailable, which the mirror reports
            self.heartbeat()
