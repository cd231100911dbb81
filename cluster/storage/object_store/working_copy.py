"""Copies on this machine of a run in an object store: the driver's working copy, or a copy for reading."""

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.storage.errors import RunFolderError, missing_run
from cluster.storage.locks import exclusive
from cluster.storage.object_store.driver_lease import (
    HEARTBEAT_INTERVAL_S,
    LEASE_TIMEOUT_S,
    DriverLease,
    HeldLease,
    LeaseLost,
    acquire_lease,
    is_alive,
    new_owner,
    newest_lease,
)
from cluster.storage.object_store.mirror import Mirror
from cluster.storage.object_store.mirror_thread import MirrorThread
from cluster.storage.object_store.object_names import CONFIG, STOP, files, is_of_run, segments, start_name
from cluster.storage.object_store.restore import restore
from cluster.storage.object_store.store import FsspecStorage, Storage, explained, open_storage, reason
from cluster.storage.object_store.stored_runs import stored_runs
from cluster.storage.object_store.working_copy_owner import WorkingCopyOwner
from cluster.storage.run_folder import RunFolder
from cluster.storage.url_folder import url_folder

WORKING_COPIES = ".remote"
"""Folder below the default storage path."""

ASIDE = ".aside"
"""Suffix of a working copy that was set aside."""

HASH_DIGITS = 8
"""Digits of the URL's hash in the name of a folder of working copies."""

STATUS_TIMEOUT_S = 3 * HEARTBEAT_INTERVAL_S
"""Seconds without a heartbeat after which a driver is shown as dead."""

Report = Callable[[str], object]
"""Called with a message for the user."""


def working_copy(url: str, name: str) -> RunFolder:
    """Return where this machine has, or would have, its working copy of the run."""
    copies = Path(DEFAULT_STORAGE).expanduser().absolute() / WORKING_COPIES
    return RunFolder(copies / url_folder(url, HASH_DIGITS) / name, url=url)


def check_new(folder: RunFolder) -> None:
    """Raise `RunFolderError` if the object store has such a run, `StorageError` if the store cannot be used.

    What is left of a removed one counts, too.
    """
    storage = _open(folder)
    with explained(folder.place):
        if storage.read(CONFIG) is not None:
            raise _exists(folder)
        _check_no_rests(folder, storage)


def reading_copy(url: str, name: str, *, with_files: bool = False) -> RunFolder:
    """Return a folder for reading the run: the working copy if it is up to date, else a temporary copy.

    The temporary copy is removed when this process ends. It has the files of shards and checkpoints if `with_files`.

    Raises:
        RunFolderError: the run does not exist.
        StorageError: the object store cannot be used.
    """
    own = working_copy(url, name)
    if own.config.exists() and own.is_held():
        return own
    with explained(own.place):
        storage = _existing(own)
        lease = newest_lease(storage)
        if _is_newest(own, storage, lease) and _worked_in(own):
            return own
        copy = replace(own, path=_temporary_folder() / own.path.parent.name / name)
        while True:
            shutil.rmtree(copy.path, ignore_errors=True)
            restore(storage, copy, with_files=with_files)
            alive = lease is not None and is_alive(storage, lease, STATUS_TIMEOUT_S)
            before, lease = lease, newest_lease(storage)
            if alive or lease == before:
                return replace(copy, alive=alive)
            # The run ended after it was copied: its last writes say how, so copy again.


def resumable_copy(url: str, name: str, report: Report) -> RunFolder:
    """Return the run's working copy, for resuming: unchanged if it is up to date, else restored.

    Raises:
        RunFolderError: the run does not exist, or another driver is alive.
        StorageError: the object store cannot be used.
    """
    own = working_copy(url, name)
    own.path.parent.mkdir(parents=True, exist_ok=True)
    with explained(own.place), exclusive(own.path.parent / f".{name}.lock"):
        if own.config.exists() and own.is_held():
            raise RunFolderError(f"the run {name!r} is running; {_status_command(own)} shows it")
        storage = _existing(own)
        lease = newest_lease(storage)
        newest = _is_newest(own, storage, lease)
        if newest and _worked_in(own):
            return own  # its driver was on this machine, and holds the lock no longer
        if lease and not lease.released:
            report(f"{lease} did not report its end; waiting up to {LEASE_TIMEOUT_S:g} s for a heartbeat ...")
            if is_alive(storage, lease, LEASE_TIMEOUT_S):
                raise _running(own, lease)
        if not newest:
            _restore_into(own, storage, lease)
    return own


