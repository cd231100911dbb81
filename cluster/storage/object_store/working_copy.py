"""A run in an object store, on this machine: a working copy that a driver works in, or a copy to be read."""

import atexit
import fcntl
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
from cluster.storage.object_store.driver_lease import (
    BEAT_S,
    DEAD_S,
    Claim,
    HeldClaim,
    TakenOver,
    claim_start,
    is_alive,
    new_owner,
    newest_claim,
)
from cluster.storage.object_store.mirror import Mirror, MirrorThread
from cluster.storage.object_store.object_names import CONFIG, STOP, files, segments, start_name
from cluster.storage.object_store.restore import restore
from cluster.storage.object_store.store import FsspecStorage, Storage, explained, open_storage, reason
from cluster.storage.object_store.working_copy_owner import Belonging
from cluster.storage.run_folder import RunFolder

WORKING_COPIES = ".remote"
"""Folder below the usual storage path."""

SHOWN_ALIVE_S = 3 * BEAT_S
"""A driver that gave no sign of life for so long is shown as dead."""

Say = Callable[[str], object]


def working_copy(url: str, name: str) -> RunFolder:
    """Where this machine has the run, or would have it."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", url).strip("-")[:60]
    slug = f"{readable}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:8]}"
    return RunFolder(Path(DEFAULT_STORAGE).expanduser().absolute() / WORKING_COPIES / slug / name, url=url)


def check_new(folder: RunFolder) -> None:
    """Raise `RunFolderError` if there is such a run in the object store, `StorageError` if it cannot be used."""
    if _open(folder).read(CONFIG) is not None:
        raise _exists(folder)


def reading_copy(url: str, name: str) -> RunFolder:
    """The run, to be read: the working copy if it is the newest, else a copy that lives as long as this process.

    Raises:
        RunFolderError, StorageError: there is no such run; the object store cannot be used.
    """
    own = working_copy(url, name)
    if own.config.exists() and own.is_held():
        return own
    with explained(own.place):
        storage = _existing(own)
        claim = newest_claim(storage)
        if _is_newest(own, storage, claim) and _worked_in(own):
            return own
        copy = replace(own, path=_reading_place() / own.path.parent.name / name)
        while True:
            shutil.rmtree(copy.path, ignore_errors=True)
            restore(storage, copy, with_files=False)
            alive = claim is not None and is_alive(storage, claim, SHOWN_ALIVE_S)
            before, claim = claim, newest_claim(storage)
            if alive or claim == before:
                return replace(copy, alive=alive)
            # It ended after it was copied, and what it wrote last says how.


def resumable_copy(url: str, name: str, say: Say) -> RunFolder:
    """The run's working copy, to be gone on with: as it is if it is the newest there is, else restored.

    Raises:
        RunFolderError: there is no such run, or a driver is alive.
        StorageError: the object store cannot be used.
    """
    own = working_copy(url, name)
    own.path.parent.mkdir(parents=True, exist_ok=True)
    with explained(own.place), open(own.path.parent / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if own.config.exists() and own.is_held():
            raise RunFolderError(f"the run {name!r} is running; {_status_command(own)} shows it")
        storage = _existing(own)
        claim = newest_claim(storage)
        newest = _is_newest(own, storage, claim)
        if newest and _worked_in(own):
            return own  # its driver was here, and has let go of the lock
        if claim and not claim.released:
            say(f"{claim} has not said that it ended; looking for up to {DEAD_S:g} s whether it is alive ...")
            if is_alive(storage, claim, DEAD_S):
                raise _running(own, claim)
        if not newest:
            _restore_into(own, storage, claim)
    return own


@contextmanager
def driving(
    folder: RunFolder,
    config: RunConfig,
    say: Say,
    on_taken: Callable[[TakenOver], object],
    check: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Keep every other driver out while the block lasts, and copy the run to its object store, if it has one.

    Args:
        folder: made if it is not there.
        config: the run's.
        say: told of what the user should know meanwhile.
        on_taken: called, in a thread of its own, if another driver takes over.
        check: called when no other driver can write into the folder, before this one does; may refuse to go on.

    Raises:
        RunFolderError: another driver holds the run, or it cannot be made.
        StorageError: the object store cannot be used.
    """
    if folder.url is None:
        if not folder.path.exists():
            folder.create(config)
        with folder.held():
            check()
            folder.begin_anew()
            yield
        return
    storage = _open(folder)
    with explained(folder.place):
        claim = _prepare(folder, config, storage)
        if not storage.is_exclusive(CONFIG):
            say(
                f"{folder.place} is in a store that is not known to refuse the second of two drivers that start at"
                " once: see to it that there is one"
            )
    with folder.held():
        check()
        folder.begin_anew()  # before the claim is held, which brings wishes from elsewhere
        with explained(folder.place):
            held = _claim(folder, storage, claim, on_taken)
        complete = False
        try:
            mirror = Mirror(storage, folder, held.claim.number, held.check)
            thread = MirrorThread(mirror, folder.place, lambda: held.taken is not None, say)
            with explained(folder.place):
                mirror.round()  # all that is here is in the object store before there is anything new
            thread.start()
            try:
                yield
            finally:
                complete = thread.finish()
        finally:
            held.end(release=complete)


