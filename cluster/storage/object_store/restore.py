"""Restores a run's folder from its objects."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from child_trainer.atomic_file import write_durably
from cluster.storage.errors import RunFolderError
from cluster.storage.object_store.ledger_segments import rebuild
from cluster.storage.object_store.object_names import CONFIG, FileName, SegmentName, files, newest_log, segments
from cluster.storage.object_store.store import Storage
from cluster.storage.run_folder import RUN_LOG, RunFolder

MAX_ATTEMPTS = 5
"""How often to start again if objects vanish while they are read: a driver that is alive replaces them."""


def restore(storage: Storage, folder: RunFolder, *, with_files: bool) -> None:
    """Create the folder from the newest start that can be read; without a ledger if no start can.

    Args:
        storage: the run's objects.
        folder: must not exist.
        with_files: whether to restore the shards and the checkpoints, too.

    Raises:
        RunFolderError: the objects change faster than they can be read, or the ledger's objects are lost or damaged.
        Exception: whatever the storage raises.
    """
    folder.path.mkdir(parents=True)
    _put(folder.config, storage.read(CONFIG) or b"")
    for _ in range(MAX_ATTEMPTS):
        names = storage.names()
        reached = _restore_ledger(storage, folder.ledger, segments(names))
        if reached is None:
            continue
        if reached is NOTHING:
            _check_nothing(folder, names)
        if (log := newest_log(names)) and (lines := storage.read(log)):
            _put(folder.path / RUN_LOG, lines)
        copies = _newest(files(names), reached) if with_files and reached.number >= 0 else []
        contents = storage.read_all(map(str, copies))
        if len(contents) == len(copies):
            for name in copies:
                _put(folder.path / name.folder / name.file, contents[str(name)])
            return
    raise RunFolderError(f"the objects of the run {folder.name!r} changed while they were read: is it running?")


def _check_nothing(folder: RunFolder, names: Sequence[str]) -> None:
    """Raise `RunFolderError` if there are objects that a start only writes when its base is complete."""
    if any(name.number > 0 for name in (*segments(names), *files(names))):
        raise RunFolderError(
            f"the run {folder.name!r} had begun, but its ledger is lost: the objects ledger/*/*.base.sqlite.gz in"
            f" {folder.place} are missing or damaged. Put them back or, if they cannot be recovered, launch a new run"
        )


NOTHING = SegmentName(0, -1, False)
"""Stands for no segment: no start can be read."""


def _restore_ledger(storage: Storage, path: Path, stored: Sequence[SegmentName]) -> SegmentName | None:
    """Restore the ledger, and return the last segment in it; `None` if objects vanished meanwhile."""
    for base in reversed([name for name in stored if name.is_base]):
        chain = [name for name in stored if name.start == base.start and name.number >= base.number]
        contents = storage.read_all(map(str, chain))
        if len(contents) < len(chain):
            return None
        path.unlink(missing_ok=True)
        applied = rebuild(path, (contents[str(name)] for name in chain))
        if applied:
            return chain[applied - 1]
    path.unlink(missing_ok=True)
    return NOTHING


def _newest(stored: Iterable[FileName], reached: SegmentName) -> list[FileName]:
    """Return the newest copy of each file that is not ahead of the ledger."""
    usable = (name for name in stored if name.start == reached.start and name.number <= reached.number)
    return list({(name.folder, name.file): name for name in usable}.values())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    write_durably(path, content)