@contextmanager
def driving(
    folder: RunFolder,
    config: RunConfig,
    report: Report,
    on_lost: Callable[[LeaseLost], object],
    check: Callable[[], object] = lambda: None,
    unneeded: Callable[[], frozenset[int]] = frozenset,
) -> Iterator[None]:
    """Keep every other driver out while the block runs, and copy the run to its object store, if it has one.

    Args:
        folder: created if it does not exist.
        config: the run's configuration.
        report: called with messages for the user.
        on_lost: called, in another thread, if another driver takes over.
        check: called when no other driver can write into the folder, before this one does; may raise to refuse.
        unneeded: returns children whose weights need not be copied; see `Mirror`.

    Raises:
        RunFolderError: another driver holds the run, or it cannot be created.
        StorageError: the object store cannot be used.
    """
    if folder.url is None:
        is_new = not folder.path.exists()
        if is_new:
            folder.create(config)
        with folder.held():
            if not is_new:  # a stop that was requested of a new run is for this driver
                folder.clear_stop_request()
            check()
            folder.change_limits(config)
            yield
        return
    storage = _open(folder)
    with explained(folder.place):
        is_new, lease = _prepare(folder, config, storage)
        if not storage.is_exclusive(CONFIG):
            report(
                f"{folder.place} is in a store that may not detect two drivers that start at the same time: make sure"
                " that only one is started"
            )
    with folder.held():
        check()
        if (text := folder.change_limits(config)) is not None:
            with explained(folder.place):
                storage.write(CONFIG, text)
        with explained(folder.place):
            held = _acquire(folder, storage, lease, on_lost, is_new=is_new)
        complete = False
        try:
            mirror = Mirror(storage, folder, held.lease.number, held.check, unneeded)
            thread = MirrorThread(mirror, folder.place, lambda: held.lost is not None, report)
            with explained(folder.place):
                mirror.round()  # the object store has the whole folder before anything new is written
            thread.start()
            try:
                yield
            finally:
                complete = thread.finish()
        finally:
            held.end(release=complete)


def is_copied(folder: RunFolder) -> bool:
    """Return whether the object store of a run, if it has one, has all that the run's folder has.

    It has not if the last driver on this machine has ended before its last copy was complete, or could not report it.

    Raises:
        StorageError: the object store cannot be used.
    """
    if folder.url is None:
        return True
    record = WorkingCopyOwner.read(folder)
    if record is None or record.seen is not None:  # it was copied from there, and no driver has changed it
        return True
    with explained(folder.place):
        lease = newest_lease(_open(folder))
    return lease is not None and lease.released and lease.owner in record.owners


def request_stop(url: str, name: str) -> None:
    """Request that the run's driver, on any machine, stop.

    Raises:
        RunFolderError: the run does not exist.
        StorageError: the object store cannot be used.
    """
    _existing(working_copy(url, name)).write(STOP, b"{}")


