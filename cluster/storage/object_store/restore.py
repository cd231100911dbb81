"""Makes a run's folder anew from its objects."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from child_trainer.atomic_file import write_durably
from cluster.storage.errors import RunFolderError
from cluster.storage.object_store.ledger_segments import rebuild
from cluster.storage.object_store.object_names import CONFIG, FileName, SegmentName, files, newest_log, segments
from cluster.storage.object_store.store import Storage
from cluster.storage.run_folder import RUN_LOG, RunFolder

LOOKS = 5
"""How often the objects are listed again if some go while they are read: a driver that is alive replaces them."""


def restore(storage: Storage, folder: RunFolder, *, with_files: bool) -> None:
    """Make the folder from the newest start that can be read. There is no ledger in it if no start can.

    Args:
        storage: the run's objects.
        folder: not there yet.
        with_files: whether the shards and the checkpoints are wanted, too.

    Raises:
        RunFolderError: the objects change faster than they can be read, or what they have of the ledger is gone or
            cannot be read.
        Exception: whatever the storage raises.
    """
    folder.path.mkdir(parents=True)
    _put(folder.config, storage.read(CONFIG) or b"")
    for _ in range(LOOKS):
        names = storage.names()
        reached = _restore_ledger(storage, folder.ledger, segments(names))
        if reached is None:
            continue
        if reached is NOTHING:
            _check_nothing(folder, names)
        if (log := newest_log(names)) and (lines := storage.read(log)):
            _put(folder.path / RUN_LOG, lines)
        wanted = _newest(files(names), reached) if with_files and reached.number >= 0 else []
        contents = storage.read_all(map(str, wanted))
        if len(contents) == len(wanted):
            for name in wanted:
                _put(folder.path / name.folder / name.file, contents[str(name)])
            return
    raise RunFolderError(f"the objects of the run {folder.name!r} change while they are read: is it running?")


def _check_nothing(folder: RunFolder, names: Sequence[str]) -> None:
    """Without a ledger that can be read there may only be what a start writes before its base is whole."""
    if any(name.number > 0 for name in (*segments(names), *files(names))):
        raise RunFolderError(
            f"the run {folder.name!r} had begun, but its record is gone: the objects ledger/*/*.base.sqlite.gz in"
            f" {folder.place} are missing or damaged. Put them back; or, if they are gone for good, launch a new run"
        )


NOTHING = SegmentName(0, -1, False)
"""Where no start can be read."""


def _restore_ledger(storage: Storage, path: Path, found: Sequence[SegmentName]) -> SegmentName | None:
    """Make the ledger, and give back the last segment that is in it; `None` if objects went away meanwhile."""
    for base in reversed([name for name in found if name.is_base]):
        chain = [name for name in found if name.start == base.start and name.number >= base.number]
        contents = storage.read_all(map(str, chain))
        if len(contents) < len(chain):
            return None
        path.unlink(missing_ok=True)
        applied = rebuild(path, (contents[str(name)] for name in chain))
        if applied:
            return chain[applied - 1]
    path.unlink(missing_ok=True)
    return NOTHING


def _newest(found: Iterable[FileName], reached: SegmentName) -> list[FileName]:
    """Of each file the newest copy that is not ahead of the ledger."""
    usable = (name for name in found if name.start == reached.start and name.number <= reached.number)
    return list({(name.folder, name.file): name for name in usable}.values())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    write_durably(path, content)
