"""Checks that the files of a run fit together, before a start changes any of them.

The ledger records a start before the shards write a snapshot, a batch before it is pushed, and a child before it makes
steps on shared weights. So a snapshot next to a ledger without a start, a push without a batch in the ledger, or a step
without a child means that the ledger has lost records.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from child_trainer.inheritance.trained_weights import WeightsError
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.monitoring.recorded_view import whole_view
from cluster.pool.child_weights import WeightsFolder, load_weights, weights_file
from cluster.runners.build import make_layout, make_parameters
from cluster.runners.shared_weights import make_weights, weights_layout
from cluster.search.learning import last_batch_of
from cluster.search.needed_weights import needed_weights
from cluster.search.replica import client
from cluster.search.steps import lane_client, rounds_client
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.run import last_batches, last_steps, run_values
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import Searcher, keeps_weights, passes_of
from ps.errors import CorruptSnapshot, WrongRun
from ps.store import Layout

if TYPE_CHECKING:
    from ps.shard.messages import ShardState
    from ps.shard.snapshot import SnapshotFile

ShardFiles: TypeAlias = "tuple[int, SnapshotFile, Mapping[Path, ShardState | CorruptSnapshot]]"
"""A shard's index, its files, and their contents, the newest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """What a start finds in files that fit together.

    Attributes:
        corrupt: the corrupt snapshots that must be set aside, because shards would not start with them.
        lost_steps: steps of children that have ended which a shard of the shared weights does not have.
    """

    corrupt: Sequence[Path] = ()
    lost_steps: int = 0

    @property
    def losses(self) -> str:
        """A sentence on what is lost; empty if nothing is."""
        if not self.lost_steps:
            return ""
        steps = counted(self.lost_steps, "step")
        return f"The shared weights lack {steps} of children that have ended, which no snapshot has: they stay lost"


def check_whole(config: RunConfig, folder: RunFolder) -> Whole:
    """Check that the run's files fit together.

    A shard without a good snapshot starts without values, and every start initialises them. Replicas of which it has no
    push repeat all of their batches, and push them under the same identities. A shard itself can replace only a corrupt
    newest file, by a good previous one. Steps on shared weights are not repeated, so that their shards need one.

    The check changes nothing. No other process may write into the folder meanwhile.

    Raises:
        RunFolderError: the ledger lacks what it once had, the shards' files are not this run's, or shared weights are
            lost, or weights with which children begin.
    """
    searcher, run = config.make_searcher(), folder.identity(config)
    groups, weights = make_parameters(config, searcher), make_weights(config, searcher)
    shard_files = _shard_files(folder.shards, make_layout(config, run, groups)) if groups else ()
    weight_files = _shard_files(folder.weights, weights_layout(config, run, weights)) if weights else ()
    known = _known(folder)
    if known is None and folder.had_begun():
        raise _no_ledger(folder)
    batches, steps = known or ({}, {})  # without a start there is no good snapshot either
    for index, name, sequence in _pushed(shard_files):
        if name in steps:  # a lane, whose children learn parameters with the weights
            if sequence > steps[name]:
                what = f"shard {index} has applied step {sequence} of {name}"
                raise _old_ledger(folder, what, steps[name], folder.shards, "with parameters as at the beginning")
        elif last_batch_of(sequence, passes_of(searcher)) > batches.get(name, 0):
            what = f"shard {index} has applied update {sequence} of {name}"
            raise _old_ledger(folder, what, batches.get(name, 0), folder.shards, "to learn again from its batches")
    for index, name, step in _pushed(weight_files):
        if step > steps.get(name, 0):
            what = f"shard {index} of the shared weights has applied step {step} of {name}"
            raise _old_ledger(folder, what, steps.get(name, 0), folder.weights, "with weights as at the beginning")
    for index, file, states in weight_files:
        if states and all(isinstance(state, CorruptSnapshot) for state in states.values()):
            raise _no_weights(folder, index, file)
    _check_child_weights(config, searcher, folder)
    made = _made(folder)
    return Whole(
        corrupt=[path for _, file, states in (*shard_files, *weight_files) for path in _in_the_way(file, states)],
        lost_steps=_lost(weight_files, made),
    )


def _check_child_weights(config: RunConfig, searcher: Searcher, folder: RunFolder) -> None:
    """Raise `RunFolderError` if weights are gone with which children begin."""
    if not keeps_weights(searcher):
        return
    with reading(folder) as db:
        view = whole_view(db, config.seed)
        needed, ended = needed_weights(searcher, view), {child.id: child.outcome for child in view.history()}
    files = WeightsFolder(folder.child_weights)
    for child_id in sorted(needed):
        outcome = ended.get(child_id)
        if outcome is None or outcome.weights is None:
            continue  # it was trained on a task that keeps none
        try:
            load_weights(files, child_id, outcome.weights)
        except WeightsError as error:
            raise gone_weights(folder, child_id, outcome.weights, str(error), "others begin") from error


def gone_weights(folder: RunFolder, parent: int, checksum: str, fault: str, who: str) -> RunFolderError:
    """Return the error of a run in which a child's weights are gone.

    Args:
        folder: of the run.
        parent: the child.
        checksum: of the weights.
        fault: a clause on what is wrong with their file.
        who: begins with them.
    """
    return RunFolderError(
        f"the weights of child {parent} of the run {folder.name!r}, with which {who}, are gone:"
        f" {weights_file(folder.child_weights, parent, checksum)} {fault}. Restore it{_from_the_objects(folder)}, and"
        f" `{folder.command('resume')}` goes on; or, if it is lost, launch a new run"
    )


def _lost(shard_files: Sequence[ShardFiles], made: Mapping[str, int]) -> int:
    """Return how many of the last steps on each lane are missing in the newest snapshot of at least one shard."""
    newest = [
        next((state for state in states.values() if not isinstance(state, CorruptSnapshot)), None)
        for _, _, states in shard_files
    ]
    clients = [state.metadata["clients"] for state in newest if state]
    return sum(
        max(0, last - min((known.get(lane, (0,))[0] for known in clients), default=last)) for lane, last in made.items()
    )


def _made(folder: RunFolder) -> dict[str, int]:
    """Return the last step that a child has made who has ended well, by the lane's name on the shards."""
    with reading(folder) as db:
        return {lane_client(*lane): step for lane, step in last_steps(db, ended=True).items()}


