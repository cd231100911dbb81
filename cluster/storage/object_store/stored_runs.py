"""The runs of an object store as a whole: which there are, how large they are, and how one is removed."""

from collections.abc import Callable

from cluster.storage.errors import RunFolderError, missing_run
from cluster.storage.object_store.driver_lease import (
    LEASE_TIMEOUT_S,
    DriverLease,
    acquire_lease,
    is_alive,
    new_owner,
    newest_lease,
)
from cluster.storage.object_store.object_names import CONFIG, STARTS
from cluster.storage.object_store.store import FsspecStorage, explained, open_storage
from cluster.storage.run_folder import RunFolder


def stored_runs(url: str) -> list[str]:
    """Return the names of the runs below a URL.

    Raises:
        StorageError: the object store cannot be used.
    """
    runs = open_storage(url)
    with explained(url):
        return [name for name in runs.folders() if runs.read(f"{name}/{CONFIG}") is not None]


def stored_bytes(folder: RunFolder) -> int:
    """Return the size of a run's objects in bytes. Raises `StorageError`."""
    with explained(folder.place):
        return sum(stored.size for stored in _objects(folder).contents().values())


def check_stored(folder: RunFolder, report: Callable[[str], object]) -> DriverLease | None:
    """Check that a run, or what an interrupted removal has left of one, is in its object store and that no driver runs.

    Args:
        folder: of the run.
        report: called with a message if it takes a while to know that.

    Returns:
        The lease of its last driver, if it ever had one.

    Raises:
        RunFolderError: there is none, or a driver sends heartbeats.
        StorageError: the object store cannot be used.
    """
    storage = _objects(folder)
    with explained(folder.place):
        if not storage.names():
            assert folder.url is not None
            raise missing_run(folder.name, folder.url, stored_runs(folder.url))
        lease = newest_lease(storage)
        if lease and not lease.released:
            report(f"{lease} did not report its end; waiting up to {LEASE_TIMEOUT_S:g} s for a heartbeat ...")
            if is_alive(storage, lease, LEASE_TIMEOUT_S):
                raise RunFolderError(
                    f"the run {folder.name!r} is running: {lease} sends heartbeats to {folder.place}/{STARTS};"
                    f" `{folder.command('stop')}` stops it"
                )
        return lease


def remove_objects(folder: RunFolder, last: DriverLease | None) -> None:
    """Remove all objects of a run whose last driver `check_stored` has found to have ended.

    The configuration goes first: without one there is no run. The leases of the starts go last: while they are there,
    the objects of a new run of the same name cannot mix with what is left of this one, because its driver is refused.

    Raises:
        RunFolderError: a driver has started since.
        StorageError: the object store cannot be used; another call removes what is left.
    """
    storage = _objects(folder)
    with explained(folder.place):
        acquire_lease(storage, last, new_owner())  # a driver that wakes up now finds that it has been replaced
        storage.remove([CONFIG])
        leases = storage.names(STARTS)
        storage.remove(name for name in storage.names() if name not in leases)
        storage.remove(leases)


def _objects(folder: RunFolder) -> FsspecStorage:
    assert folder.url is not None
    return open_storage(folder.url).below(folder.name)