def request_stop(url: str, name: str) -> None:
    """Ask the run's driver, wherever it is, to stop.

    Raises:
        RunFolderError, StorageError: there is no such run; the object store cannot be used.
    """
    _existing(working_copy(url, name)).write(STOP, b"{}")


def stored(folder: RunFolder, names: Sequence[str]) -> dict[str, bytes]:
    """The run's objects of these names; those that do not exist are left out. Raises `StorageError`."""
    with explained(folder.place):
        return _open(folder).read_all(names)


@cache
def _reading_place() -> Path:
    """A folder that goes away with this process."""
    place = tempfile.mkdtemp(prefix="nascluster-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


def _prepare(folder: RunFolder, config: RunConfig, storage: Storage) -> Claim | None:
    """Make a new run, or see that the working copy is that of the newest claim, which is given back."""
    if storage.create(CONFIG, json.dumps(config.to_json(), indent=2).encode() + b"\n"):
        _set_aside(folder)
        folder.create(config)
        Belonging(owners=(), seen=_seen(storage, None)).write(folder)
        return None
    claim = newest_claim(storage)
    if not _is_newest(folder, storage, claim):
        if not folder.path.exists():
            raise _exists(folder)
        raise RunFolderError(f"the run {folder.name!r} has changed meanwhile: {claim} is alive, or was a moment ago")
    return claim


def _claim(
    folder: RunFolder, storage: Storage, last: Claim | None, on_taken: Callable[[TakenOver], object]
) -> HeldClaim:
    """Claim the next start, and keep it alive."""
    found = Belonging.read(folder)
    assert found is not None
    owner = new_owner()
    # Before the claim: whoever dies in between leaves a copy that belongs to the start before it or to this one.
    Belonging(owners=(*found.owners, owner), seen=found.seen).write(folder)
    storage.remove([STOP])
    claim = claim_start(storage, last, owner)
    Belonging(owners=(owner,), seen=None).write(folder)
    held = HeldClaim(storage, claim, on_stop=folder.ask_to_stop, on_taken=on_taken)
    held.start()
    return held


def _is_newest(folder: RunFolder, storage: Storage, claim: Claim | None) -> bool:
    """Whether the working copy has all that the objects have."""
    found = Belonging.read(folder)
    if found is None:
        return False
    if found.seen is not None:
        return found.seen == _seen(storage, claim)
    return claim is not None and claim.owner in found.owners


def _worked_in(folder: RunFolder) -> bool:
    found = Belonging.read(folder)
    return found is not None and found.seen is None


def _seen(storage: Storage, claim: Claim | None) -> str:
    """Tells these objects, and the last sign of life, from all that may come later."""
    names = storage.names()
    relevant = [str(name) for name in (*segments(names), *files(names))]
    driver = storage.read(start_name(claim.number)) if claim else None
    return hashlib.sha256(json.dumps([relevant, str(driver)]).encode()).hexdigest()


def _restore_into(folder: RunFolder, storage: Storage, claim: Claim | None) -> None:
    seen = _seen(storage, claim)
    draft = replace(folder, path=folder.path.parent / f".{folder.name}.{os.getpid()}" / folder.name)
    shutil.rmtree(draft.path.parent, ignore_errors=True)
    try:
        restore(storage, draft, with_files=True)
        Belonging(owners=(claim.owner,) if claim else (), seen=seen).write(draft)
        _set_aside(folder)
        draft.path.rename(folder.path)
    except OSError as error:
        raise RunFolderError(f"the run's folder {folder.path} cannot be made: {reason(error)}") from error
    finally:
        shutil.rmtree(draft.path.parent, ignore_errors=True)


def _set_aside(folder: RunFolder) -> None:
    """A copy that is not the newest may still have what no other has: it is kept, out of the way."""
    if folder.path.exists():
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder.path.rename(folder.path.parent / f".{folder.name}.{stamp}-{os.getpid()}.aside")


def _open(folder: RunFolder) -> FsspecStorage:
    assert folder.url is not None
    return open_storage(folder.url).below(folder.name)


def _existing(folder: RunFolder) -> FsspecStorage:
    """The objects of a run that is there."""
    assert folder.url is not None
    everything = open_storage(folder.url)
    storage = everything.below(folder.name)
    if storage.read(CONFIG) is None:
        others = [name for name in everything.folders() if everything.read(f"{name}/{CONFIG}") is not None]
        raise missing_run(folder.name, folder.url, others)
    return storage


def _exists(folder: RunFolder) -> RunFolderError:
    return RunFolderError(
        f"a run named {folder.name!r} exists in {folder.url}: resume it with"
        f" `{folder.command('resume')}`, choose another --name,"
        f" or remove {folder.place}"
    )


def _running(folder: RunFolder, claim: Claim) -> RunFolderError:
    return RunFolderError(f"the run {folder.name!r} is running: {claim} is alive; {_status_command(folder)} shows it")


def _status_command(folder: RunFolder) -> str:
    return f"`{folder.command('status')}`"
