"""Checks that the files of a run fit together, before a start changes any of them.

The ledger records a start before the shards write a snapshot, and a batch before it is pushed. So a snapshot next to a
ledger without a start, or a push without a batch in the ledger, means that the ledger has lost records.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cluster.config.run_config import RunConfig
from cluster.runners.build import make_layout, make_parameters, make_searcher
from cluster.search.learning import last_batch_of
from cluster.search.replica import client
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.run import last_batches, run_values
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import Searcher, passes_of
from ps.errors import CorruptSnapshot, WrongRun
from ps.shard.messages import ShardState
from ps.shard.snapshot import SnapshotFile

ShardFiles = tuple[int, SnapshotFile, Mapping[Path, ShardState | CorruptSnapshot]]
"""A shard's index, its files, and their contents, the newest first."""


def check_whole(config: RunConfig, folder: RunFolder) -> list[Path]:
    """Return the corrupt snapshots that must be set aside, because shards would not start with them.

    A shard without a good snapshot starts without values, and every start initialises them. Replicas of which it has no
    push repeat all of their batches, and push them under the same identities. A shard itself can replace only a corrupt
    newest file, by a good previous one.

    The check changes nothing. No other process may write into the folder meanwhile.

    Raises:
        RunFolderError: the ledger lacks what it once had, or the shards' files are not this run's.
    """
    searcher = make_searcher(config)
    shard_files = _shard_files(config, folder, searcher)
    last = _last_batches(folder)
    if last is None and folder.had_begun():
        raise _no_ledger(folder)
    last = last or {}  # without a start there is no good snapshot either
    for index, name, sequence in _pushed(shard_files):
        if last_batch_of(sequence, passes_of(searcher)) > last.get(name, 0):
            raise _old_ledger(folder, f"shard {index} has applied update {sequence} of {name}", last.get(name, 0))
    return [path for _, file, states in shard_files for path in _in_the_way(file, states)]


def _shard_files(config: RunConfig, folder: RunFolder, searcher: Searcher) -> Sequence[ShardFiles]:
    groups = make_parameters(config, searcher)
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


def _in_the_way(file: SnapshotFile, states: Mapping[Path, ShardState | CorruptSnapshot]) -> list[Path]:
    bad = [path for path, state in states.items() if isinstance(state, CorruptSnapshot)]
    return bad if bad and (len(bad) == len(states) or file.path in bad) else []


def _pushed(shard_files: Sequence[ShardFiles]) -> Iterator[tuple[int, str, int]]:
    """Yield the last pushes in the good snapshots: shard, client and sequence."""
    for index, _, states in shard_files:
        for state in states.values():
            if isinstance(state, ShardState):
                for name, (sequence, _) in state.metadata["clients"].items():
                    yield index, name, sequence


def _last_batches(folder: RunFolder) -> dict[str, int] | None:
    """Each replica's last batch, by its name on the shards; `None` if the ledger has no start."""
    with reading(folder) as db:
        if "started_at" not in run_values(db):
            return None
        return {client(replica): number for replica, number in last_batches(db).items()}


def _no_ledger(folder: RunFolder) -> RunFolderError:
    what = f"{folder.ledger} is {'empty' if folder.ledger.exists() else 'missing'}"
    return RunFolderError(
        f"the run {folder.name!r} had begun, but its record is gone: {what}. Restore it, ledger.sqlite together with"
        f" its -wal file if there is one{_from_the_objects(folder)}; or, if it is lost, launch a new run"
    )


def _old_ledger(folder: RunFolder, known: str, last: int) -> RunFolderError:
    return RunFolderError(
        f"{folder.ledger} lacks the latest records: {known}, of which the ledger has none after {last}. Restore the"
        f" newest one, ledger.sqlite together with its -wal file{_from_the_objects(folder)}; or, if that is"
        f" lost, move {folder.shards} away to resume from the ledger, and to learn again from its batches"
    )


def _from_the_objects(folder: RunFolder) -> str:
    return f", or move {folder.path} away for a resume to restore what {folder.place} has" if folder.url else ""
