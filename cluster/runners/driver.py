"""One run from its driver's side: starts it here or on Ray, shows it, and records its end."""

import contextlib
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.config.run_config import RunConfig
from cluster.formatting import last_line
from cluster.monitoring.callbacks.loader import load_callback
from cluster.monitoring.callbacks.runner import run_callbacks
from cluster.monitoring.logs.journal import Journal
from cluster.monitoring.metrics.shard_probe import unobserved
from cluster.monitoring.status import INTERRUPTED, Status, read_status
from cluster.monitoring.summary import summary
from cluster.runners.end_of_run import record_end, wait_for_writers
from cluster.runners.here_or_on_ray import run_search
from cluster.runners.interruption import StartProgress, Takeover
from cluster.search.needed_weights import unneeded_weights
from cluster.storage.dataset_cache import with_file_list
from cluster.storage.errors import EndedEarly
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store.working_copy import driving
from cluster.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from cluster.monitoring.metrics.exporter import Exporter

EXIT_STATUS = {"finished": 0, "failed": 1, "stopped": 130}


def execute(config: RunConfig, folder: RunFolder, console: Console) -> Status:
    """Run the search in `folder`, which may not exist yet, to its end, an error or Ctrl-C; return its status.

    Raises:
        ValueError: if this machine or cluster cannot hold the run, another driver runs it, or its object store cannot
            be used; nothing was written.
        KeyboardInterrupt: if it was interrupted before the run began, or again after its end; it says what is left.
    """
    from cluster.runners.build import check_layout
    from cluster.runners.latencies import with_latencies
    from cluster.runners.network_check import check_networks
    from cluster.runners.shared_weights import check_weights

    config.task.check_complete()
    check_layout(config, folder.identity(config))
    check_networks(config)
    check_weights(config, folder.identity(config))
    config = replace(config, task=with_file_list(config.task))
    progress = StartProgress()
    try:
        journal = Journal(folder.name, config.logs, console)
        config = with_latencies(config, journal.report)
        _drive(config, folder, journal, progress)
        status = read_status(folder, time.time())
        if journal.console:
            try:
                journal.console.print(summary(status, folder), markup=False, highlight=False, soft_wrap=True)
            except OSError as error:
                what = f"the run {folder.name!r} has {status.state}, but that cannot be printed: {error.strerror}"
                raise OSError(error.errno, what) from error
        return status
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(progress.interrupted(folder)) from interrupt


def _drive(config: RunConfig, folder: RunFolder, journal: Journal, progress: StartProgress) -> None:
    """Run the search to its end and record it; raises as `execute`."""
    takeover = Takeover(folder)
    callbacks = [(name, load_callback(name)) for name in config.callbacks.callback]
    state, message = "finished", ""
    # The metrics are served until the end is recorded.
    # `until_copied` ends after the last copy to the object store, which is made when `stack` ends.
    with _metrics(config) as exporter, ExitStack() as until_copied, ExitStack() as stack:

        def begin() -> None:
            progress.starting, known = True, folder.ledger.exists()
            stack.enter_context(
                driving(
                    folder,
                    config,
                    journal.report,
                    takeover,
                    partial(_check_whole, config, folder, progress),
                    partial(_unneeded, config, folder),
                )
            )
            progress.begun = True
            takeover.interrupts(True)
            stack.enter_context(_kept(journal, folder, progress))
            journal.event("run resumed" if known else "run started", children=config.max_children, seed=config.seed)
            stack.enter_context(run_callbacks(callbacks, folder, config, journal.report))
            journal.report(f"Run {folder.name} in {folder.place}")
            if exporter:
                stack.enter_context(exporter.announced(folder, config))
                journal.report(f"Metrics for Prometheus at http://{exporter.target}/metrics")

        try:
            try:
                observe = exporter.polling if exporter else unobserved
                message = run_search(config, folder, journal, begin, observe)
            finally:
                takeover.interrupts(False)
        except EndedEarly as end:
            state, message = end.state, str(end)
        except KeyboardInterrupt:
            if not progress.begun:
                raise
            state, message = ("failed", str(takeover.error)) if takeover.error else ("stopped", INTERRUPTED)
        except Exception as error:
            if not progress.begun:
                raise
            state, message = "failed", last_line(str(error)) or type(error).__name__
            _note(folder, error)
        until_copied.enter_context(wait_for_writers(folder, journal.report))
        record_end(config, folder, state, message, progress.at)
        progress.ended = state
        journal.ended(folder, read_status(folder, time.time()))


def _check_whole(config: RunConfig, folder: RunFolder, progress: StartProgress) -> None:
    """Raise `RunFolderError` if the run has lost files that only the user can restore."""
    from cluster.runners.integrity import check_whole

    whole = check_whole(config, folder)
    progress.corrupt, progress.losses = whole.corrupt, whole.losses


@contextmanager
def _kept(journal: Journal, folder: RunFolder, found: StartProgress) -> Iterator[None]:
    """Keep the journal, which reports what is lost, and set the corrupt snapshots aside."""
    with journal.writing(folder):
        if found.corrupt:
            from ps.shard.snapshot import set_aside  # imports PyTorch

            for path in found.corrupt:
                set_aside(path)
        if found.losses:
            journal.report(found.losses)
        yield


def _unneeded(config: RunConfig, folder: RunFolder) -> frozenset[int]:
    """Return the children whose weights no child begins with any more, for the copy in the object store."""
    from cluster.monitoring.recorded_view import whole_view

    with reading(folder) as db:
        return unneeded_weights(config.make_searcher(), whole_view(db, config.seed), ())


def _note(folder: RunFolder, error: Exception) -> None:
    with contextlib.suppress(OSError):  # the disk may be what is wrong
        folder.error.write_text("".join(traceback.format_exception(error)))


def _metrics(config: RunConfig) -> "AbstractContextManager[Exporter | None]":
    """Return the server of the run's metrics, if any; the port is bound before anything else is done."""
    if config.metrics.metrics_port is None:
        return nullcontext()
    from cluster.monitoring.metrics.exporter import exporting

    return exporting(config.metrics)