def _shard_files(directory: Path, layout: Layout) -> Sequence[ShardFiles]:
    from ps.shard.snapshot import SnapshotFile  # imports PyTorch

    files = [SnapshotFile(directory, layout, index) for index in range(layout.shards)]
    try:
        return [(index, file, file.read_all()) for index, file in enumerate(files)]
    except WrongRun as error:
        raise RunFolderError(str(error)) from error
    except OSError as error:
        raise RunFolderError(f"the shards' files in {directory} cannot be read: {error}") from error


def _in_the_way(file: "SnapshotFile", states: "Mapping[Path, ShardState | CorruptSnapshot]") -> list[Path]:
    bad = [path for path, state in states.items() if isinstance(state, CorruptSnapshot)]
    return bad if bad and (len(bad) == len(states) or file.path in bad) else []


def _pushed(shard_files: Sequence[ShardFiles]) -> Iterator[tuple[int, str, int]]:
    """Yield the last pushes in the good snapshots: shard, client and sequence."""
    for index, _, states in shard_files:
        for state in states.values():
            if not isinstance(state, CorruptSnapshot):
                for name, (sequence, _) in state.metadata["clients"].items():
                    yield index, name, sequence


def _known(folder: RunFolder) -> tuple[dict[str, int], dict[str, int]] | None:
    """Return each replica's last batch and each lane's last step, by their names on the shards.

    The end of a batch is the last step of a name of its own, on shards where steps wait for it.

    Returns:
        `None` if the ledger has no start.
    """
    with reading(folder) as db:
        if "started_at" not in run_values(db):
            return None
        batches, steps = last_batches(db), last_steps(db)
    ends = {rounds_client(replica): number for replica, number in batches.items()}
    lanes = {lane_client(*lane): step for lane, step in steps.items()}
    return {client(replica): number for replica, number in batches.items()}, lanes | ends


def _no_ledger(folder: RunFolder) -> RunFolderError:
    what = f"{folder.ledger} is {'empty' if folder.ledger.exists() else 'missing'}"
    return RunFolderError(
        f"the run {folder.name!r} had begun, but its record is gone: {what}. Restore it, ledger.sqlite together with"
        f" its -wal file if there is one{_from_the_objects(folder)}; or, if it is lost, launch a new run"
    )


def _no_weights(folder: RunFolder, index: int, file: "SnapshotFile") -> RunFolderError:
    return RunFolderError(
        f"shared weights of the run {folder.name!r} are lost: no snapshot of their shard {index} can be read, of which"
        f" the newest is {file.path}. Restore a good one{_from_the_objects(folder)}; or, if there is none, launch a new"
        " run"
    )


def _old_ledger(folder: RunFolder, known: str, last: int, shards: Path, then: str) -> RunFolderError:
    return RunFolderError(
        f"{folder.ledger} lacks the latest records: {known}, of which the ledger has none after {last}. Restore the"
        f" newest one, ledger.sqlite together with its -wal file{_from_the_objects(folder)}; or, if that is"
        f" lost, move {shards} away to resume from the ledger, and {then}"
    )


def _from_the_objects(folder: RunFolder) -> str:
    return f", or move {folder.path} away for a resume to restore what {folder.place} has" if folder.url else ""
