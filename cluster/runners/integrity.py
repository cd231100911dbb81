"""Whether the files of a run still fit together, asked before a start touches any of them.

A start is in the ledger before the shards write a snapshot, and a batch before it is pushed. So a snapshot next to a
ledger that knows no start, or a push that the ledger has no batch of, means that the ledger has lost what it had.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cluster.config.run_config import RunConfig
from cluster.runners.build import make_layout, make_parameters, make_searcher
from cluster.search.replica import client
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.run import last_batches, run_values
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from ps.errors import CorruptSnapshot, WrongRun
from ps.shard.messages import ShardState
from ps.shard.snapshot import SnapshotFile

Look = tuple[int, SnapshotFile, Mapping[Path, ShardState | CorruptSnapshot]]
"""A shard, its files, and what they hold, the newest first."""


def check_whole(config: RunConfig, folder: RunFolder) -> list[Path]:
    """The corrupt snapshots that have to be set aside before shards start, which would end for them.

    A shard without any good one starts without values, which every start offers: replicas that it has no push of open
    all of their batches again, and push them under the same identities. Only a newest file whose predecessor is good is
    what the shard itself would do without.

    Changes nothing; nobody else may write into the folder meanwhile.

    Raises:
        RunFolderError: the ledger lacks what it once had, or the shards' files are not this run's.
    """
    looks = _looks(config, folder)
    last = _last_batches(folder)
    if last is None and folder.had_begun():
        raise _no_ledger(folder)
    last = last or {}  # without a start there is no good snapshot either
    for index, name, sequence in _pushed(looks):
        if sequence > last.get(name, 0):
            raise _old_ledger(folder, f"shard {index} has applied update {sequence} of {name}", last.get(name, 0))
    return [path for _, file, found in looks for path in _in_the_way(file, found)]


def _looks(config: RunConfig, folder: RunFolder) -> Sequence[Look]:
    groups = make_parameters(config, make_searcher(config))
    if not groups:
        return ()
    layout = make_layout(config, folder.identity(config), groups)
    files = [SnapshotFile(folder.shards, layout, index) for index in range(layout.shards)]
    try:
        return [(index, file, file.read_all()) for index, file in enumerate(files)]
    except WrongRun as error:
        raise RunFolderError(str(error)) from error
    except OSError as error:
        raise RunFolderError(f"the shards' files in {folder.shards} cannot be read: {error}") from error


def _in_the_way(file: SnapshotFile, found: Mapping[Path, ShardState | CorruptSnapshot]) -> list[Path]:
    bad = [path for path, state in found.items() if isinstance(state, CorruptSnapshot)]
    return bad if bad and (len(bad) == len(found) or file.path in bad) else []


def _pushed(looks: Sequence[Look]) -> Iterator[tuple[int, str, int]]:
    """What the good snapshots know to have been pushed: shard, client and sequence."""
    for index, _, found in looks:
        for state in found.values():
            if isinstance(state, ShardState):
                for name, (sequence, _) in state.metadata["clients"].items():
                    yield index, name, sequence


def _last_batches(folder: RunFolder) -> dict[str, int] | None:
    """Each replica's last batch, by the name that the shards know it by; `None` if the ledger knows no start."""
    with reading(folder) as db:
        if "started_at" not in run_values(db):
            return None
        return {client(replica): number for replica, number in last_batches(db).items()}


def _no_ledger(folder: RunFolder) -> RunFolderError:
    what = f"{folder.ledger} is {'empty' if folder.ledger.exists() else 'missing'}"
    return RunFolderError(
        f"the run {folder.name!r} had begun, but its record is gone: {what}. Put it back, ledger.sqlite together with"
        f" its -wal file if there is one{_from_the_objects(folder)}; or, if it is gone for good, launch a new run"
    )


def _old_ledger(folder: RunFolder, known: str, last: int) -> RunFolderError:
    return RunFolderError(
        f"{folder.ledger} lacks what was recorded last: {known}, of which the ledger has none after {last}. Put the"
        f" newest one back, ledger.sqlite together with its -wal file{_from_the_objects(folder)}; or, if that is gone"
        f" for good, move {folder.shards} away to go on from what the ledger has, which is learnt from anew"
    )


def _from_the_objects(folder: RunFolder) -> str:
    return f", or move {folder.path} away for a resume to restore what {folder.place} has" if folder.url else ""
