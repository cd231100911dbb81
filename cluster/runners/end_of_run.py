"""Records the end of a run, once its last processes write no more."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from cluster.config.run_config import RunConfig
from cluster.pool.checkpoints import CheckpointFolder
from cluster.pool.child_weights import WeightsFolder
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import READER_TIMEOUT_S, WRITERS_TIMEOUT_S, RunFolder
from controller.searcher import kept_children


def wait_for_writers(folder: RunFolder, report: Callable[[str], object]) -> AbstractContextManager[object]:
    """Wait until no other process writes the run's files, and exclude writers while the result is held.

    On a cluster that continues, the actors of a run outlive it for a moment, and can record one last outcome. The wait
    ends after a timeout or Ctrl-C, because the run has ended in any case.
    """
    alone = None
    try:
        alone = folder.without_writers(READER_TIMEOUT_S)
        if alone is None:
            report("Waiting for the run's last processes to end ...")
            alone = folder.without_writers(WRITERS_TIMEOUT_S)
    except KeyboardInterrupt:
        pass
    except OSError:  # the disk failed; the ledger's error will say more
        return nullcontext()
    if alone is None:
        report(f"Not all processes of the run have ended: what they still record is in {folder.path} and nowhere else")
    return alone or nullcontext()


def record_end(config: RunConfig, folder: RunFolder, state: str, message: str, since: float) -> None:
    """Record the run's end in the ledger, which no other process writes any more; `since` is as of `Ledger.end`.

    Raises:
        RunFolderError: the ledger cannot be written, and with it the run's disk.
    """
    try:
        ledger = Ledger(folder.ledger, config.seed, config.max_children)
        try:
            ledger.end(state, message, since)
            # A worker that timed out may have saved its child's state once more.
            pending = ledger.open_children()
            CheckpointFolder(folder.checkpoints).keep_only(pending)
        finally:
            ledger.close()
        # Children that wait at a ceiling may begin with any weights that are there.
        if state == "finished" and not pending and folder.child_weights.exists():
            _forget_weights(config, folder)
    except LedgerError as error:
        raise RunFolderError(
            f"the run {folder.name!r} has {state} ({message}), but its ledger {folder.ledger} cannot be written"
            f" ({error}): mend the disk or make room, then `{folder.command('resume')}`; what was recorded"
            " before is there"
        ) from error


def _forget_weights(config: RunConfig, folder: RunFolder) -> None:
    """Remove the weights of all children but those that the searcher names at the end of the search."""
    from cluster.monitoring.recorded_view import recorded_view

    with reading(folder) as db:
        kept = kept_children(config.make_searcher(), recorded_view(db, config.seed))
    with contextlib.suppress(OSError):  # files that are left need space, and nothing else
        WeightsFolder(folder.child_weights).keep_only(kept)
