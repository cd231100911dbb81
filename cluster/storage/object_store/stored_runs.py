"""The runs of an object store as a whole: which there are, how large they are, and how one is removed."""

from collections.abc import Callable

from cluster.config.known_config import is_configuration
from cluster.formatting import counted
from cluster.storage.errors import RunFolderError, missing_run
from cluster.storage.object_store.driver_lease import (
    LEASE_TIMEOUT_S,
    DriverLease,
    acquire_lease,
    is_alive,
    new_owner,
    newest_lease,
)
from cluster.storage.object_store.object_names import CONFIG, STARTS, is_of_run, known, start_name
from cluster.storage.object_store.store import FsspecStorage, explained, open_storage
from cluster.storage.run_folder import RunFolder


def stored_runs(url: str) -> list[str]:
    """Return the names of the runs below a URL. A run has a configuration; one that is damaged has leases, too.

    Raises:
        StorageError: the object store cannot be used.
    """
    runs = open_storage(url)
    with explained(url):
        return [name for name in runs.folders() if _has_run(runs.below(name))]


def _has_run(storage: FsspecStorage) -> bool:
    text = storage.read(CONFIG)
    return text is not None and (is_configuration(text) or is_of_run(storage.names(STARTS)))


def stored_bytes(folder: RunFolder) -> int:
    """Return the size of a run's objects in bytes. Raises `StorageError`."""
    with explained(folder.place):
        contents = _objects(folder).contents()
        return sum(contents[name].size for name in known(contents))


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
        _check_run(folder, storage)
        lease = newest_lease(storage)
        if lease and not lease.released:
            report(f"{lease} did not report its end; waiting up to {LEASE_TIMEOUT_S:g} s for a heartbeat ...")
            if is_alive(storage, lease, LEASE_TIMEOUT_S):
                raise RunFolderError(
                    f"the run {folder.name!r} is running: {lease} sends heartbeats to {folder.place}/{STARTS};"
                    f" `{folder.command('stop')}` stops it"
                )
        return lease


def _check_run(folder: RunFolder, storage: FsspecStorage) -> None:
    """Raise `RunFolderError` unless the objects are those of a run, or what an interrupted removal has left of one."""
    names = storage.names()
    if not names:
        assert folder.url is not None
        raise missing_run(folder.name, folder.url, stored_runs(folder.url))
    text = storage.read(CONFIG)
    if text is not None and (is_configuration(text) or is_of_run(names)):
        return
    if text is None and is_of_run(names) and known(names) == names:
        return
    raise RunFolderError(
        f"{folder.place} is no run: it has neither a run's configuration nor only what an interrupted removal leaves,"
        f" and the {counted(len(names), 'object')} there, such as {names[0]}, stay"
    )


def remove_objects(folder: RunFolder, last: DriverLease | None) -> list[str]:
    """Remove all objects of a run whose last driver `check_stored` has found to have ended.

    The configuration goes first: without one there is no run. The leases of the starts go last, and the newest one
    last of all: while one is there, no new run of the same name begins, which could mix with what is left of this one.

    Returns:
        The names of other objects below the run's URL, which no run has made; they are left.

    Raises:
        RunFolderError: a driver has started since.
        StorageError: the object store cannot be used; another call removes what is left.
    """
    storage = _objects(folder)
    with explained(folder.place):
        lease = acquire_lease(storage, last, new_owner())  # a driver that wakes up finds that it has been replaced
        newest = start_name(lease.number)
        storage.remove([CONFIG])
        names = storage.names()
        ours = known(names)
        starts = [name for name in ours if is_of_run([name]) and name.startswith(f"{STARTS}/")]
        storage.remove(name for name in ours if name not in starts)
        storage.remove(name for name in starts if name != newest)
        storage.remove([newest])
    return sorted(set(names) - set(ours))


def _objects(folder: RunFolder) -> FsspecStorage:
    assert folder.url is not None
    return open_storage(folder.url).below(folder.name)