def stored(folder: RunFolder, names: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of the run's objects with these names, if they exist. Raises `StorageError`."""
    with explained(folder.place):
        return _open(folder).read_all(names)


@cache
def _temporary_folder() -> Path:
    """Return a folder that is removed when this process ends."""
    path = tempfile.mkdtemp(prefix="nascluster-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


def _prepare(folder: RunFolder, config: RunConfig, storage: Storage) -> tuple[bool, DriverLease | None]:
    """Create a new run, or check that the working copy is up to date.

    Returns:
        Whether it is new, and the newest lease, if there is one.
    """
    if storage.read(CONFIG) is None:
        _check_no_rests(folder, storage)  # before there is a configuration, with which they would be a run again
        storage.remove([STOP])  # of a removed run: a stop can be requested only of one with a configuration
    if storage.create(CONFIG, json.dumps(config.to_json(), indent=2).encode() + b"\n"):
        _set_aside(folder)
        folder.create(config)
        WorkingCopyOwner(owners=(), seen=_seen(storage, None)).write(folder)
        return True, None
    lease = newest_lease(storage)
    if not _is_newest(folder, storage, lease):
        if not folder.path.exists():
            raise _exists(folder)
        raise RunFolderError(
            f"the run {folder.name!r} was changed by another driver: {lease} is alive, or was a moment ago"
        )
    return False, lease


def _acquire(
    folder: RunFolder,
    storage: Storage,
    last: DriverLease | None,
    on_lost: Callable[[LeaseLost], object],
    *,
    is_new: bool,
) -> HeldLease:
    """Acquire the lease of the next start, and start to renew it."""
    record = WorkingCopyOwner.read(folder)
    assert record is not None
    owner = new_owner()
    # Before the lease is acquired: a driver that dies in between leaves a copy that belongs to either start.
    WorkingCopyOwner(owners=(*record.owners, owner), seen=record.seen).write(folder)
    if not is_new:  # a stop that was requested of a new run is for this driver
        folder.clear_stop_request()  # before heartbeats start, which bring requests from other machines
        storage.remove([STOP])
    lease = acquire_lease(storage, last, owner)
    WorkingCopyOwner(owners=(owner,), seen=None).write(folder)
    held = HeldLease(storage, lease, on_stop=folder.request_stop, on_lost=on_lost)
    held.start()
    return held


def _is_newest(folder: RunFolder, storage: Storage, lease: DriverLease | None) -> bool:
    """Return whether the working copy has everything that the object store has."""
    record = WorkingCopyOwner.read(folder)
    if record is None:
        return False
    if record.seen is not None:
        return record.seen == _seen(storage, lease)
    return lease is not None and lease.owner in record.owners


def _worked_in(folder: RunFolder) -> bool:
    record = WorkingCopyOwner.read(folder)
    return record is not None and record.seen is None


def _seen(storage: Storage, lease: DriverLease | None) -> str:
    """Return a fingerprint of the objects and the last heartbeat, which any later change alters."""
    names = storage.names()
    relevant = [str(name) for name in (*segments(names), *files(names))]
    driver = storage.read(start_name(lease.number)) if lease else None
    return hashlib.sha256(json.dumps([relevant, str(driver)]).encode()).hexdigest()


def _restore_into(folder: RunFolder, storage: Storage, lease: DriverLease | None) -> None:
    seen = _seen(storage, lease)
    draft = replace(folder, path=folder.path.parent / f".{folder.name}.{os.getpid()}" / folder.name)
    shutil.rmtree(draft.path.parent, ignore_errors=True)
    try:
        restore(storage, draft, with_files=True)
        WorkingCopyOwner(owners=(lease.owner,) if lease else (), seen=seen).write(draft)
        _set_aside(folder)
        draft.path.rename(folder.path)
    except OSError as error:
        raise RunFolderError(f"the run's folder {folder.path} cannot be created: {reason(error)}") from error
    finally:
        shutil.rmtree(draft.path.parent, ignore_errors=True)


def _set_aside(folder: RunFolder) -> None:
    """Rename a working copy that is out of date; it may have data that no other copy has."""
    if folder.path.exists():
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder.path.rename(folder.path.parent / f".{folder.name}.{stamp}-{os.getpid()}{ASIDE}")


def set_aside(folder: RunFolder) -> list[Path]:
    """Return the run's working copies on this machine that were out of date and were set aside."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.\d{{8}}-\d{{6}}-\d+{re.escape(ASIDE)}")
    return sorted(path for path in folder.path.parent.glob(f".*{ASIDE}") if pattern.fullmatch(path.name))


def _open(folder: RunFolder) -> FsspecStorage:
    assert folder.url is not None
    return open_storage(folder.url).below(folder.name)


def _existing(folder: RunFolder) -> FsspecStorage:
    """Return the objects of a run; raises `RunFolderError` if it does not exist."""
    assert folder.url is not None
    storage = _open(folder)
    if storage.read(CONFIG) is None:
        raise missing_run(folder.name, folder.url, stored_runs(folder.url))
    return storage


def _check_no_rests(folder: RunFolder, storage: Storage) -> None:
    """Raise `RunFolderError` if there are objects of a run that has lost its configuration, or was half removed."""
    if is_of_run(storage.names()):
        raise RunFolderError(
            f"{folder.place} holds what is left of a run whose configuration is gone, as after an interrupted removal:"
            f" `{folder.command('remove')} --objects` removes it, or choose another --name"
        )


def _exists(folder: RunFolder) -> RunFolderError:
    return RunFolderError(
        f"a run named {folder.name!r} exists in {folder.url}: resume it with"
        f" `{folder.command('resume')}`, choose another --name,"
        f" or remove it with `{folder.command('remove')} --objects`"
    )


def _running(folder: RunFolder, lease: DriverLease) -> RunFolderError:
    return RunFolderError(f"the run {folder.name!r} is running: {lease} is alive; {_status_command(folder)} shows it")


def _status_command(folder: RunFolder) -> str:
    return f"`{folder.command('status')}`"
